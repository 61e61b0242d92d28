"""The graph memory: its ring, the numbers of neighbours, the graph, a start that adds nothing."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.methods.cmag.gsmem import GraphMemory, Queue, neighbours_by_density, normalised_graph

CPU = torch.device("cpu")


def test_the_ring_wraps_and_keeps_the_latest():
    queue = Queue(8, 2, CPU)
    assert queue.balance() == 0 and queue.held().shape == (0, 2)
    for step in range(5):
        rows = torch.full((4, 2), float(step))
        queue.push(rows, torch.tensor([False, False, True, True]))
        assert queue.filled == min(4 * (step + 1), 8)
        assert queue.balance() == 0.5
    assert sorted(set(queue.held()[:, 0].tolist())) == [3.0, 4.0]
    queue.push(torch.full((3, 2), 9.0), torch.tensor([True, True, True]))
    assert (queue.held() == 9).sum() == 6 and queue.filled == 8


def test_the_ring_comes_back_as_it_was():
    queue, again = Queue(6, 2, CPU), Queue(6, 2, CPU)
    queue.push(torch.rand(4, 2), torch.tensor([True, False, True, False]))
    again.load_state(queue.state())
    for ring in (queue, again):
        ring.push(torch.ones(4, 2), torch.ones(4, dtype=torch.bool))
    assert torch.equal(queue.rows, again.rows) and torch.equal(queue.infrared, again.infrared)
    assert (again.next, again.filled) == (2, 6)


def dense(graph, size):
    return torch.sparse_coo_tensor(
        torch.stack([graph.rows, graph.columns]),
        graph.weights,
        (size, size),
        check_invariants=False,
    ).to_dense()


def crowd(others):
    """Cosines of a node with `others` within the radius, all further ones far away."""
    sim = torch.eye(12)
    sim[0, 1 : 1 + others] = 0.9
    return sim


@pytest.mark.parametrize(("others", "divided", "plain"), [
    (0, 10, 10), (1, 8, 9), (2, 6, 9), (3, 5, 8), (4, 3, 8), (9, 3, 5),
])  # fmt: skip
def test_crowded_nodes_get_fewer_neighbours(others, divided, plain):
    sim = crowd(others)
    assert int(neighbours_by_density(sim)[0]) == divided
    assert int(neighbours_by_density(sim, per_radius=False)[0]) == plain
    assert int(neighbours_by_density(sim)[11]) == 10


def test_the_graph_is_symmetric_has_each_node_once_and_is_normalised():
    unit = F.normalize(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    sim, counts = unit @ unit.T, torch.arange(20) % 4 + 1
    found = dense(normalised_graph(sim, counts), 20)
    directed = np.zeros((20, 20))
    for i in range(20):
        near = [j for j in sim[i].argsort(descending=True).tolist() if j != i]
        directed[i, near[: counts[i]]] = 1
    graph = (directed + directed.T) / 2 + np.eye(20)
    degree = graph.sum(1)
    assert np.allclose(found, graph / np.sqrt(degree[:, None] * degree), atol=1e-6)


def test_what_reaches_some_nodes_is_their_part_of_the_graph():
    unit = F.normalize(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    graph = normalised_graph(unit @ unit.T, torch.full((20,), 3))
    outer = torch.arange(20) % 7 == 0
    inner, weights = graph.into(outer)
    whole = dense(graph, 20)
    assert torch.equal(inner, (whole[outer] > 0).any(dim=0)) and not inner.all()
    assert torch.allclose(weights.to_dense(), whole[outer][:, inner])


def test_at_the_start_nothing_is_added_but_everything_can_learn():
    torch.manual_seed(0)
    module = GraphMemory(8, tokens=2, minimum=2, base=4)
    batch, queue = torch.randn(6, 16, requires_grad=True), torch.randn(30, 16)
    out = module(batch, queue)
    assert torch.equal(out, batch)
    assert len(module.counts) == 36
    torch.nn.init.normal_(module.mix[2].weight)
    out = module(batch, queue)
    assert not torch.allclose(out, batch)
    (out**2).sum().backward()
    assert batch.grad.any()
    for name, weight in module.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def test_the_layers_are_the_formula():
    torch.manual_seed(0)
    module = GraphMemory(4, tokens=2, layers=2, minimum=2, base=3)
    torch.nn.init.normal_(module.mix[2].weight)
    batch, queue = torch.randn(5, 8), torch.randn(7, 8)
    whole = torch.cat([batch, queue]).view(12, 2, 4)
    nodes = whole @ module.node.weight.T
    unit = F.normalize(nodes.reshape(12, 8), dim=1)
    sim = unit @ unit.T
    graph = dense(normalised_graph(sim, neighbours_by_density(sim, 2, 3)), 12)
    for layer in module.layers:
        nodes = torch.relu(torch.einsum("ij,jnd->ind", graph, nodes) @ layer.weight.T) + nodes
    expected = batch + module.mix(nodes[:5]).reshape(5, 8)
    assert torch.allclose(module(batch, queue), expected, atol=1e-5)
