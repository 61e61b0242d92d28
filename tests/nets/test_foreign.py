"""Published checkpoints: every tensor is used or listed, and no code in a file runs."""

import os
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from torch.serialization import get_crc32_options, set_crc32_options

from visir.core.types import InputError, Modality
from visir.embedding.pytorch import load
from visir.nets.build import build
from visir.nets.foreign import describe
from visir.nets.pickles import read_checkpoint
from visir.nets.weights import load_weights, start_from

pytestmark = pytest.mark.slow


def randomised(net):
    """Change every tensor of a network."""
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape))
    return net


def as_cmag(net):
    """A transformer of ours under the names of TokenMatcher's and CMAG's checkpoints."""
    last, state = len(net.blocks) - 1, OrderedDict()
    moved = {"vis_stem.": "visible_module.visible.", "ir_stem.": "thermal_module.thermal.",
             f"blocks.{last}.": "b1.0.", "norm.": "b1.1."}  # fmt: skip
    for name, value in net.state_dict().items():
        prefix = next((prefix for prefix in moved if name.startswith(prefix)), "")
        state[moved.get(prefix, "") + name.removeprefix(prefix)] = value
        if prefix in (f"blocks.{last}.", "norm."):  # what they keep and do not use
            state[name] = torch.zeros_like(value)
    for name, value in build("micro", (32, 16)).bottlenecks[0].state_dict().items():
        state[f"bottleneck.{name}"] = value.new_zeros(
            (net.norm.weight.shape[0],) if value.ndim else ()
        )
    return state


def as_transreid(net, rows=16, columns=8):
    """One stem, one class token, another grid, and the layers of a pre-training on top."""
    state = {}
    for name, value in net.state_dict().items():
        if name.startswith("vis_stem."):
            state[name.replace("vis_stem", "patch_embed")] = value
        elif name.startswith(("blocks.", "norm.")):
            state[name] = value
    dim = net.norm.weight.shape[0]
    state["cls_token"] = torch.rand(1, 1, dim)
    state["pos_embed"] = torch.rand(1, 1 + rows * columns, dim)
    state["head.weight"] = torch.rand(5, dim)
    return state


@pytest.fixture
def net():
    torch.manual_seed(0)
    return randomised(build("micro", (64, 32), class_tokens=4))


def test_the_published_checkpoints_have_their_counts_of_tensors_and_weights():
    for tokens, tensors, weights in ((4, 235, 98_766_720), (6, 245, 98_772_864)):
        with torch.device("meta"):
            state = as_cmag(build("base", (384, 128), tokens))
        assert len(state) == tensors
        frozen = 768 + 768 * tokens  # biases of bottlenecks
        counted = [
            value
            for name, value in state.items()
            if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        ]
        assert sum(value.numel() for value in counted) in (weights, weights + frozen)
        assert state["pos_embed"].shape == (1, 192 + tokens, 768)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_cmag_checkpoint_comes_back_whole_and_embeds_the_same(prefix, net, tmp_path):
    state = {prefix + name: value for name, value in as_cmag(net).items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": state, "epoch": 50, "best_mAP": 0.6}, path)
    again, about, _ = load_weights(path)
    assert about["net"] == {"size": "micro", "image_size": [64, 32], "class_tokens": 4}
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    pixels = torch.randint(0, 256, (2, 64, 32, 3), dtype=torch.uint8).numpy()
    found = load(path).embed(list(pixels), Modality.INFRARED)
    assert found.shape == (2, 512)
    loaded = start_from(build("micro", (64, 32), 4), path)
    assert loaded.used + len(loaded.unused) == len(state)
    assert {name.split(".")[0] for name in loaded.unused} == {"blocks", "norm", "bottleneck"}
    assert not loaded.kept


@pytest.mark.parametrize(("size", "tokens"), [((384, 128), 4), ((288, 144), 1)])
def test_a_transreid_file_fills_stems_blocks_and_resized_positions(size, tokens, tmp_path):
    source = randomised(build("small", (256, 128)))
    state = as_transreid(source)
    torch.save({"teacher": {f"module.backbone.{name}": value for name, value in state.items()}
                | {"module.head.mlp.0.weight": torch.rand(3, 3)}, "epoch": 99,
                "args": Namespace(arch="vit_small")}, tmp_path / "dino.pth")  # fmt: skip
    torch.save(state, tmp_path / "flat.pth")
    torch.save({"model": state}, tmp_path / "wrapped.pth")
    for name in ("dino.pth", "flat.pth", "wrapped.pth"):
        torch.manual_seed(1)
        net = build("small", size, tokens)
        drawn = net.pos_embed.detach().clone()
        loaded = start_from(net, tmp_path / name)
        assert loaded.used == len(state) - 1 and loaded.unused == ("head.weight",)
        assert all(kept.startswith("bottlenecks.") for kept in loaded.kept)
        for stem in (net.vis_stem, net.ir_stem):
            assert torch.equal(stem.proj.weight, source.vis_stem.proj.weight)
        assert torch.equal(net.cls_token, state["cls_token"].expand(-1, tokens, -1))
        rows, columns = size[0] // 16, size[1] // 16
        grid = state["pos_embed"][:, 1:].reshape(1, 16, 8, -1).permute(0, 3, 1, 2)
        expected = torch.nn.functional.interpolate(grid, (rows, columns), mode="bilinear")
        assert torch.allclose(
            net.pos_embed[:, tokens:], expected.flatten(2).transpose(1, 2), atol=1e-6
        )
        token_rows = state["pos_embed"][:, :1] if tokens == 1 else drawn[:, :tokens]
        assert torch.equal(net.pos_embed[:, :tokens], token_rows)


def test_a_transreid_file_starts_sdcl_with_its_shallow_branch(tmp_path):
    source = randomised(build("micro", (128, 64)))
    torch.save(as_transreid(source), tmp_path / "flat.pth")
    net = build("micro", (64, 32), shallow=True)
    start_from(net, tmp_path / "flat.pth")
    for deep, shallow in ((net.blocks[-1], net.shallow["block"]), (net.norm, net.shallow["norm"])):
        for name, value in deep.state_dict().items():
            assert torch.equal(value, shallow.state_dict()[name]), name


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_nothing_in_a_file_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bad = {"state_dict": {"weight": torch.ones(2)}, "args": Bomb(), "meters": {Bomb(): [Bomb()]}}
    torch.save(bad, "new.pth")
    torch.save(bad, "old.pth", _use_new_zipfile_serialization=False)
    for name in ("new.pth", "old.pth"):
        assert read_checkpoint(tmp_path / name).keys() == {"weight"}
        assert not (tmp_path / "exploded").exists()
    torch.load("new.pth", weights_only=False)  # as research code reads it
    assert (tmp_path / "exploded").exists()


def test_a_program_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    with pytest.raises(InputError, match="TorchScript"):
        read_checkpoint(tmp_path / "program.pt")


@pytest.mark.parametrize("checksums", [True, False])
def test_a_tensor_that_does_not_have_its_checksum_is_refused(tmp_path, checksums):
    path, before = tmp_path / "a.pth", get_crc32_options()
    set_crc32_options(checksums)
    try:
        torch.save({"state_dict": {"a": torch.full((64,), 3.0)}}, path)
    finally:
        set_crc32_options(before)
    assert read_checkpoint(path)["a"].tolist() == [3.0] * 64
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 3.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)
    if checksums:
        with pytest.raises(InputError, match="damaged"):
            read_checkpoint(path)
    else:  # nothing tells
        assert read_checkpoint(path)["a"].tolist() != [3.0] * 64


def test_a_state_dict_that_holds_itself_ends(tmp_path):
    loop = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    with pytest.raises(InputError, match="no state dict"):
        read_checkpoint(tmp_path / "loop.pth")


@pytest.mark.parametrize(("made", "said"), [
    (lambda net: as_cmag(randomised(build("micro", (64, 32), 6))), "6 class tokens, the network 4"),
    (lambda net: as_cmag(net) | {"b1.2.weight": torch.ones(1)}, "b1.2.weight has no place"),
    (lambda net: without(as_cmag(net), "b1.1.bias"), "norm.bias is missing"),
    (lambda net: {"patch_embed.proj.weight": torch.ones(1)}, "no ICS stem"),
    (lambda net: {"conv1.weight": torch.ones(1)}, "network=resnet50"),
    (lambda net: as_transreid(net, 7, 5), "35 positions"),
])  # fmt: skip
def test_other_architectures_are_refused_and_named(made, said, net, tmp_path):
    path = tmp_path / "file.pth"
    torch.save(made(net), path)
    with pytest.raises(InputError, match=f"file.pth.*{said}"):
        start_from(build("micro", (64, 32), 4), path)


def test_a_transformer_is_no_start_for_a_resnet(net, tmp_path):
    torch.save(as_cmag(net), tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"file.pth.*cannot start a ResNet"):
        start_from(build("resnet-micro", (64, 32)), tmp_path / "file.pth")


def test_only_trained_networks_are_described(net):
    with pytest.raises(InputError, match="--start"):
        describe(as_transreid(net))
    with pytest.raises(InputError, match="none of"):
        describe({"b1.0.norm1.weight": torch.ones(1), "cls_token": torch.ones(1, 4, 99),
                  "pos_embed": torch.ones(1, 36, 99)})  # fmt: skip
