"""CATS on toy graphs: edges, cycles both ways, simple paths by brute force, the loss by loops."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional as F

from visir.methods.cmag.cats import (
    CycleConvolution,
    Cycles,
    circular_loss,
    confirmed,
    find_cycles,
    simple_paths,
)


def features(count=30, dim=6, seed=0):
    return 3 * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def slow_edges(feats, labels, k, extra):
    """Top-k without self, other labels deleted, one edge from each last to each first neighbour."""
    sim = F.normalize(feats, dim=1) @ F.normalize(feats, dim=1).T
    edges = torch.zeros(len(feats), len(feats))
    for i in range(len(feats)):
        order = [j for j in sim[i].argsort(descending=True).tolist() if j != i][:k]
        left = [j for j in order if labels[j] == labels[i]]
        for j in left:
            edges[i, j] = 1
        if extra and len(left) >= 2:
            edges[left[-1], left[0]] = 1
    return edges


@pytest.mark.parametrize("extra", [True, False])
def test_edges_are_those_of_the_formulas(extra):
    feats, labels = features(), torch.arange(30) % 3
    found = find_cycles(feats, labels, k=8, extra_edge=extra).edges
    assert torch.equal(found, slow_edges(feats, labels, 8, extra))
    assert not torch.equal(found, slow_edges(feats, labels, 8, not extra))


def test_a_directed_triangle_with_a_tail_closes_one_way_only():
    edges = torch.zeros(4, 4)
    for i, j in ((0, 1), (1, 2), (2, 0), (2, 3)):
        edges[i, j] = 1
    found = confirmed(edges, 2, "transpose").nonzero().tolist()
    assert {tuple(pair) for pair in found} == {(0, 2), (1, 0), (2, 1)}
    assert not confirmed(edges, 2, "same").any()
    edges[0, 2] = 1  # a way along, from 0 by 1 to 2
    assert confirmed(edges, 2, "same").nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize("closing", ["transpose", "same"])
@pytest.mark.parametrize("simple", [True, False])
def test_pairs_are_edges_a_path_of_three_confirms(closing, simple):
    feats, labels = features(14), torch.arange(14) % 2
    found = find_cycles(feats, labels, k=4, closing=closing, simple=simple)
    edges = found.edges.bool()
    for i in range(14):
        for j in range(14):
            ways = [
                (a, b)
                for a in range(14)
                for b in range(14)
                if edges[i, a] and edges[a, b] and edges[b, j]
                and (not simple or len({i, a, b, j}) == 4)
            ]  # fmt: skip
            closed = edges[j, i] if closing == "transpose" else edges[i, j]
            assert bool(found.pairs[i, j]) == bool(ways and closed and i != j)
    assert 0 < found.kept() <= 1


def test_simple_paths_are_those_of_brute_force():
    edges = (torch.rand(9, 9, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    edges.fill_diagonal_(0)
    expected = torch.zeros(9, 9)
    for i, a, b, j in permutations(range(9), 4):
        expected[i, j] += edges[i, a] * edges[a, b] * edges[b, j]
    assert torch.equal(simple_paths(edges), expected)


def test_with_as_many_neighbours_as_printed_hardly_an_edge_fails():
    feats, labels = features(120, 16), torch.arange(120) % 8
    assert find_cycles(feats, labels, closing="same", extra_edge=False).kept() > 0.9
    sparse = find_cycles(feats, labels * 0, k=3, simple=True, extra_edge=False)
    assert sparse.kept() < 0.9


@pytest.mark.parametrize("exclude", [True, False])
def test_the_loss_equals_the_loop(exclude):
    feats, labels = features(20), torch.arange(20) % 4
    pairs = find_cycles(feats, labels, k=6).pairs
    unit, total = F.normalize(feats, dim=1), 0.0
    for i, j in pairs.nonzero().tolist():
        near = [unit[i] @ unit[m] / 0.07 for m in range(20) if m != i or not exclude]
        total -= float(unit[i] @ unit[j] / 0.07 - torch.stack(near).logsumexp(0))
    found = float(circular_loss(feats, pairs, 0.07, exclude))
    assert found == pytest.approx(total / int(pairs.sum()), rel=1e-4)


def test_no_pair_costs_nothing_and_no_gradient_leaves_through_the_graph():
    feats = features(5).requires_grad_()
    nobody = find_cycles(feats, torch.arange(5))
    assert not nobody.pairs.any()
    loss = circular_loss(feats, nobody.pairs)
    loss.backward()
    assert float(loss.detach()) == 0 and not feats.grad.any()
    assert nobody.kept() == nobody.across(torch.zeros(5, dtype=torch.bool)) == 0
    assert not nobody.edges.requires_grad


def test_across_counts_pairs_of_both_modalities():
    pairs = torch.zeros(4, 4, dtype=torch.bool)
    pairs[0, 1] = pairs[0, 2] = pairs[3, 2] = pairs[1, 0] = True
    infrared = torch.tensor([False, False, True, True])
    assert Cycles(pairs.float(), pairs).across(infrared) == 0.25


def test_the_convolution_averages_neighbours_and_cyclic_ones():
    torch.manual_seed(0)
    feats = features(12)
    cycles = find_cycles(feats, torch.arange(12) % 2, k=4)
    layer = CycleConvolution(6)
    expected = []
    for i in range(12):
        carried = []
        for weights, links in ((layer.regular, cycles.edges > 0), (layer.circular, cycles.pairs)):
            near = feats[links[i]]
            carried.append(weights(near.mean(0) if len(near) else torch.zeros(6)))
        expected.append(torch.cat(carried))
    expected = torch.stack(expected)
    assert torch.allclose(layer(feats, cycles), layer.norm(layer.join(expected)), atol=1e-5)
