"""The description in a weights file is checked before anything is built, its tensors before use."""

import json
import pickle
import zipfile

import pytest
import safetensors.torch
import torch

from visir.core.types import InputError
from visir.embedding.pytorch import load
from visir.nets import weights
from visir.nets.build import build
from visir.nets.foreign import describe
from visir.nets.pickles import read_checkpoint
from visir.nets.two_stream import TwoStream
from visir.nets.weights import load_weights, read_about, save_weights, start_from

NET = {"size": "micro", "image_size": [64, 32], "class_tokens": 1, "shallow": False}
ABOUT = {"net": NET, "method": "adca", "precision": "auto"}


def stored(path, about, net=None):
    """A weights file with this description, as text or as JSON values."""
    net = net or build("micro", (64, 32))
    text = about if isinstance(about, str) else json.dumps(about)
    safetensors.torch.save_file(net.state_dict(), path, {"visir": text})
    return path


def test_a_whole_description_is_read(tmp_path):
    card = {"title": "t", "network": "micro", "size": [64, 32], "data": "d", "lights": ["thermal"],
            "command": "c", "seeds": "1", "minutes": "2", "accuracy": {"a": 1.5},
            "limits": "l"}  # fmt: skip
    about = {**ABOUT, "card": card, "ranges": {"infrared/a": [0, 9]}, "later": [1]}
    assert read_about(stored(tmp_path / "w.safetensors", about)) == about
    assert load_weights(tmp_path / "w.safetensors").loaded.used == 93


@pytest.mark.parametrize(("about", "said"), [
    ("{", "damaged or not visir's"),
    ("[1]", "damaged or not visir's"),
    ("[" * 100_000, "damaged or not visir's"),
    ('{"x": "' + "y" * 2_000_000 + '"}', "damaged or not visir's"),
    ({}, "names no network"),
    ({"net": 5}, "net: expected keys and values, got 5"),
    ({"net": [["size", "micro"]]}, "net: expected keys and values"),
    ({"net": {"size": "micro"}}, "net: key 'image_size' is missing"),
    ({"net": {**NET, "size": ["micro"]}}, "size must be one of"),
    ({"net": {**NET, "image_size": [64]}}, "image_size must be a list of 2"),
    ({"net": {**NET, "image_size": [64, 32.5]}}, "image_size must be a list of 2|whole number"),
    ({"net": {**NET, "image_size": [64, 10**9]}}, "setting image_size: must be <= 2048"),
    ({"net": {**NET, "class_tokens": 10**9}}, "setting class_tokens: must be <= 64"),
    ({"net": {**NET, "class_tokens": -1}}, "setting class_tokens: must be >= 1"),
    ({"net": {**NET, "class_tokens": True}}, "class_tokens must be a whole number"),
    ({"net": {**NET, "shallow": "no"}}, "shallow must be true or false"),
    ({"net": {**NET, "power": 0}}, "setting power: must be more than 0|> 0"),
    ({"net": {**NET, "strips": 10**6}}, "setting strips: must be <= 64"),
    ({"net": {**NET, "extra": {}}}, "unknown key 'extra'.*use the version of visir that wrote"),
    ({**ABOUT, "method": ["adca"]}, "method must be text"),
    ({**ABOUT, "precision": "fp61"}, "precision must be one of auto, bf16, fp32, got 'fp61'"),
    ({**ABOUT, "dataset": 3}, "dataset must be text"),
    ({**ABOUT, "ranges": [1]}, "ranges: holds no ranges"),
    ({**ABOUT, "card": {"title": 1}}, "card: key|card: title"),
    ({"net": {**NET, "class_tokens": 4}}, "tensor .* is .*, and the network .* names needs"),
    ({"net": {**NET, "size": "small"}}, "tensor .* is .*, and the network .* names needs"),
])  # fmt: skip
def test_a_bad_description_is_one_sentence_and_nothing_is_built(tmp_path, monkeypatch, about, said):
    path = stored(tmp_path / "w.safetensors", about)

    def on_meta_only(*arguments, **named):
        assert torch.empty(0).is_meta
        return build(*arguments, **named)

    monkeypatch.setattr(weights, "build", on_meta_only)
    with pytest.raises(InputError, match=f"w.safetensors.*({said})") as raised:
        load_weights(path)
    assert len(str(raised.value)) < 800 and "\n" not in str(raised.value)


def test_a_file_that_names_no_method_embeds_nothing(tmp_path):
    with pytest.raises(InputError, match=r"w.safetensors: its description names no method"):
        load(stored(tmp_path / "w.safetensors", {"net": NET}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_their_name(tmp_path, value):
    net = build("micro", (64, 32))
    with torch.no_grad():
        net.blocks[1].mlp.fc1.bias[3] = value
    save_weights(tmp_path / "w.safetensors", net, ABOUT)
    for use in (load_weights, lambda path: start_from(build("micro", (64, 32)), path)):
        with pytest.raises(InputError, match=r"tensor blocks.1.mlp.fc1.bias has values that are"):
            use(tmp_path / "w.safetensors")


def test_a_checkpoint_that_declares_more_than_it_has_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}))
        archive.writestr("bomb/data/0", bytes(60_000_000))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(InputError, match=r"bomb.pth: declares 600000\d\d bytes and has \d{5};"):
        read_checkpoint(path)


def test_a_network_that_cannot_say_its_pooling_is_asked_for_it():
    """AGW's method base takes the mean, ADCA the third power; their files look the same."""
    with torch.device("meta"):
        net = TwoStream()
    theirs = {"vis_stem.": "visible_module.visible.", "ir_stem.": "thermal_module.thermal.",
              "layers.": "base_resnet.base.", "bottleneck.": "bottleneck."}  # fmt: skip
    state = {
        next(new + name.removeprefix(old) for old, new in theirs.items() if name.startswith(old)):
        value for name, value in net.state_dict().items()
    }  # fmt: skip
    with pytest.raises(InputError, match=r"how its features are pooled.*--gem-p 3, or --gem-p 1"):
        describe(state)
    assert describe(state, 1.0)["net"]["power"] == 1.0
    assert describe(state, 3.0)["net"] == {**net.described, "image_size": [288, 144]}
