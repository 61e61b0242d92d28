"""Runs with random weights, and their exports."""

import pickle
from functools import cache
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
from torch import nn

import visir.export
from visir.embedding import onnx as runtime
from visir.export import Exported, export
from visir.nets import vit
from visir.nets.build import build
from visir.nets.weights import save_weights

# name -> arguments of `build`, and whether embeddings are means over the mirror image
NETS = {
    "vit": (("micro", (32, 16), 2), True),
    "resnet": (("resnet-micro", (64, 32)), True),
    "strips": (("resnet-micro", (64, 32), 1, 0.0, False, 2, "intended", 10.0, 2), False),
}


class Made(NamedTuple):
    """A run with random weights, and its export."""

    run: Path
    out: Path
    found: Exported
    flip: bool


def make_run(folder: Path, arguments: tuple) -> Path:
    """Random weights and statistics; each modality's stem has its own."""
    torch.manual_seed(0)
    net = build(*arguments)
    with torch.no_grad():
        for parameter in net.ir_stem.parameters():
            parameter.add_(parameter.abs().mean() * torch.randn_like(parameter))
        for norm in (m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.2, 0.2)
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 2)
    about = {"net": {**net.described, "image_size": list(arguments[1])}, "method": "adca"}
    about |= {"precision": "bf16", "dataset": "RegDB", "split": "3"}
    save_weights(folder / "model.safetensors", net, about)
    return folder


@pytest.fixture(scope="module")
def exports(people, once):
    """Makes each export once; the transformer has one block, for the time that tracing takes."""

    @cache
    def made(name: str) -> Made:
        arguments, flip = NETS[name]

        def make(folder: Path) -> None:
            run = make_run(folder / "run", arguments)
            found = export(run, folder / "out", people, flip=flip)
            (folder / "found").write_bytes(pickle.dumps(found))

        folder = once(f"export-{name}", make)
        found = pickle.loads((folder / "found").read_bytes())
        return Made(folder / "run", folder / "out", found, flip)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vit.SIZES, "micro", vit.SIZES["micro"]._replace(depth=1))
        yield made


@pytest.fixture(params=NETS)
def made(request, exports) -> Made:
    return exports(request.param)


@pytest.fixture
def resnet(exports) -> Made:
    return exports("resnet")


@pytest.fixture
def traced(resnet, monkeypatch) -> None:
    """Graphs of that run are taken from its export, not traced again."""
    monkeypatch.setattr(visir.export, "graph_of", lambda net, modality, size, flip: onnx.load(
        resnet.out / runtime.graph_name(modality)))  # fmt: skip
