"""CATS, the cycle-aware topology of CMAG (IEEE TCSVT 2026, Eq. 1-15): pairs that lie on cycles.

Reconstructed from the published formulas. The nodes are the images of a batch. Nothing here is a
part of the encoder, and nothing is needed at inference.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Closing = Literal["transpose", "same"]


class Cycles(NamedTuple):
    """Edges between images of a batch, and which of them a cycle confirms.

    edges: (B, B) 0/1, directed; pairs: (B, B) bool, those drawn together.
    """

    edges: Tensor
    pairs: Tensor

    def kept(self) -> float:
        """Share of the edges, by the way the cycle closes, that are pairs."""
        return float(self.pairs.sum() / self.edges.sum().clamp(min=1))

    def across(self, infrared: Tensor) -> float:
        """Share of the pairs that join the modalities; `infrared` (B,) bool."""
        crossing = self.pairs & (infrared[:, None] != infrared)
        return float(crossing.sum() / self.pairs.sum().clamp(min=1))


@torch.no_grad()
def find_cycles(
    features_BD: Tensor, labels: Tensor, k: int = 10, p: int = 3, closing: Closing = "transpose",
    simple: bool = False, extra_edge: bool = True,
) -> Cycles:  # fmt: skip
    """Edges to the nearest of the same label, and the pairs that lie on a cycle of p + 1 edges.

    Args:
        features_BD: (B, D), of any length.
        labels: (B,) joint pseudo-labels; edges between different ones are deleted (Eq. 6-7).
        k: nearest neighbours of a node.
        p: edges of the path that an edge back closes.
        closing: whether the edge that closes runs back (the public figure), or along (Eq. 2).
        simple: only paths over four different nodes count; p must be 3.
        extra_edge: from the last to the first neighbour of every node that has two (Eq. 8).
    """
    count = len(features_BD)
    unit = F.normalize(features_BD, dim=1)
    sim = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = sim.topk(min(k, count - 1), dim=1).indices
    alike = labels[nearest] == labels[:, None]
    edges = torch.zeros(count, count, device=unit.device).scatter_(1, nearest, alike.float())
    if extra_edge:
        _join_ends(edges, nearest, alike)
    return Cycles(edges, confirmed(edges, p, closing, simple))


def confirmed(edges: Tensor, p: int, closing: Closing, simple: bool = False) -> Tensor:
    """(B, B) bool, pairs of different nodes that a path of p edges joins and an edge closes."""
    paths = simple_paths(edges) if simple else torch.linalg.matrix_power(edges, p)
    back = edges.T if closing == "transpose" else edges
    return ((paths > 0) & (back > 0)).fill_diagonal_(False)


def _join_ends(edges: Tensor, nearest: Tensor, alike: Tensor) -> None:
    """One more edge from each node's farthest to its nearest remaining neighbour."""
    has_two = alike.sum(dim=1) >= 2
    if not has_two.any():
        return
    places = torch.arange(nearest.shape[1], device=nearest.device)
    first = torch.where(alike, places, len(places)).amin(dim=1)[has_two, None]
    last = torch.where(alike, places, -1).amax(dim=1)[has_two, None]
    rows = nearest[has_two]
    edges[rows.gather(1, last)[:, 0], rows.gather(1, first)[:, 0]] = 1


def simple_paths(edges: Tensor) -> Tensor:
    """(B, B) numbers of paths of three edges over four different nodes, off the diagonal."""
    twice = edges @ edges
    loops = twice.diagonal()
    return (
        twice @ edges - loops[:, None] * edges - edges * loops + edges * edges.T * edges
    ).fill_diagonal_(0)


def circular_loss(
    features_BD: Tensor, pairs: Tensor, temperature: float = 0.07, exclude_self: bool = True
) -> Tensor:
    """Cross-entropy towards every pair's other image (Eq. 12); 0 where there is no pair.

    Args:
        features_BD: (B, D), of any length.
        pairs: (B, B) bool.
        temperature: divisor of the cosines.
        exclude_self: leave an image itself out of its sum; as printed it is in, and outweighs
            everybody else.
    """
    unit = F.normalize(features_BD, dim=1)
    logits = unit @ unit.T / temperature
    others = logits
    if exclude_self:
        own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        others = logits.masked_fill(own, -torch.inf)
    towards = others.logsumexp(dim=1)[:, None] - logits
    return (towards * pairs).sum() / pairs.sum().clamp(min=1)


class CycleConvolution(nn.Module):
    """What edges and cyclic pairs carry to every node (Eq. 9-11, 13-15).

    Both are averages over the neighbours, ours: the printed sums grow with their number.

    Args:
        dim: width of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.regular = nn.Linear(dim, dim, bias=False)
        self.circular = nn.Linear(dim, dim, bias=False)
        self.join = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, features_BD: Tensor, cycles: Cycles) -> Tensor:
        """(B, D) to the same shape."""
        regular = self.regular(_averaged(cycles.edges) @ features_BD)
        circular = self.circular(_averaged(cycles.pairs.float()) @ features_BD)
        out: Tensor = self.norm(self.join(torch.cat([regular, circular], dim=1)))
        return out


def _averaged(links: Tensor) -> Tensor:
    return links / links.sum(dim=1, keepdim=True).clamp(min=1)
