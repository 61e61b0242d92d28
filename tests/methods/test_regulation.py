"""The memory of MRA against the plain formulas: reads and their gradients, the hierarchy."""

import pytest
import torch
from torch.nn import functional as F

from visir.methods.mra import regulation
from visir.methods.mra.regulation import Regulation, alignment, read


def plainly(inputs, keys, items, threshold):
    """The formula as it is written, one matrix after the other."""
    weights = (inputs @ keys.T).softmax(dim=1)
    over = weights - threshold
    weights = F.relu(over) * weights / (over.abs() + 1e-12)
    return F.normalize(weights, p=1, dim=1) @ items


def random(*shape, seed=0, scale=1.0):
    made = scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return made.double().requires_grad_()


def gradients(function, inputs, keys, items, threshold):
    out = function(inputs, keys, items, threshold)
    slope = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out.dtype)
    return out, torch.autograd.grad((out * slope).sum(), [inputs, keys, items])


@pytest.mark.parametrize("few", [1, 10**9])  # sums over the weights that pass, or products
@pytest.mark.parametrize("threshold", [0.0001, 0.02, 0.7])
def test_a_read_and_its_gradients_are_the_formulas(threshold, few, monkeypatch):
    monkeypatch.setattr(regulation, "_ROWS", 7)
    monkeypatch.setattr(regulation, "_FEW", few)
    monkeypatch.setattr(regulation, "_ENTRIES", 11)
    inputs, keys, items = random(30, 12, scale=2), random(40, 12, seed=1), random(40, 5, seed=2)
    expected, slopes = gradients(plainly, inputs, keys, items, threshold)
    singles = [of.detach().float().requires_grad_() for of in (inputs, keys, items)]
    found, own = gradients(read, *singles, threshold)
    silent = (expected == 0).all(dim=1)
    assert torch.equal((found == 0).all(dim=1), silent)
    assert 0 < int(silent.sum()) < 30 or threshold < 0.7
    assert torch.allclose(found.double(), expected, atol=1e-4)
    for one, other in zip(own, slopes, strict=True):
        assert torch.allclose(one.double(), other, atol=1e-3), (one - other).abs().max()
    broken, _ = gradients(plainly, inputs, keys, items, 0.0)
    assert threshold < 0.01 or not torch.allclose(found.double(), broken, atol=1e-2)


def test_few_weights_that_pass_are_added_up_on_their_own(monkeypatch):
    inputs, items = random(20, 8, scale=3).float(), random(500, 8, seed=1).float()
    soft = (inputs @ items.T).softmax(dim=1)
    for threshold, few in ((0.2, True), (0.001, False)):
        assert (regulation._passing(soft, threshold) is not None) is few
    added = []
    monkeypatch.setattr(regulation, "_add", lambda *arguments: added.append(arguments))
    read(inputs, items, items, 0.001)
    assert not added
    read(inputs, items, items, 0.2)
    assert len(added) == 1


def test_one_matrix_for_keys_and_items_gets_both_gradients():
    inputs, items = random(9, 6, scale=2), random(20, 6, seed=1)
    _, (to_inputs, to_items) = (
        0, torch.autograd.grad(plainly(inputs, items, items, 0.01).sum(), [inputs, items])
    )  # fmt: skip
    few, many = inputs.detach().float().requires_grad_(), items.detach().float().requires_grad_()
    found = torch.autograd.grad(read(few, many, many, 0.01).sum(), [few, many])
    assert torch.allclose(found[0].double(), to_inputs, atol=1e-4)
    assert torch.allclose(found[1].double(), to_items, atol=1e-4)


def test_a_memory_nobody_reads_gives_nothing_and_gets_nothing():
    inputs = torch.ones(4, 3, requires_grad=True)
    items = torch.zeros(1000, 3, requires_grad=True)
    out = read(inputs, items, items, 0.0025)
    assert not out.any()
    out.sum().backward()
    assert not inputs.grad.any() and not items.grad.any()


def test_half_precision_products_stay_close():
    inputs, items = random(64, 32).float(), random(50, 32, seed=1).float()
    exact, rough = (read(inputs, items, items, 0.005, of) for of in (torch.float32, torch.bfloat16))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert F.cosine_similarity(exact, rough, dim=1).mean() > 0.99


def hierarchy(memory):
    """Every coarser prototype by loops, with the flat layout of the released code."""
    classes, instances, parts = memory.shape
    width = memory.weight.shape[1]
    of_instances = torch.zeros(classes * instances, width)
    for number in range(classes * instances):
        block = memory.weight[number * parts : (number + 1) * parts].flatten()
        rows = [
            block[part::parts] if memory.layout == "mixed" else block[part * width :][:width]
            for part in range(parts)
        ]
        for part in range(parts):
            gate = memory.reweight_parts.bias[part] + sum(
                memory.reweight_parts.weight[part, other, 0] * rows[other] for other in range(parts)
            )
            of_instances[number] += gate.sigmoid() * rows[part] / parts
    of_classes = torch.zeros(classes, width)
    for number in range(classes):
        rows = of_instances[number * instances : (number + 1) * instances]
        for one in range(instances):
            gate = memory.reweight_instances.bias[one] + sum(
                memory.reweight_instances.weight[one, other, 0] * rows[other]
                for other in range(instances)
            )
            of_classes[number] += gate.sigmoid() * rows[one] / instances
    return of_instances, of_classes


@pytest.mark.parametrize("layout", ["mixed", "plain"])
def test_coarser_prototypes_are_weighted_means_of_finer_ones(layout):
    torch.manual_seed(0)
    memory = Regulation(7, classes=3, instances=2, parts=4, layout=layout)
    with torch.no_grad():
        for found, expected in zip(memory.coarser(), hierarchy(memory), strict=True):
            assert torch.allclose(found, expected, atol=1e-6)
        memory.layout = "plain" if layout == "mixed" else "mixed"
        assert not torch.allclose(memory.coarser()[0], expected[:1], atol=1e-6)


@pytest.mark.parametrize("granularity", ["single", "multi"])
@pytest.mark.parametrize("reading", ["parallel", "chained"])
def test_levels_read_the_input_or_each_other(granularity, reading):
    torch.manual_seed(0)
    memory = Regulation(7, 3, 2, 4, granularity, reading, threshold=0.01)
    inputs = 3 * torch.randn(11, 7)
    with torch.no_grad():
        found = memory(inputs)
        parts = plainly(inputs, memory.weight, memory.weight, 0.01)
        whole = parts
        if granularity == "multi":
            instances, classes = memory.coarser()
            middle = plainly(parts, instances, instances, 0.01)
            whole = plainly(middle if reading == "chained" else inputs, classes, classes, 0.01)
    assert torch.allclose(found.parts, parts, atol=1e-5)
    assert torch.allclose(found.whole, whole, atol=1e-5)


def test_cosine_addressing_does_not_die():
    torch.manual_seed(0)
    inputs = torch.randn(200, 64).abs()  # what leaves a ReLU
    silent = Regulation(64, 206, 5, 6, "single")
    speaking = Regulation(64, 206, 5, 6, "single", addressing="cosine")
    speaking.load_state_dict(silent.state_dict())
    alive = [(memory(inputs).parts != 0).any(dim=1).float().mean() for memory in (silent, speaking)]
    assert alive[0] < 0.1 and alive[1] > 0.9
    speaking(inputs).parts.square().sum().backward()
    assert speaking.weight.grad.abs().sum() > 0


def test_alignment_is_between_the_halves_of_the_shuffled_strips():
    parts, order = torch.randn(6, 5, 3), torch.tensor([4, 0, 5, 2, 1, 3])
    expected = sum(
        (parts[order[place]] - parts[order[place + 3]]).square().sum() for place in range(3)
    ) / (3 * 5 * 3)
    assert torch.allclose(alignment(parts, order), expected)
    assert not torch.allclose(alignment(parts, torch.arange(6)), expected)
