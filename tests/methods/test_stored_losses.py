"""The first steps of every tiny preset, in double precision, give the losses they always gave.

A change here is a change of numerics: name it in CHANGELOG.md and store the new values with
`python tests/methods/test_stored_losses.py`. With `--measure` it prints instead how far this
machine's losses are from the stored ones; CONTRIBUTING.md says how the tolerance came of that.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from doubled import doubled
from PIL import Image

from visir.methods import METHODS
from visir.training.train import train

pytestmark = pytest.mark.slow

TOLERANCE = 1e-6  # relative; measured: see CONTRIBUTING.md
CLUSTERS = {"visible_clusters": "4", "infrared_clusters": "8", "instances": "2"}
# For a method without an entry the preset "smoke" is taken as it is.
SETTINGS = {
    "adca": {"stage_epochs": "1,1", **CLUSTERS},
    "agw": {"epochs": "2"},
    "caj": {"epochs": "2", "refine": "both", "kl_weight": "0.1"},
    "cmag": {"stage_epochs": "1,1", "gsmem_size": "64", "gsmem_start": "16", **CLUSTERS},
    "dino": {"epochs": "2", "batch": "4", "small_size": "16,8"},
    "hct": {"epochs": "2", "size": "64,32"},  # four strips need as many rows
    "mra": {"epochs": "2", "size": "64,32", "align_offset": "0"},  # a thousand times its term
    "sdcl": {"epochs": "2", "switch": "1", "iterations_after": "2", "cross_from": "0",
             "visible_clusters": "4", "infrared_clusters": "4", "instances": "2",
             "optimizer": "sgd"},
    "simclr": {"epochs": "2", "batch": "8"},
    "tokenmatcher": {"stage_epochs": "1,1", "camera_epochs": "1,1", "camera_iterations": "1",
                     **CLUSTERS},
    "vit-baseline": {"stage_epochs": "1,1", **CLUSTERS},
}  # fmt: skip
STORED = Path(__file__).with_name("stored_losses.json")


def patterns(root):
    """Eight striped and blotched patterns in both modalities, twelve noisy images of each."""
    rng, labels = np.random.default_rng(0), []
    for identity in range(8):
        base = np.kron(rng.integers(0, 256, (8, 4, 3)), np.ones((8, 8, 1)))
        for number in range(12):
            noisy = np.clip(base + rng.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
            gray = np.repeat(noisy.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
            for modality, image in (("visible", noisy), ("infrared", gray)):
                path = root / modality / f"cam{number % 2}" / f"{identity}-{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
                labels.append(f"{path.relative_to(root)},{identity}")
    (root / "labels.csv").write_text("\n".join(["path,pid", *labels]) + "\n")
    return root


def watched(patch, method, seen, pull=1.0):
    """Append the terms of every step to `seen`; the first one pulls `pull` times as hard."""
    own_loss = METHODS[method].loss

    def loss(self, batch, outputs):
        terms = own_loss(self, batch, outputs)
        seen.append({name: value.item() for name, value in terms.items()})
        first = next(iter(terms))
        terms[first] = terms[first] * pull
        return terms

    patch.setattr(METHODS[method], "loss", loss)


def losses(method, crops, out, pull=1.0):
    """The terms of every step of a tiny run."""
    preset = "tiny" if method in SETTINGS else "smoke"
    settings = {"precision": "fp32", "size": "32,16"} | SETTINGS.get(method, {})
    if "iterations" in vars(METHODS[method].presets[preset]):
        settings["iterations"] = "2"
    seen = []
    with pytest.MonkeyPatch.context() as patch, doubled():
        watched(patch, method, seen, pull)
        # Its draws depend on PyTorch's version. What it cuts off lies a hundred deviations away.
        patch.setattr(torch.nn.init, "trunc_normal_", torch.nn.init.normal_)
        train(method, crops, out, preset=preset, settings=settings, progress=False)
    return seen


def deviations(found, stored):
    """Of every term of every step: its name, and how far it is from the stored one, relatively."""
    assert [list(step) for step in found] == [list(step) for step in stored]
    return [
        (name, abs(now[name] - then[name]) / abs(then[name]) if then[name] else abs(now[name]))
        for now, then in zip(found, stored, strict=True)
        for name in then
    ]


def agree(found, stored):
    return max(off for _, off in deviations(found, stored)) < TOLERANCE


@pytest.fixture(scope="session")
def crops(once):
    return once("stored-crops", patterns)


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_stored_and_no_term_may_be_one_per_cent_larger(method, crops, tmp_path):
    stored = json.loads(STORED.read_text())[method]
    found = losses(method, crops, tmp_path / "run")
    assert agree(found, stored), max(deviations(found, stored), key=lambda of: of[1])
    for term in {name for step in found for name in step}:
        larger = [{name: value * (1.01 if name == term else 1) for name, value in step.items()}
                  for step in found]  # fmt: skip
        assert not agree(larger, stored), f"{term} is 0 in every step, and so not guarded"


@pytest.mark.parametrize("method", ["agw", "simclr"])
def test_a_gradient_one_per_cent_larger_shows_in_the_losses(method, crops, tmp_path):
    stored = json.loads(STORED.read_text())[method]
    found = losses(method, crops, tmp_path / "run", pull=1.01)
    assert found[0] == pytest.approx(stored[0], rel=TOLERANCE)  # nothing has learnt from it yet
    assert not agree(found, stored)


def main():
    """Store the losses of the methods named, or of all, or print how far they are from those."""
    names = [word for word in sys.argv[1:] if word in METHODS] or list(METHODS)
    with tempfile.TemporaryDirectory() as folder:
        crops = patterns(Path(folder) / "crops")
        found = {name: losses(name, crops, Path(folder) / name) for name in names}
    stored = json.loads(STORED.read_text())
    if "--measure" not in sys.argv:
        both = stored | found
        kept = {name: both[name] for name in METHODS if name in both}
        STORED.write_text(json.dumps(kept, indent=1) + "\n")
        return
    for method, steps in found.items():
        term, off = max(deviations(steps, stored[method]), key=lambda of: of[1])
        sys.stdout.write(f"{method:14} {off:.1e} {term}\n")


if __name__ == "__main__":
    main()
