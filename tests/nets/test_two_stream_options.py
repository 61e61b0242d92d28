"""Options of a two-stream network: separate stages, attention, strips."""

import pytest
import torch

from visir.core.types import InputError
from visir.nets.build import build
from visir.nets.two_stream import TwoStream, generalised_mean
from visir.nets.weights import load_weights, save_weights


def images(count=4, size=(64, 32)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


def own_layers(net):
    """The stages of the visible stem, by name."""
    names = [name for name in net.vis_stem.state_dict() if name.endswith("conv1.weight")]
    return [name.split(".")[0] for name in names]


@pytest.mark.parametrize("share_net", range(6))
def test_as_many_stages_are_each_modalitys_own_as_the_settings_say(share_net):
    torch.manual_seed(0)
    net = TwoStream("resnet-micro", share_net)
    stages = ["conv1", "layer1", "layer2", "layer3", "layer4"]
    assert own_layers(net) == stages[:share_net]
    assert [name for name, _ in net.layers.named_children() if name in stages] == stages[share_net:]
    infrared = torch.tensor([True, False, True, False])
    net.eval()
    for value in net.ir_stem.parameters():
        value.data.add_(torch.rand_like(value))
    apart = (net(images(), infrared).embedding - net(images(), ~infrared).embedding).abs().max()
    assert bool(apart > 1e-4) == (share_net > 0)


def test_stages_beyond_the_network_are_refused():
    with pytest.raises(InputError, match="share_net: must be 0 to 5, got 6"):
        TwoStream("resnet-micro", 6)
    with pytest.raises(InputError, match="no shared layer 2"):
        TwoStream("resnet-micro", 3, "published")


@pytest.mark.parametrize("width", ["published", "intended"])
def test_non_local_blocks_are_sums_over_all_positions(width):
    torch.manual_seed(0)
    net = TwoStream("resnet18", non_local=width).eval()
    assert list(net.non_local) == ["layer2_0", "layer2_1", "layer3_0", "layer3_1"]
    block = net.non_local["layer2_1"]
    assert block.theta.out_channels == (1 if width == "published" else 64)
    maps = torch.randn(2, 128, 3, 2)
    assert torch.equal(block(maps), maps)  # at the start nobody is heard
    block.W[1].weight.data.uniform_()
    expected = maps.clone()
    theta, phi, g = block.theta(maps), block.phi(maps), block.g(maps)
    heard = torch.zeros_like(theta)
    for image in range(2):
        for y, x in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
            for v, u in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
                alike = (theta[image, :, y, x] * phi[image, :, v, u]).sum()
                heard[image, :, y, x] += alike * g[image, :, v, u] / 6
    expected += block.W(heard)
    assert torch.allclose(block(maps), expected, atol=1e-5)
    assert not torch.allclose(maps + block.W(2 * heard), expected, atol=1e-3)


def test_the_published_attention_stands_after_the_last_blocks():
    net = TwoStream("resnet50", non_local="published")
    assert list(net.non_local) == ["layer2_2", "layer2_3", "layer3_3", "layer3_4", "layer3_5"]
    seen = []
    for name, block in net.non_local.items():
        block.register_forward_hook(lambda *_, name=name: seen.append(name))
    plain = TwoStream("resnet50").eval()
    plain.load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        found = net.eval()(images(2), torch.tensor([True, False]))
        assert seen == list(net.non_local)
        expected = plain(images(2), torch.tensor([True, False]))
        assert torch.allclose(found.embedding, expected.embedding, atol=1e-4)
        net.non_local["layer3_5"].W[1].weight.fill_(3.0)
        changed = net(images(2), torch.tensor([True, False]))
    assert not torch.allclose(changed.embedding, expected.embedding, atol=1e-2)


def test_strips_are_pooled_from_the_top_each_with_a_head_of_its_own():
    torch.manual_seed(0)
    net = TwoStream("resnet-micro", 2, power=10.0, strips=4).eval()
    found = net(images(), torch.tensor([True, False, True, False]))
    assert found.tokens.shape == (4, 4, 256)
    assert torch.equal(found.embedding, found.tokens.flatten(1))
    for number in range(4):
        rows = found.maps[:, :, number : number + 1]
        pooled = ((rows**10).mean(dim=(2, 3)) + 1e-12) ** 0.1
        conv, norm = net.strip_heads[number][0], net.strip_heads[number][1]
        expected = norm(conv(pooled[:, :, None, None])).relu()[:, :, 0, 0]
        assert torch.allclose(found.tokens[:, number], expected, atol=1e-5)
        other = net.strip_heads[(number + 1) % 4]
        assert not torch.allclose(
            found.tokens[:, number], other(pooled[:, :, None, None])[..., 0, 0]
        )


def test_strips_that_do_not_divide_the_height_are_refused_with_sizes_that_do():
    with pytest.raises(
        InputError, match=r"strips: 6 strips do not divide the 4 rows .* 96 pixels high"
    ):
        build("resnet-micro", (64, 32), strips=6)
    build("resnet-micro", (96, 48), strips=6)


# findings/gem-half.sh
def test_the_tenth_power_is_taken_in_float32():
    torch.manual_seed(0)
    net = TwoStream("resnet-micro", 2, power=10.0, strips=4).eval()
    with torch.no_grad():
        net.layers.layer4[0].bn2.weight.fill_(80.0)  # 65504 is the tenth power of 3.03
    visible = torch.zeros(4, dtype=torch.bool)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            found = net(images(), visible)
        assert found.maps.dtype == dtype and found.maps.max() > 3.1
        exact = found.maps.float().reshape(4, 128, 4, -1)
        expected = torch.stack(
            [head(generalised_mean(exact[:, :, row], 10.0)[..., None, None])[..., 0, 0]
             for row, head in enumerate(net.strip_heads)], dim=1,
        )  # fmt: skip
        assert torch.isfinite(found.tokens).all()
        assert torch.allclose(found.tokens, expected, atol=1e-4)
        half = generalised_mean(found.maps.reshape(4, 128, 4, -1), 10.0)
        assert not torch.allclose(half.float(), generalised_mean(exact, 10.0), rtol=1e-3)


@pytest.mark.parametrize(
    "options", [{}, {"share_net": 2, "strips": 4, "power": 10.0}, {"non_local": "intended"}]
)
def test_files_say_how_their_network_is_built(options, tmp_path):
    net = build("resnet-micro", (64, 32), **options).eval()
    save_weights(tmp_path / "a.safetensors", net,
                 {"net": {**net.described, "image_size": [64, 32]}, "method": "x"})  # fmt: skip
    again = load_weights(tmp_path / "a.safetensors").net
    infrared = torch.tensor([True, False, True, False])
    assert torch.equal(again(images(), infrared).embedding, net(images(), infrared).embedding)
    assert again.power == options.get("power", 3.0)
