"""GSMEM, the graph-structured memory of CMAG (IEEE TCSVT 2026, Eq. 21-28).

Reconstructed from the published formulas. A queue of earlier features is joined with the batch to a
graph, so that a batch is compared with more images. Used in training only; the backbone is
unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.device import to_device


class Queue:
    """A ring buffer of earlier features of both modalities.

    Args:
        size: maximum number of rows.
        dim: width of a row.
        device: of the rows.

    Attributes:
        filled: number of rows in use.
    """

    def __init__(self, size: int, dim: int, device: torch.device) -> None:
        self.rows = torch.zeros(size, dim, device=device)
        self.infrared = torch.zeros(size, dtype=torch.bool, device=device)
        self.next, self.filled = 0, 0

    @torch.no_grad()
    def push(self, features_BD: Tensor, infrared: Tensor) -> None:
        """Add rows (at most `size`), overwriting the oldest ones if it is full."""
        size, count, device = len(self.rows), len(features_BD), self.rows.device
        places = (self.next + torch.arange(count, device=device)) % size
        self.rows[places] = features_BD.detach().float()
        self.infrared[places] = to_device(infrared, device)
        self.next = (self.next + count) % size
        self.filled = min(self.filled + count, size)

    def held(self) -> Tensor:
        """(filled, D) the rows in use."""
        return self.rows[: self.filled]

    def balance(self) -> Tensor | float:
        """Share of infrared rows; one half is intended (Eq. 21)."""
        return self.infrared[: self.filled].float().mean() if self.filled else 0.0

    def state(self) -> dict[str, Tensor | int]:
        """What a resumed run needs."""
        return {
            "rows": self.rows,
            "infrared": self.infrared,
            "next": self.next,
            "filled": self.filled,
        }

    def load_state(self, state: dict[str, Tensor | int]) -> None:
        """Restore what `state` returned."""
        self.rows.copy_(state["rows"])  # type: ignore[arg-type]
        self.infrared.copy_(state["infrared"])  # type: ignore[arg-type]
        self.next, self.filled = int(state["next"]), int(state["filled"])


def neighbours_by_density(
    sim_RR: Tensor,
    minimum: int = 3,
    base: int = 10,
    beta: float = 0.5,
    radius: float = 0.3,
    per_radius: bool = True,
) -> Tensor:
    """Number of neighbours of each node: fewer at a higher density (Eq. 25-26).

    Args:
        sim_RR: (R, R) cosines.
        minimum: minimum number of neighbours.
        base: neighbours of a node at density 0.
        beta: fewer neighbours per unit of density.
        radius: distance, 1 - cosine, within which nodes count for the density.
        per_radius: the density is their number divided by the radius, as published; or their
            number.

    Returns:
        (R,) int64.
    """
    near = 1 - sim_RR < radius
    others = (near.sum(dim=1) - near.diagonal().long()).double()
    density = others / radius if per_radius else others
    return (base - beta * density).floor().clamp(min=minimum).long()


class Graph(NamedTuple):
    """Weighted edges (rows[e], columns[e]), (E,) each; weights of equal edges are added.

    It is in the memory of the CPU: how many edges and nodes there are decides sizes.
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor

    def into(self, outer: Tensor) -> tuple[Tensor, Tensor]:
        """The edges into some nodes.

        Args:
            outer: (R,) bool, the nodes.

        Returns:
            (R,) bool, the nodes the edges come from, and their weights: (outer, inner), sparse.
        """
        kept = outer[self.rows]
        inner = torch.zeros_like(outer)
        inner[self.columns[kept]] = True
        places = torch.stack(
            [_numbered(outer)[self.rows[kept]], _numbered(inner)[self.columns[kept]]]
        )
        size = int(outer.sum()), int(inner.sum())
        return inner, torch.sparse_coo_tensor(
            places, self.weights[kept], size, check_invariants=False
        )


def _chosen(chosen: Tensor, device: torch.device) -> Tensor:
    """Numbers of the chosen nodes, on a device."""
    return to_device(chosen.nonzero()[:, 0], device)


def _numbered(chosen: Tensor) -> Tensor:
    """Position of every chosen node among the chosen ones."""
    return chosen.cumsum(0) - 1


def normalised_graph(sim_RR: Tensor, counts: Tensor) -> Graph:
    """Edges to each node's nearest nodes and itself, symmetric, normalised by degree (Eq. 23).

    Args:
        sim_RR: (R, R) cosines, on any device; the program waits for it twice.
        counts: (R,) neighbours of each node.
    """
    size, counts = len(sim_RR), counts.cpu()
    limit = min(int(counts.max()), size - 1)
    nearest = sim_RR.clone().fill_diagonal_(-torch.inf).topk(limit, dim=1).indices.cpu()
    taken = torch.arange(limit) < counts[:, None]
    own = torch.arange(size)
    i, j = own[:, None].expand(-1, limit)[taken], nearest[taken]
    rows, columns = torch.cat([i, j, own]), torch.cat([j, i, own])
    weights = torch.cat([torch.full((2 * len(i),), 0.5), torch.ones_like(own)])
    degree = torch.zeros(size).index_add_(0, rows, weights)
    return Graph(rows, columns, weights * (degree[rows] * degree[columns]).rsqrt())


class _Passed(torch.autograd.Function):
    """A sparse matrix times nodes; autograd's own would sort its transpose, and wait for that."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, transposed: Tensor, nodes: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(transposed)
        found: Tensor = torch.sparse.mm(weights, nodes)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:  # noqa: ANN401
        return None, None, torch.sparse.mm(ctx.saved_tensors[0], grads[0])


def passed(weights: Tensor, nodes: Tensor) -> Tensor:
    """Nodes passed along edges: `weights` (outer, inner), sparse, on the CPU, by (inner, D)."""
    both = (_sparse_on(of, nodes.device) for of in (weights, weights.t()))
    found: Tensor = _Passed.apply(*both, nodes)
    return found


def _sparse_on(matrix: Tensor, device: torch.device) -> Tensor:
    """A sparse matrix of the CPU on a device, sorted there, as the device would wait to sort it."""
    if device.type == "cpu":
        return matrix
    matrix = matrix.coalesce()
    places, weights = (to_device(of, device) for of in (matrix.indices(), matrix.values()))
    return torch.sparse_coo_tensor(
        places, weights, matrix.shape, check_invariants=False, is_coalesced=True
    )


class GraphMemory(nn.Module):
    """A graph convolution over a batch and the queue, added to the batch's features.

    The weights are shared over the tokens of a feature; the last layer starts at zero, so that at
    first nothing is added. Only nodes with a path to the batch are computed.

    Args:
        dim: width of a token.
        tokens: N, tokens of a feature.
        layers: graph convolutions.
        density: arguments of `neighbours_by_density`.
    """

    def __init__(self, dim: int, tokens: int, layers: int = 2, **density: float) -> None:
        super().__init__()
        self.tokens, self.density = tokens, density
        self.node = nn.Linear(dim, dim, bias=False)
        self.layers = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(layers))
        last = nn.Linear(dim, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mix = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), last)
        self.counts: Tensor = torch.zeros(0, dtype=torch.long)  # neighbours in the last graph

    def forward(self, features_BD: Tensor, queue_MD: Tensor) -> Tensor:
        """Enhanced features, (B, N dim), of the batch.

        Args:
            features_BD: (B, N dim) of the batch.
            queue_MD: (M, N dim) earlier features.
        """
        whole = torch.cat([features_BD, queue_MD])
        graph = self._graph(whole)
        needed = [torch.arange(len(whole)) < len(features_BD)]
        steps = []
        for _ in self.layers:
            inner, weights = graph.into(needed[-1])
            needed.append(inner)
            steps.append(weights)
        nodes = self._by_token(self.node, whole[_chosen(needed[-1], whole.device)])
        for layer, outer, inner, weights in zip(
            self.layers, needed[-2::-1], needed[:0:-1], steps[::-1], strict=True
        ):
            with torch.autocast(nodes.device.type, enabled=False):
                moved = passed(weights, nodes)
            own = nodes[_chosen(outer[inner], nodes.device)]
            nodes = F.relu(self._by_token(layer, moved)) + own
        out: Tensor = features_BD + self._by_token(self.mix, nodes)
        return out

    @torch.no_grad()
    def _graph(self, whole_RD: Tensor) -> Graph:
        unit = F.normalize(self._by_token(self.node, whole_RD), dim=1)
        sim = (unit @ unit.T).float()
        self.counts = neighbours_by_density(sim, **self.density)  # type: ignore[arg-type]
        return normalised_graph(sim, self.counts)

    def _by_token(self, layer: nn.Module, rows_RD: Tensor) -> Tensor:
        """A layer over every token: (R, N dim) to the same shape."""
        out: Tensor = layer(rows_RD.view(len(rows_RD), self.tokens, -1)).flatten(1)
        return out.float()
