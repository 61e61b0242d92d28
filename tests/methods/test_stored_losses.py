"""The first twenty steps of every tiny preset give the losses they have always given.

A change here is a change of numerics: name it in CHANGELOG.md and store the new values with
`python tests/methods/test_stored_losses.py`.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visir.methods import METHODS
from visir.train import train

TWO_EPOCHS = {
    "adca": {"stage_epochs": "1,1"},
    "agw": {"epochs": "5"},
    "caj": {"epochs": "5", "refine": "both", "kl_weight": "0.1"},
    "cmag": {"stage_epochs": "1,1"},
    "dino": {"epochs": "2"},
    "hct": {"epochs": "5"},
    "mra": {"epochs": "5"},
    "sdcl": {"epochs": "2", "switch": "1", "iterations_after": "10", "cross_from": "0"},
    "simclr": {"epochs": "2"},
    "tokenmatcher": {"stage_epochs": "1,1", "camera_epochs": "1,1", "camera_iterations": "2"},
    "vit-baseline": {"stage_epochs": "1,1"},
}
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


def losses(method, root):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = {"precision": "fp32"} | TWO_EPOCHS[method]
    if "iterations" in vars(METHODS[method].presets["tiny"]):
        settings["iterations"] = "10"
    try:
        run = train(method, root / "crops", root / method, settings=settings, progress=False)
    finally:
        torch.set_num_threads(threads)
    return [line["losses"] for line in run.read_metrics() if line["kind"] == "epoch"]


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_stored(method, tmp_path):
    patterns(tmp_path / "crops")
    stored = json.loads(STORED.read_text())[method]
    found = losses(method, tmp_path)
    assert len(found) == len(stored)
    for now, then in zip(found, stored, strict=True):
        assert now == pytest.approx(then, rel=1e-3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        patterns(Path(folder) / "crops")
        STORED.write_text(
            json.dumps({name: losses(name, Path(folder)) for name in METHODS}, indent=1) + "\n"
        )
