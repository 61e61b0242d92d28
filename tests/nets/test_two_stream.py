"""The two-stream ResNet: shapes, stems, pooling, and weights from other people's files."""

import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet

from visir.nets.build import build
from visir.nets.two_stream import TwoStream, generalised_mean
from visir.nets.weights import load_weights, save_weights, start_from
from visir.types import InputError


def images(count=4, size=(64, 32)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build("resnet-micro", (64, 32))


def test_the_published_network_has_its_grid_and_width():
    net = TwoStream("resnet50")
    with torch.no_grad():
        maps = net.layers(net.vis_stem(images(1, (288, 144))))
    assert maps.shape == (1, 2048, 18, 9)
    trunk = sum(p.numel() for p in net.parameters()) - net.bottleneck.weight.numel() * 2
    stem = 64 * 3 * 49 + 2 * 64
    assert trunk == 23_508_032 + stem  # ResNet-50 without its classifier, and a second stem


def test_one_output_in_training_and_evaluation(net):
    infrared = torch.tensor([True, False, True, False])
    for mode in (True, False):
        out = net.train(mode)(images(), infrared)
        assert out.embedding.shape == (4, net.embedding_dim)
        assert out.tokens.shape == (4, 1, net.embedding_dim)
        expected = net.bottleneck.eval()(out.tokens[:, 0])
        assert mode or torch.allclose(out.embedding, expected, atol=1e-6)


def test_each_modality_goes_through_its_own_stem_and_both_start_alike(net):
    net.eval()
    mixed = torch.tensor([True, False, True, False])
    alike = net(images(), mixed).embedding
    assert torch.allclose(alike, net(images(), ~mixed).embedding, atol=1e-5)
    with torch.no_grad():
        net.ir_stem.conv1.weight.mul_(-1)
    apart = net(images(), mixed).embedding
    assert torch.allclose(apart[[1, 3]], alike[[1, 3]], atol=1e-5)
    assert not torch.allclose(apart[[0, 2]], alike[[0, 2]], atol=1e-2)
    net.train()(images(2), torch.tensor([False, False])).embedding.sum().backward()
    assert net.vis_stem.conv1.weight.grad is not None
    assert net.ir_stem.conv1.weight.grad is None


def test_pooling_is_the_third_power_mean():
    maps = torch.rand(2, 3, 4, 5)
    expected = torch.stack(
        [torch.stack([(channel**3).mean() ** (1 / 3) for channel in image]) for image in maps]
    )
    assert torch.allclose(generalised_mean(maps), expected, atol=1e-5)
    assert not torch.allclose(maps.mean(dim=(2, 3)), expected, atol=1e-2)


def trunk(width=None):
    torch.manual_seed(1)
    net = ResNet(BasicBlock, [1, 1, 1, 1])
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight)
    return net


def test_torchvision_weights_fill_both_stems_and_all_layers(net, tmp_path):
    source = trunk()
    torch.save(source.state_dict(), tmp_path / "resnet.pth")
    loaded = start_from(net, tmp_path / "resnet.pth")
    assert loaded.unused == ("fc.bias", "fc.weight")
    assert all(name.startswith("bottleneck.") for name in loaded.kept)
    for stem in (net.vis_stem, net.ir_stem):
        assert torch.equal(stem.conv1.weight, source.conv1.weight)
    assert torch.equal(net.layers.layer3[0].conv1.weight, source.layer3[0].conv1.weight)
    assert "unused (fc.bias, fc.weight)" in str(loaded)


def test_adca_checkpoints_give_each_stem_its_own_trunk(net, tmp_path):
    vis, ir, base = trunk(), trunk(), trunk()
    with torch.no_grad():
        ir.conv1.weight.add_(1)
    state = {f"bottleneck.{n}": v + 1 for n, v in net.bottleneck.state_dict().items()}
    for prefix, part in (
        ("visible_module.visible.", vis), ("thermal_module.thermal.", ir),
        ("base_resnet.base.", base),
    ):  # fmt: skip
        state |= {prefix + name: value for name, value in part.state_dict().items()}
    path = tmp_path / "adca.pth.tar"
    torch.save({"state_dict": {f"module.{n}": v for n, v in state.items()}, "epoch": 3}, path)
    loaded = start_from(net, path)
    assert not loaded.kept
    assert torch.equal(net.vis_stem.conv1.weight, vis.conv1.weight)
    assert torch.equal(net.ir_stem.conv1.weight, ir.conv1.weight)
    assert torch.equal(net.layers.layer4[0].conv2.weight, base.layer4[0].conv2.weight)
    assert "base_resnet.base.conv1.weight" in loaded.unused
    assert loaded.used + len(loaded.unused) == len(state)


def test_own_files_come_back_whole(net, tmp_path):
    path = tmp_path / "net.safetensors"
    about = {"net": {**net.described, "image_size": [64, 32]}, "method": "adca"}
    save_weights(path, net, about)
    again, read = load_weights(path)
    assert read == about
    infrared = torch.tensor([True, False, True, False])
    assert torch.equal(
        again(images(), infrared).embedding, net.eval()(images(), infrared).embedding
    )


def broken(kind, path):
    state = trunk().state_dict()
    if kind == "missing":
        del state["layer2.0.conv1.weight"]
    elif kind == "shape":
        state["conv1.weight"] = F.pad(state["conv1.weight"], (0, 1))
    elif kind == "unsafe":
        path.write_bytes(pickle.dumps(print))
        return
    elif kind == "empty":
        state = {}
    torch.save(state, path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "layers.layer2.0.conv1.weight is missing"),
        ("shape", "vis_stem.conv1.weight is"),
        ("unsafe", "not a checkpoint of tensors alone"),
        ("empty", "holds no state dict"),
    ],
)
def test_unusable_files_are_named_with_what_is_wrong(kind, said, net, tmp_path):
    path = tmp_path / "w.pth"
    broken(kind, path)
    with pytest.raises(InputError, match=said) as error:
        start_from(net, path)
    assert str(path) in str(error.value)


def test_a_resnet_file_is_no_start_for_a_transformer(tmp_path):
    torch.save(trunk().state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="resnet50 only"):
        start_from(build("micro", (32, 16)), tmp_path / "w.pth")


def test_an_unknown_network_is_named_with_the_nearest():
    with pytest.raises(InputError, match="resnet50"):
        build("resnet5", (64, 32))
