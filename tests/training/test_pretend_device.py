"""Every method trains on a device beside the CPU, and asks it to wait only where it has to.

The device is a pretended one, as the tests need no GPU: see `pretend_device`.
"""

import dataclasses

import numpy as np
import pytest
import torch
from pretend_device import CPU, DEVICE, DeviceError, Pretended, Wait, pretended, values
from small import run
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from visir.core.types import Modality
from visir.data.dataset import TrainingSet
from visir.data.registry import open_benchmark
from visir.data.rng import key
from visir.embedding.pytorch import Embedder, embed_pixels
from visir.evaluation.evaluate import evaluate
from visir.methods import METHODS
from visir.methods.clustering import embed_training
from visir.nets.vit import Vit
from visir.training.passes import Passes
from visir.training.settings import Division
from visir.training.step import train_step

READ = "training/step.py:train_step"  # the terms, once, to stop at one that is no number
GRAPH = "methods/cmag/gsmem.py:normalised_graph"  # numbers of edges decide sizes
ALIVE = "methods/mra/regulation.py:forward"  # positions that read nothing are left out
CAMERAS = {"camera_epochs": (1, 1), "camera_iterations": 1, "camera_clusters": 2}
VARIANTS = {
    "adca": [{}, {"memory": "mean"}, {"memory": "hard"}],
    "agw": [{}, {"triplets": "hard"}],
    "caj": [{"refine": "both", "kl_weight": 0.1, "bleach": 0.5, "erasing": (0.5, 0.5)}],
    "cmag": [{}, {"cats_convolution": True, "cats_simple": True, "dcam_scope": "paired_tokens",
                  "weighting": "uncertainty"}],
    "dino": [{"jitter": 0.5, "drop_path": 0.5}],
    "hct": [{}],
    "identity": [{}, {"loss": "softmax", "modalities": "both"}],
    "mra": [{}, {"granularity": "single", "addressing": "cosine"},
            {"base": "agw", "reading": "chained"}],
    "pairs": [{}],
    "sdcl": [{"cross_from": 0, "optimizer": "adam"}, {"cross": "symmetric", "cross_from": 0}],
    "simclr": [{}],
    "tokenmatcher": [CAMERAS, {"updates": "between", "drop_path": 0.5}],
    "vit-baseline": [{}],
}  # fmt: skip
CASES = [(name, changes) for name, variants in VARIANTS.items() for changes in variants]
WHOLE, SLICES = Division(1, "shared"), Division(2, "shared")


@pytest.fixture(autouse=True)
def one_attention():
    """PyTorch's attention for CPUs rounds otherwise than the one for a device it has none for."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def crops(size, labelled):
    """48 noisy images of four patterns, every other one infrared, two cameras a modality."""
    rng, rows = np.random.default_rng(0), np.arange(48)
    grain = np.ones((1, size[0] // 2, size[1] // 2, 1))
    looks = np.kron(rng.integers(0, 256, (4, 2, 2, 3)), grain).repeat(12, axis=0)
    pixels = np.clip(looks + rng.normal(0, 9, looks.shape), 0, 255).astype(np.uint8)
    cams = rows // 2 % 2 + rows % 2 * 2
    return TrainingSet(pixels, rows % 2 == 1, cams, rows // 12 if labelled else None)


def trained(name, changes, device, division, waits):
    """Terms of two steps an epoch, the weights, and the waits of loading and of the steps."""
    kind = METHODS[name]
    config = dataclasses.replace(kind.presets["smoke"], **changes)
    data = crops(config.size, kind.learns_from_labels)
    torch.manual_seed(0)
    method = kind(config, data, device, 0)
    passes, optimizer = Passes(method, data, device, division), method.optimizer()
    seen, loading, stepping = [], [], []
    for epoch in range(method.epochs):
        torch.manual_seed(epoch)
        plan = method.plan(epoch)
        method.model.train()
        for step, parts in zip(range(2), plan.batches, strict=False):
            waits.clear()
            loaded = passes.load(parts, key(0, epoch, step))
            loading += waits
            waits.clear()
            seen.append(train_step(passes, optimizer, loaded, lambda _: AssertionError("a NaN")))
            stepping.append([wait.place for wait in waits])
        for of in dict(plan.log).values():
            assert np.isfinite(of)
    weights = {name: values(of) for name, of in method.model.state_dict().items()}
    return seen, weights, loading, stepping


def both(name, changes, division):
    with pretended() as waits:
        there = trained(name, changes, DEVICE, division, waits)
    return trained(name, changes, CPU, division, []), there


def require_equal(name, here, there):
    """Bit by bit; sparse matrices of CMAG alone are added up in another order on a device."""
    assert len(here[0]) >= 2
    if name == "cmag":
        for ours, theirs in zip(here[0], there[0], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-5)
        return
    assert here[0] == there[0]
    for of, value in here[1].items():
        assert torch.equal(there[1][of], value), of


def test_no_method_is_left_out():
    assert set(VARIANTS) == set(METHODS)


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_step_waits_for_the_device_only_where_it_is_listed(name, changes):
    here, there = both(name, changes, WHOLE)
    require_equal(name, here, there)
    assert there[2] == []
    reads = {"single": 1, "multi": 2 + (changes.get("reading") == "chained")}
    for found in there[3]:
        allowed = [READ]
        if name == "cmag" and GRAPH in found:
            allowed += [GRAPH] * 2
        if name == "mra":
            allowed += [ALIVE] * reads[changes.get("granularity", "multi")]
        assert sorted(found) == sorted(allowed)
    assert name != "cmag" or any(GRAPH in found for found in there[3])


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("name", ["adca", "hct"])
def test_slices_of_a_batch_wait_no_more(name):
    here, there = both(name, {}, SLICES)
    require_equal(name, here, there)
    assert there[2] == []
    assert all(found == [READ] for found in there[3])


@pytest.mark.slow
@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("name", ["adca", "cmag", "mra"])
def test_a_training_that_stops_and_continues_is_that_of_the_cpu(name, few, tmp_path):
    def stop(epoch, *_):
        if epoch == 1:
            raise KeyboardInterrupt

    first = next(iter(open_benchmark(few).protocols))

    def scored(of):
        def score(epoch, _plan, embedder):
            found = evaluate(embedder, open_benchmark(few), [first]).results[first].mean.mAP
            scores.setdefault(of, {})[epoch] = found
            return found

        return score

    scores = {}
    whole = run(few, tmp_path / "cpu", name, on_epoch=scored("cpu"))
    with pretended() as waits:
        words = {"device": str(DEVICE), "save_every": 1}
        with pytest.raises(KeyboardInterrupt):
            run(few, tmp_path / "run", name, on_epoch=stop, **words)
        waits.clear()
        again = run(few, tmp_path / "run", name, resume=True, on_epoch=scored("run"), **words)
    assert {wait.what for wait in waits if wait.place == READ} == {"copy to the host"}
    ours, theirs = (
        [line["losses"] for line in of.read_metrics() if line["kind"] == "epoch"]
        for of in (whole, again)
    )
    assert len(ours) >= 3
    for here, there in zip(ours, theirs, strict=True):
        assert there == pytest.approx(here, abs=2e-5)  # they are rounded to five digits
    assert list(scores["run"]) == list(scores["cpu"])[2:]  # one before the first epoch
    for epoch, score in scores["run"].items():
        assert 0 < score == pytest.approx(scores["cpu"][epoch], abs=0.01)


@pytest.mark.parametrize("modality", Modality)
def test_embedding_waits_for_nothing_but_its_result(modality):
    torch.manual_seed(0)
    net = Vit("micro", (32, 16)).eval()
    data = crops((32, 16), False)
    expected = embed_pixels(net, data.pixels, modality, CPU, precision="fp32")
    about = {"net": {"image_size": [32, 16]}, "method": "adca", "precision": "fp32"}
    with pretended() as waits:
        there = Embedder(net, about, str(DEVICE))
        waits.clear()
        found = embed_pixels(there.net, data.pixels, modality, DEVICE, precision="fp32")
        assert waits == [] and torch.allclose(values(found), expected, atol=1e-6)
        assert np.allclose(there.embed_pixels(data.pixels, modality), expected.numpy(), atol=1e-6)
        assert [wait.what for wait in waits] == ["copy to the host"]
        waits.clear()
        rows = values(embed_training(there.net, data, DEVICE, "fp32")[modality])
        assert waits == [] and torch.allclose(rows, expected[data.rows(modality)], atol=1e-6)


def test_two_devices_do_not_meet():
    with pretended():
        here, there = torch.ones(3), torch.ones(3).to(DEVICE)
        for meet in (lambda: there + here, lambda: torch.cat([there, here]),
                     lambda: there.gather(0, torch.zeros(1).long())):  # fmt: skip
            with pytest.raises(DeviceError, match="of the CPU"):
                meet()
        assert (there + torch.tensor(1.0)).tolist() == [2, 2, 2]  # as on CUDA


WAITING = {
    "item": (lambda x: x.sum().item(), "_local_scalar_dense"),
    "bool": (lambda x: bool(x.any()), "_local_scalar_dense"),
    "tolist": (lambda x: x.tolist(), "copy to the host"),
    "to the host": (lambda x: x.cpu(), "copy to the host"),
    "into the host": (lambda x: torch.ones(3).copy_(x), "copy to the host"),
    "to the device": (lambda x: torch.ones(3).to(DEVICE), "copy to the device that waits"),
    "of numbers": (lambda x: torch.tensor([1.0], device=DEVICE), "copy to the device that waits"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "mask": (lambda x: x[x > 1], "index by a mask"),
    "into a mask": (lambda x: x.clone().__setitem__(x > 1, x[:2]), "index by a mask"),
    "masked": (lambda x: x.masked_select(x > 1), "masked_select"),
    "index": (lambda x: x[torch.tensor([0])], "copy of an index to the device"),
    "unique": (lambda x: x.unique(), "_unique2"),
    "repeat": (lambda x: x.repeat_interleave(x.long()), "repeat_interleave without output_size"),
    "count": (lambda x: x.long().bincount(), "bincount"),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_wait_is_listed(name):
    wait, what = WAITING[name]
    with pretended() as waits:
        there = torch.tensor([1.0, 2.0, 3.0]).to(DEVICE)
        waits.clear()
        wait(there)
    assert [found.what for found in waits] == [what]


def test_what_does_not_wait_is_not_listed():
    with pretended() as waits:
        x = torch.tensor([1.0, 2.0, 3.0]).to(DEVICE, non_blocking=True)
        rows = torch.tensor([0, 2]).to(DEVICE, non_blocking=True)
        y = torch.where(x > 1, x, 0)[rows].clone()
        y[y > 2] = 1.0
        y += torch.arange(2, device=DEVICE).repeat_interleave(rows.new_ones(2), output_size=2)
        assert values(y.sort().values).tolist() == [0, 2]
    assert waits == []


def test_the_place_of_a_wait_is_the_line_in_visir():
    infrared = torch.tensor([True, False])
    with pretended() as waits:
        net = Vit("micro", (16, 8)).to(DEVICE)
        images, there = torch.zeros(2, 3, 16, 8).to(DEVICE), infrared.to(DEVICE)
        waits.clear()
        net(images, infrared)
        assert waits == []
        net(images, there)
    assert waits[0] == Wait("_local_scalar_dense", "nets/features.py:by_stem")


def test_gradients_optimisers_and_copies_work_on_the_device():
    torch.manual_seed(0)
    net, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    found = {}
    for device in (CPU, DEVICE):
        with pretended():
            torch.manual_seed(0)
            own = torch.nn.Linear(3, 2).to(device)
            assert isinstance(own.weight, Pretended) is (device == DEVICE)
            for optimizer in (
                torch.optim.Adam(own.parameters()),
                torch.optim.SGD(own.parameters()),
            ):
                optimizer.zero_grad()
                q = own(x.to(device))[None, None]
                scaled_dot_product_attention(q, q, q).square().sum().backward()
                optimizer.step()
            found[device] = [values(of) for of in own.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(*found.values(), strict=True))
    assert not torch.equal(found[CPU][0], net.weight)
