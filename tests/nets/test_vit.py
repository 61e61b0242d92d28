"""The two-stem transformer: shapes, stems, tokens, sizes, stochastic depth."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from visir.core.types import InputError
from visir.nets.features import Features
from visir.nets.stems import IBN, Stem
from visir.nets.vit import SIZES, Vit
from visir.nets.weights import load_weights, save_weights, start_from


def images(count=4, size=(32, 16)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tokens", [1, 3])
def test_shapes_and_the_one_output_in_training_and_evaluation(tokens):
    net = Vit("micro", (32, 16), tokens)
    infrared = torch.tensor([True, False, True, False])
    for mode in (True, False):
        out = net.train(mode)(images(), infrared)
        assert isinstance(out, Features)
        assert out.embedding.shape == (4, 128 * tokens)
        assert out.tokens.shape == (4, tokens, 128)
        assert out.embedding.dtype == torch.float32


def test_each_modality_goes_through_its_own_stem():
    net = Vit("micro", (32, 16)).eval()
    all_vis, all_ir = torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    assert torch.equal(net(images(), all_vis).embedding, net(images(), all_ir).embedding)
    with torch.no_grad():
        for parameter in net.ir_stem.parameters():
            parameter.add_(0.1)
    vis, ir = net(images(), all_vis).embedding, net(images(), all_ir).embedding
    assert not torch.allclose(vis, ir, atol=1e-3)
    mixed = net(images(), torch.tensor([True, False, True, False])).embedding
    assert torch.allclose(mixed[[0, 2]], ir[[0, 2]], atol=1e-5)
    assert torch.allclose(mixed[[1, 3]], vis[[1, 3]], atol=1e-5)


def test_ibn_normalises_half_by_instance_and_half_by_batch():
    norm, x = IBN(8).train(), torch.randn(5, 8, 6, 6) * 3 + 1
    out = norm(x)
    assert out[:, :4].mean(dim=(2, 3)).abs().max() < 1e-4
    assert out[:, 4:].mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert out[:, 4:].mean(dim=(2, 3)).abs().max() > 1e-2


def test_tokens_are_row_major_and_the_overall_stride_is_the_patch():
    size = SIZES["micro"]
    stem = Stem(size).eval()
    tokens = stem(images(1, (48, 16)))
    grid = (48 // size.patch, 16 // size.patch)
    assert tokens.shape == (1, grid[0] * grid[1], size.dim)
    expected = stem.proj(stem.conv(images(1, (48, 16))))[0, :, 1, 0]
    assert torch.allclose(tokens[0, grid[1]], expected, atol=1e-6)


def test_published_size_has_the_published_number_of_weights():
    # CMAG, N = 4, 384 x 128: 98,766,720 weights with a spare block, norm and bottleneck, which
    # this network leaves out.
    with torch.device("meta"):
        net = Vit("base", (384, 128), class_tokens=4)
    spare = sum(p.numel() for p in net.blocks[-1].parameters()) + 2 * 768 + 2 * 768
    assert sum(p.numel() for p in net.parameters()) + spare == 98_766_720


def test_stochastic_depth_drops_whole_branches_per_sample_in_training_only():
    net = Vit("micro", (32, 16), drop_path=0.9)
    vis = torch.zeros(64, dtype=torch.bool)
    one = images(1).expand(64, -1, -1, -1)
    tokens = net.train()(one, vis).tokens
    assert tokens.std(dim=0).max() > 1e-3
    assert net.eval()(one, vis).tokens.std(dim=0).max() < 1e-4


def test_bottleneck_biases_are_frozen():
    net = Vit("micro", (32, 16), 2)
    assert all(not b.bias.requires_grad for b in net.bottlenecks)
    assert isinstance(net.bottlenecks[0], nn.BatchNorm1d)


def test_impossible_sizes_are_refused():
    with pytest.raises(InputError, match="multiples of 8"):
        Vit("micro", (33, 16))
    with pytest.raises(InputError, match="micro, hybrid-micro, hybrid-mobilenet, small, base"):
        Vit("tiny")


def slow_shallow(net, x):
    """SDCL's two embeddings, block by block."""
    x = torch.cat([net.cls_token.expand(len(x), -1, -1), net.vis_stem(x)], dim=1) + net.pos_embed
    patches = x[:, net.class_tokens :]
    for block in list(net.blocks)[:-1]:
        x = block(x)
    deep = net.norm(net.blocks[-1](x))[:, 0]
    query = torch.cat([x[:, :1], patches], dim=1)
    shallow = net.shallow["norm"](net.shallow["block"](query))[:, 0]
    return torch.cat([net.bottlenecks[0](deep), net.bottlenecks[1](shallow)], dim=1)


def test_shallow_embedding_reads_the_patches_with_the_deep_token():
    net = Vit("micro", (32, 16), shallow=True).eval()
    with torch.no_grad():
        for parameter in net.shallow.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    visible = torch.zeros(4, dtype=torch.bool)
    out = net(images(), visible)
    assert out.embedding.shape == (4, net.embedding_dim) == (4, 2 * 128)
    assert torch.allclose(out.embedding, slow_shallow(net, images()), atol=1e-5)
    swapped = out.embedding.roll(128, dims=1)
    assert not torch.allclose(swapped, slow_shallow(net, images()), atol=1e-2)


def test_without_its_shallow_branch_the_network_is_the_same():
    torch.manual_seed(3)
    plain = Vit("micro", (32, 16)).eval()
    both = Vit("micro", (32, 16), shallow=True).eval()
    both.load_state_dict(both.complete(plain.state_dict()))
    visible = torch.zeros(4, dtype=torch.bool)
    expected = plain(images(), visible).embedding
    assert torch.equal(both(images(), visible).embedding[:, :128], expected)
    for copy, source in zip(
        both.shallow["block"].parameters(), plain.blocks[-1].parameters(), strict=True
    ):
        assert torch.equal(copy, source)
    assert torch.equal(both.bottlenecks[1].weight, plain.bottlenecks[0].weight)
    assert not both.bottlenecks[1].bias.requires_grad


def test_a_file_without_the_shallow_branch_starts_one_with_it(tmp_path):
    torch.manual_seed(4)
    plain, both = Vit("micro", (32, 16)), Vit("micro", (32, 16), shallow=True)
    plain.train()(images(), torch.tensor([True, False, True, False]))  # the bottleneck has counted
    path = tmp_path / "plain.safetensors"
    save_weights(path, plain, {})
    loaded = start_from(both, path)
    assert (loaded.used, loaded.unused, loaded.kept) == (len(plain.state_dict()), (), ())
    own = both.state_dict()
    for copy, source in (
        ("shallow.block.", "blocks.2."), ("shallow.norm.", "norm."),
        ("bottlenecks.1.", "bottlenecks.0."),
    ):  # fmt: skip
        for name, value in plain.state_dict().items():
            if name.startswith(source):
                assert torch.equal(own[name.replace(source, copy, 1)], value), name
    assert not torch.equal(own["shallow.block.mlp.fc1.weight"], own["blocks.1.mlp.fc1.weight"])


def test_a_file_with_the_shallow_branch_is_taken_as_it_is(tmp_path):
    torch.manual_seed(5)
    net = Vit("micro", (32, 16), shallow=True)
    with torch.no_grad():
        net.shallow["norm"].weight.add_(1)
    path = tmp_path / "both.safetensors"
    save_weights(path, net, {"net": {**net.described, "image_size": [32, 16]}})
    again = load_weights(path).net
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with pytest.raises(InputError, match="has no place in this network"):
        start_from(Vit("micro", (32, 16)), path)


def test_a_network_of_one_token_starts_one_of_many(tmp_path):
    torch.manual_seed(0)
    one = Vit("micro", (32, 16))
    with torch.no_grad():
        one.bottlenecks[0].running_mean.uniform_()
    about = {"net": {**one.described, "image_size": [32, 16]}}
    save_weights(tmp_path / "w.safetensors", one, about)
    many = Vit("micro", (32, 16), class_tokens=4)
    drawn = many.pos_embed.detach()[:, :4].clone()
    start_from(many, tmp_path / "w.safetensors")
    assert torch.equal(many.cls_token, one.cls_token.expand(-1, 4, -1))
    assert torch.allclose(many.pos_embed[:, :4], one.pos_embed[:, :1] + drawn)
    assert torch.equal(many.pos_embed[:, 4:], one.pos_embed[:, 1:])
    for bottleneck in many.bottlenecks:
        assert torch.equal(bottleneck.running_mean, one.bottlenecks[0].running_mean)
    out = many.eval()(torch.randn(2, 3, 32, 16), torch.tensor([True, False])).tokens
    assert not torch.allclose(out[:, 0], out[:, 1])


def test_images_of_another_size_get_resized_positions(tmp_path):
    torch.manual_seed(0)
    net = Vit("micro", (32, 16), class_tokens=2).eval()
    images, visible = torch.randn(1, 3, 16, 16), torch.tensor([False])
    found = net(images, visible)
    small = Vit("micro", (16, 16), class_tokens=2).eval()
    state = net.state_dict()
    grid = state["pos_embed"][:, 2:].reshape(1, 4, 2, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (2, 2), mode="bilinear").flatten(2).transpose(1, 2)
    small.load_state_dict({**state, "pos_embed": torch.cat([state["pos_embed"][:, :2], grid], 1)})
    assert torch.allclose(small(images, visible).embedding, found.embedding, atol=1e-5)
    about = {"net": {**net.described, "image_size": [32, 16]}}
    save_weights(tmp_path / "w.safetensors", net, about)
    started = Vit("micro", (16, 16), class_tokens=2).eval()
    start_from(started, tmp_path / "w.safetensors")
    assert torch.equal(started.pos_embed, small.pos_embed)
    with pytest.raises(InputError, match="has no place in this network"):
        start_from(Vit("small", (32, 16)), tmp_path / "w.safetensors")
