"""CATS, the cycle-aware topology of CMAG (IEEE TCSVT 2026, Eq. 1-15): pairs on cycles.

Reconstructed from the published formulas. The nodes are the images of a batch. Nothing here is part
of the backbone or needed at inference.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Closing = Literal["transpose", "same"]


class Cycles(NamedTuple):
    """Edges between images of a batch, and pairs on cycles of them.

    edges: (B, B) 0/1, directed; pairs: (B, B) bool, images that are pulled together.
    """

    edges: Tensor
    pairs: Tensor

    def kept(self) -> Tensor:
        """Share of the edges that are pairs, ()."""
        return self.pairs.sum() / self.edges.sum().clamp(min=1)

    def across(self, infrared: Tensor) -> Tensor:
        """Share of the pairs that join the modalities, (); `infrared` (B,) bool."""
        crossing = self.pairs & (infrared[:, None] != infrared)
        return crossing.sum() / self.pairs.sum().clamp(min=1)


@torch.no_grad()
def find_cycles(
    features_BD: Tensor,
    labels: Tensor,
    k: int = 10,
    p: int = 3,
    closing: Closing = "transpose",
    simple: bool = False,
    extra_edge: bool = True,
) -> Cycles:
    """Edges to the nearest of the same label, and the pairs on a cycle of p + 1 edges.

    Args:
        features_BD: (B, D), of any norm.
        labels: (B,) joint pseudo-labels; edges between different ones are deleted (Eq. 6-7).
        k: nearest neighbours of a node.
        p: edges of the path that a further edge closes.
        closing: direction of the closing edge: backward (published figure), or forward (Eq. 2).
        simple: only paths over four different nodes; p must be 3.
        extra_edge: an edge from the last to the first neighbour of every node with two (Eq. 8).
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
    places = torch.arange(nearest.shape[1], device=nearest.device)
    first = torch.where(alike, places, len(places)).amin(dim=1)
    last = torch.where(alike, places, -1).amax(dim=1)
    last, first = (
        nearest.gather(1, of.clamp(0, len(places) - 1)[:, None])[:, 0] for of in (last, first)
    )
    # Of a node with fewer the larger of some edge and 0 is kept: that edge.
    edges.view(-1).scatter_reduce_(0, last * len(edges) + first, has_two.to(edges), "amax")


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
    """Cross-entropy towards every pair's other image (Eq. 12); 0 without pairs.

    Args:
        features_BD: (B, D), of any norm.
        pairs: (B, B) bool.
        temperature: divisor of the cosines.
        exclude_self: exclude an image itself from its sum; as published it is included and
            dominates the sum.
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
    """Features passed along edges and along cyclic pairs (Eq. 9-11, 13-15).

    Both are averages over the neighbours, which is ours: the published sums grow with their number.

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
