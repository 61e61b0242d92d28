"""Checkpoints of AGW, HCT, SG-MRA and MG-MRA: their counts of tensors, and what they embed."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from visir.cli import main
from visir.core.types import InputError
from visir.methods.mra.regulation import Regulation
from visir.nets.foreign import describe
from visir.nets.two_stream import TwoStream
from visir.nets.weights import load_weights, save_weights, start_from
from visir.training.train import train

pytestmark = pytest.mark.slow

VIS, IR, SHARED = "visible_module.visible.", "thermal_module.thermal.", "base_resnet.base."


def put(state, prefix, part):
    state |= {prefix + name: value for name, value in part.state_dict().items()}


def as_agw(net, classes=395):
    """Three whole backbones, five attention blocks, a bottleneck and a classifier."""
    state = {}
    for prefix, own in ((IR, net.ir_stem), (VIS, net.vis_stem), (SHARED, net.layers)):
        backbone = {n: v for n, v in resnet50().state_dict().items() if not n.startswith("fc.")}
        put(state, prefix, own)
        state = {**{prefix + name: value for name, value in backbone.items()}, **state}
    for place, block in net.non_local.items():
        layer, number = place.removeprefix("layer").split("_")
        prefix = f"NL_{layer}.{int(number) - {'2': 2, '3': 3}[layer]}."
        put(state, prefix + "g.0.", block.g)
        for name in ("W", "theta", "phi"):
            put(state, f"{prefix}{name}.", getattr(block, name))
    put(state, "bottleneck.", net.bottleneck)
    state["classifier.weight"] = torch.randn(classes, 2048)
    return state


def as_hct(net, classes=206):
    """Backbones of what is used, strips, and a classifier for each."""
    state = {}
    put(state, IR, net.ir_stem)
    put(state, VIS, net.vis_stem)
    put(state, SHARED, net.layers)
    put(state, "local_conv_list.", net.strip_heads)
    for number in range(6):
        put(state, f"fc_list.{number}.", nn.Linear(256, classes))
    return state


def as_mra(net, granularity, classes=206):
    """HCT's, and the memory branch."""
    memory = Regulation(2048, granularity=granularity)
    state = as_hct(net, classes) | {"mem_rep.memory.weight": memory.weight}
    if granularity == "multi":
        put(state, "mem_rep.reweight_layer_part.", memory.reweight_parts)
        put(state, "mem_rep.reweight_layer_ins.", memory.reweight_instances)
    put(state, "bn.", nn.BatchNorm2d(2048))
    put(state, "bottleneck.", nn.BatchNorm1d(2048))
    state["classifier.weight"] = torch.randn(classes, 2048)
    return state


def counted(state):
    """Numbers of tensors, and of weights that learn."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return len(state), sum(v.numel() for n, v in state.items() if not n.endswith(buffers))


def test_the_layouts_have_the_published_counts():
    with torch.device("meta"):
        assert len(as_agw(TwoStream(non_local="published"))) == 1025
        net = TwoStream(share_net=2, strips=6)
        assert counted(as_hct(net, 206)) == (438, 27_201_364)
        assert counted(as_hct(net, 395)) == (438, 27_492_802)
        assert counted(as_mra(net, "single", 206)) == (450, 40_288_084)
        assert counted(as_mra(net, "multi", 206)) == (454, 40_288_156)
        assert counted(as_mra(net, "multi", 395)) == (454, 40_966_666)


def randomised(net):
    torch.manual_seed(0)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.02 * torch.randn(value.shape) + (value.ndim == 1))
    return net.eval()


NETS = {
    "agw": (lambda: TwoStream(non_local="published"), as_agw, None),
    "hct": (lambda: TwoStream(share_net=2, strips=6, power=10.0), as_hct, 10.0),
    "mra": (
        lambda: TwoStream(share_net=2, strips=6, power=3.0), lambda net: as_mra(net, "multi"), 3.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", NETS)
def test_an_authors_file_embeds_like_the_same_weights_set_by_hand(method, tmp_path):
    make, as_theirs, power = NETS[method]
    net = randomised(make())
    state, path = as_theirs(net), tmp_path / "sysu_best.t"
    prefix = "module." if method == "hct" else ""
    torch.save({"net": {prefix + name: value for name, value in state.items()}, "mAP": 0.5}, path)
    opened = load_weights(path, power)
    assert opened.about["method"] == method
    assert opened.about["net"].items() >= net.described.items()
    loaded = opened.loaded
    assert loaded.used + len(loaded.unused) == len(state)
    assert not loaded.kept
    batch = torch.randn(2, 3, 288, 144)
    for infrared in (False, True):
        kind = torch.full((2,), infrared)
        with torch.no_grad():
            expected, found = net(batch, kind).embedding, opened.net(batch, kind).embedding
        assert torch.equal(found, expected)
        assert expected.std() > 0
    save_weights(tmp_path / "ours.safetensors", opened.net, opened.about)
    again = load_weights(tmp_path / "ours.safetensors").net
    with torch.no_grad():
        assert torch.equal(again(batch, kind).embedding, expected)


def small_state():
    return as_hct(TwoStream("resnet-micro", share_net=2, strips=6))


def test_the_power_of_the_pooling_has_to_be_said():
    with pytest.raises(InputError, match="--gem-p 10"):
        describe(small_state())
    assert describe(small_state(), 10.0)["net"]["power"] == 10.0
    for power in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="a number above 0"):
            describe(small_state(), power)


def test_backbones_kept_whole_start_networks_that_share_all_layers_only(tmp_path):
    with torch.device("meta"):
        meta = as_agw(TwoStream())
    state = {name: torch.zeros(value.shape) for name, value in meta.items()}
    torch.save({"net": state}, tmp_path / "agw.t")
    with pytest.raises(InputError, match="set share_net=1"):
        start_from(TwoStream(share_net=2), tmp_path / "agw.t")
    assert not start_from(TwoStream(), tmp_path / "agw.t").kept


def test_a_start_takes_the_strips_and_leaves_the_rest(tmp_path):
    source = randomised(TwoStream("resnet-micro", share_net=2, strips=6))
    torch.save({"net": as_hct(source)}, tmp_path / "a.t")
    net = TwoStream("resnet-micro", share_net=2, strips=6)
    loaded = start_from(net, tmp_path / "a.t")
    assert {name.split(".")[0] for name in loaded.unused} == {"fc_list"}
    for name, value in source.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: TwoStream("resnet-micro", share_net=1, strips=6), "has no place|is missing"),
        (lambda: TwoStream("resnet-micro", share_net=2, strips=4), "has no place"),
        (lambda: TwoStream("resnet-micro", share_net=2), "has no place"),
    ],
)
def test_a_file_of_another_network_is_refused_by_a_tensors_name(net, said, tmp_path):
    torch.save({"net": small_state()}, tmp_path / "a.t")
    with pytest.raises(InputError, match=said) as error:
        start_from(net(), tmp_path / "a.t")
    assert "a.t" in str(error.value)


def test_convert_accounts_for_every_tensor_and_overwrites_nothing(tmp_path, capsys):
    state = as_hct(randomised(TwoStream(share_net=2, strips=6)))
    file, out = tmp_path / "hct.t", tmp_path / "hct.safetensors"
    torch.save({"net": state, "epoch": 60}, file)
    for words, said in (
        ([file, out], "--gem-p 10"),
        ([file, tmp_path / "a.pth", "--gem-p", 10], "must end in .safetensors"),
        ([out, tmp_path / "b.safetensors"], "already in visir's format"),
    ):
        assert main(["convert", *map(str, words)]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("a.pth"))
    assert main(["convert", str(file), str(out), "--gem-p", "10"]) == 0
    told = capsys.readouterr().out
    assert "power=10.0" in told and "426 tensors loaded, 12 unused" in told
    assert all(name in told for name in state if name.startswith("fc_list."))
    before = out.read_bytes()
    assert main(["convert", str(file), str(out), "--gem-p", "3"]) == 2
    assert out.read_bytes() == before


def test_a_checkpoint_of_another_number_of_classes_starts_a_training(people, tmp_path, capsys):
    net = TwoStream("resnet-micro", share_net=2, strips=2)
    torch.save({"net": as_hct(net, classes=7)}, tmp_path / "seven.t")
    train("hct", people, tmp_path / "run", start=tmp_path / "seven.t",
          settings={"size": "32,16", "strips": "2", "epochs": "1"})  # fmt: skip
    told = capsys.readouterr().err
    assert "unused (fc_list.0.bias, fc_list.0.weight" in told
