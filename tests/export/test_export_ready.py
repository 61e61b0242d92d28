"""The export of the ready model gives PyTorch's embeddings, in float32 and in 8 bits."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import visir.export
from visir.core.types import Modality
from visir.data.registry import open_benchmark
from visir.embedding import onnx as runtime
from visir.embedding import pytorch
from visir.export import MIN_COSINE, export
from visir.nets.shipped import BUILTIN

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::visir.nets.shipped.ShippedWarning"),
]


@pytest.fixture(scope="module")
def ready(people, once):
    """The float32 export of the ready model."""
    folder = once("export-builtin", lambda of: export(Path(BUILTIN), of / "out", people))
    return folder / "out"


def cosines(exported, people, modality):
    """With PyTorch in float32, of all test images of a modality."""
    model = pytorch.load(BUILTIN)
    model.precision = "fp32"
    images = [of for of in open_benchmark(people).test if of.modality is modality]
    expected = model.embed(images, modality)
    assert len(images) > 40 and len({of.tobytes() for of in expected}) == len(images)
    return (exported.embed(images, modality).astype(np.float64) * expected).sum(axis=1)


@pytest.mark.parametrize("modality", Modality)
def test_every_embedding_of_the_ready_model_is_pytorchs(modality, ready, people):
    exported, model = runtime.load(ready), pytorch.load(BUILTIN)
    for name in ("size", "width", "method", "fingerprint", "flip", "caution"):
        assert getattr(exported, name) == getattr(model, name), name
    assert exported.caution
    found = cosines(exported, people, modality)
    assert MIN_COSINE == 0.9999 and found.min() > MIN_COSINE and found.max() < 1.0001


def test_int8_of_the_ready_model_is_near_and_says_what_it_costs(
    ready, people, tmp_path, monkeypatch
):
    monkeypatch.setattr(visir.export, "graph_of", lambda net, modality, size, flip: onnx.load(
        ready / runtime.graph_name(modality)))  # fmt: skip
    found = export(Path(BUILTIN), tmp_path / "out", people, precision="int8")
    exported = runtime.load(tmp_path / "out")
    for modality, of in found.parity.items():
        assert 0.98 < of.minimum < 0.99999
        assert of.alone > MIN_COSINE
        assert cosines(exported, people, modality).min() > 0.98
    stored = json.loads((tmp_path / "out" / "export.json").read_text())["accuracy"]
    scores = {
        name: stored[name]["protocols"]["all-single-seeded"]["mean"]["mAP"]
        for name in ("pytorch", "int8")
    }
    assert scores["int8"] == pytest.approx(scores["pytorch"], abs=0.02)
