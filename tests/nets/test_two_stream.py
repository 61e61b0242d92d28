"""The two-stream ResNet: shapes, stems, pooling, and published weights."""

import os
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visir.core.types import InputError
from visir.nets.build import build
from visir.nets.resnet import BasicBlock
from visir.nets.two_stream import SIZES, TwoStream, generalised_mean
from visir.nets.weights import load_weights, save_weights, start_from


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
    backbone = sum(p.numel() for p in net.parameters()) - net.bottleneck.weight.numel() * 2
    stem = 64 * 3 * 49 + 2 * 64
    assert backbone == 23_508_032 + stem  # ResNet-50 without its classifier, and a second stem


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


def test_a_mixed_batch_is_the_two_modalities_by_themselves(net):
    net.eval()
    with torch.no_grad():
        net.ir_stem.conv1.weight.mul_(-1)
    infrared = torch.tensor([True, False, True, True])
    mixed = net(images(), infrared).embedding
    for mask in (infrared, ~infrared):
        alone = net(images()[mask], infrared[mask]).embedding
        assert torch.allclose(mixed[mask], alone, atol=1e-4)
        assert not torch.allclose(mixed[mask], net(images()[mask], ~infrared[mask]).embedding,
                                  atol=1e-2)  # fmt: skip


def test_pooling_and_bottleneck_are_float32_in_mixed_precision(net):
    net.eval()
    visible = torch.zeros(4, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        maps = net.layers(net.vis_stem(images().to(memory_format=torch.channels_last)))
        out = net(images(), visible)
    assert maps.dtype == torch.bfloat16
    expected = generalised_mean(maps.float().flatten(2))
    assert out.tokens.dtype == out.embedding.dtype == torch.float32
    assert torch.equal(out.tokens[:, 0], expected)
    assert torch.equal(out.embedding, net.bottleneck(expected))
    assert not torch.equal(generalised_mean(maps.flatten(2)).float(), expected)


def test_only_the_bottlenecks_bias_is_frozen(net):
    frozen = [name for name, value in net.named_parameters() if not value.requires_grad]
    assert frozen == ["bottleneck.bias"]


def test_pooling_is_the_third_power_mean():
    maps = torch.rand(2, 3, 4, 5)
    expected = torch.stack(
        [torch.stack([(channel**3).mean() ** (1 / 3) for channel in image]) for image in maps]
    )
    assert torch.allclose(generalised_mean(maps.flatten(2)), expected, atol=1e-5)
    assert not torch.allclose(maps.mean(dim=(2, 3)), expected, atol=1e-2)


def backbone(seed=1, blocks=1):
    """A backbone in which every tensor differs from that of another seed."""
    torch.manual_seed(seed)
    net = SIZES["resnet-micro"]()
    net.layer1.extend(BasicBlock(16, 16, 1, None) for _ in range(blocks - 1))
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(value)
        norm.num_batches_tracked.fill_(seed)
    return net


def assert_filled(part, source, *names):
    """Every tensor of `part` is the source's of the same name, and all of `names` are there."""
    own = part.state_dict()
    assert {name.split(".")[0] for name in own} == set(names)
    for name, value in own.items():
        assert torch.equal(value, source.state_dict()[name]), name


STEM, LAYERS = ("conv1", "bn1"), ("layer1", "layer2", "layer3", "layer4")


def test_torchvision_weights_fill_both_stems_and_all_layers(net, tmp_path):
    source, drawn = backbone(), net.bottleneck.weight.detach().clone()
    torch.save(source.state_dict(), tmp_path / "resnet.pth")
    loaded = start_from(net, tmp_path / "resnet.pth")
    assert loaded.unused == ("fc.bias", "fc.weight")
    assert all(name.startswith("bottleneck.") for name in loaded.kept)
    for stem in (net.vis_stem, net.ir_stem):
        assert_filled(stem, source, *STEM)
    assert_filled(net.layers, source, *LAYERS)
    assert torch.equal(net.bottleneck.weight, drawn)
    assert loaded.used + len(loaded.unused) == len(source.state_dict())
    assert "unused (fc.bias, fc.weight)" in str(loaded)
    with pytest.raises(AssertionError):
        assert_filled(net.layers, backbone(2), *LAYERS)


def adca_state(net):
    """ADCA's layout: three whole backbones, a bottleneck, a classifier."""
    backbones = {
        "visible_module.visible.": backbone(1),
        "thermal_module.thermal.": backbone(2),
        "base_resnet.base.": backbone(3),
    }
    state = {"classifier.weight": torch.ones(7, net.embedding_dim)}
    state |= {f"bottleneck.{n}": v + 1 for n, v in net.bottleneck.state_dict().items()}
    for prefix, part in backbones.items():
        state |= {prefix + name: value for name, value in part.state_dict().items()}
    return state, list(backbones.values())


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_adca_checkpoints_give_each_stem_its_own_backbone(prefix, net, tmp_path):
    state, (vis, ir, base) = adca_state(net)
    path = tmp_path / "adca.pth.tar"
    torch.save({"state_dict": {prefix + n: v for n, v in state.items()}, "epoch": 3}, path)
    loaded = start_from(net, path)
    assert not loaded.kept
    assert_filled(net.vis_stem, vis, *STEM)
    assert_filled(net.ir_stem, ir, *STEM)
    assert_filled(net.layers, base, *LAYERS)
    for name, value in net.bottleneck.state_dict().items():
        assert torch.equal(value, state[f"bottleneck.{name}"])
    assert loaded.used == len(net.state_dict())
    assert loaded.used + len(loaded.unused) == len(state)
    assert {"base_resnet.base.conv1.weight", "classifier.weight"} <= set(loaded.unused)
    with pytest.raises(AssertionError):
        assert_filled(net.layers, vis, *LAYERS)


def test_adca_checkpoints_with_layers_of_another_network_are_refused(net, tmp_path):
    state, _ = adca_state(net)
    torch.save({"state_dict": {**state, "NL_2.0.g.0.weight": torch.ones(1)}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"NL_2\.0\.g\.0\.weight has no place"):
        start_from(net, tmp_path / "a.pth")


def test_own_files_come_back_whole(net, tmp_path):
    path = tmp_path / "net.safetensors"
    about = {"net": {**net.described, "image_size": [64, 32]}, "method": "adca"}
    save_weights(path, net, about)
    again, read, _ = load_weights(path)
    assert read == about
    infrared = torch.tensor([True, False, True, False])
    assert torch.equal(
        again(images(), infrared).embedding, net.eval()(images(), infrared).embedding
    )


def stored(net, path):
    save_weights(path, net, {"net": {**net.described, "image_size": [64, 32]}})
    return net.state_dict()


@pytest.mark.parametrize(
    ("settings", "unused", "kept"),
    [
        ({"non_local": "published"}, set(), {"non_local"}),
        ({"share_net": 2, "strips": 4}, {"bottleneck"}, {"strip_heads"}),
        ({"share_net": 5}, set(), set()),
    ],
)
def test_own_files_start_networks_with_other_heads(settings, unused, kept, net, tmp_path):
    """Both streams begin with what the file's share, and heads of another kind stay as they are."""
    before = stored(net, tmp_path / "a.safetensors")
    other = build("resnet-micro", (64, 32), **settings)
    heads = {name: value.clone() for name, value in other.state_dict().items()}
    loaded = start_from(other, tmp_path / "a.safetensors")
    assert {name.partition(".")[0] for name in loaded.unused} == unused
    assert {name.partition(".")[0] for name in loaded.kept} == kept
    assert loaded.used == len(before) - len(loaded.unused)
    for name, value in other.state_dict().items():
        source = name if name in before else name.replace("vis_stem", "layers")
        source = source if source in before else name.replace("ir_stem", "layers")
        assert torch.equal(value, heads[name] if name in loaded.kept else before[source]), name


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 200])
def test_a_damaged_own_file_is_no_start(content, net, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors: not a readable safetensors file"):
        start_from(net, tmp_path / "a.safetensors")


def test_other_strips_begin_anew_and_streams_of_their_own_are_not_merged(net, tmp_path):
    path = tmp_path / "strips.safetensors"
    stored(build("resnet-micro", (64, 32), share_net=2, strips=2), path)
    four = build("resnet-micro", (64, 32), share_net=2, strips=4)
    assert all(name.startswith("strip_heads.") for name in start_from(four, path).kept)
    assert sum(name.endswith("0.weight") for name in start_from(four, path).kept) == 4
    with pytest.raises(InputError, match=r"ir_stem\.layer1\.0\..* has no place"):
        start_from(net, path)


def test_heads_come_back_where_the_file_does_not_name_their_setting(net, tmp_path):
    about = {"net": {"size": "resnet-micro", "image_size": [64, 32]}}
    save_weights(tmp_path / "a.safetensors", net, about)
    again = build("resnet-micro", (64, 32))
    assert start_from(again, tmp_path / "a.safetensors").unused == ()
    assert torch.equal(again.bottleneck.weight, net.bottleneck.weight)


class Unsafe:
    """Runs a command when unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def broken(kind, path):
    state = backbone().state_dict()
    if kind == "missing":
        del state["layer2.0.conv1.weight"]
    elif kind == "shape":
        state["conv1.weight"] = F.pad(state["conv1.weight"], (0, 1))
    elif kind == "deeper":
        state = backbone(blocks=2).state_dict()
    elif kind == "left over":
        state["head.weight"] = torch.ones(3)
    elif kind == "empty":
        state = {}
    elif kind == "no tensors":
        state = {"names": list(state), "epoch": 3}
    torch.save({"a": Unsafe(path.with_suffix(".ran"))} if kind == "unsafe" else state, path)
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"a": Unsafe(path.with_suffix(".ran"))}, protocol=2))
    elif kind in ("no bytes", "text"):
        path.write_text("hello world\n" * 30 * (kind == "text"))
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "absent":
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", r"layers\.layer2\.0\.conv1\.weight is missing"),
        ("shape", r"vis_stem\.conv1\.weight is .* needs \(16, 3, 7, 7\)"),
        ("deeper", r"layer1\.1\.bn1\.bias has no place"),
        ("left over", r"head\.weight has no place"),
        ("empty", "holds no state dict"),
        ("no tensors", "holds no state dict"),
        ("unsafe", "holds no state dict"),
        ("pickle", "damaged"),
        ("no bytes", "damaged"),
        ("text", "damaged"),
        ("cut", "damaged"),
        ("absent", "No such file"),
    ],
)
def test_unusable_files_are_named_with_what_is_wrong(kind, said, net, tmp_path):
    path = tmp_path / "w.pth"
    broken(kind, path)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(InputError, match=said) as error:
        start_from(net, path)
    assert str(path) in str(error.value)
    assert "weights_only" not in str(error.value)  # torch's own message says how to run the code
    assert not path.with_suffix(".ran").exists()
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    "described",
    [{}, {"size": "resnet-micro"}, {"size": "resnet-micro", "image_size": [64, 32], "later": 1}],
)
def test_a_description_of_no_known_network_is_refused(described, net, tmp_path):
    save_weights(tmp_path / "a.safetensors", net, {"net": described})
    said = r"description.*(names no network|use the version of visir that wrote)"
    with pytest.raises(InputError, match=said):
        load_weights(tmp_path / "a.safetensors")


def test_a_resnet_file_is_no_start_for_a_transformer(tmp_path):
    torch.save(backbone().state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match="a ResNet only"):
        start_from(build("micro", (32, 16)), tmp_path / "w.pth")


def test_an_unknown_network_is_named_with_the_nearest():
    with pytest.raises(InputError, match="resnet50"):
        build("resnet5", (64, 32))
