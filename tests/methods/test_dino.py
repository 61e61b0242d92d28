"""DINO pre-training: crops, the teacher, the file it leaves, and unlabelled folders of any kind."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from visir import cli
from visir.core.types import InputError, Modality
from visir.methods.dino import PRESETS, Dino
from visir.nets.build import build
from visir.nets.foreign import to_transreid
from visir.nets.pickles import read_checkpoint
from visir.nets.weights import load_weights, start_from
from visir.training.pretrain import pretrain

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
CONFIG = replace(
    PRESETS["tiny"], size=(16, 8), small_size=(8, 8), epochs=3, iterations=3, batch=6,
    small_crops=2, outputs=32, hidden=16, bottleneck=8, precision="fp32", pad=1,
)  # fmt: skip
SMALL = {"size": "16,8", "small_size": "8,8", "epochs": "2", "iterations": "2", "batch": "4",
         "small_crops": "2", "outputs": "32", "hidden": "16", "bottleneck": "8"}  # fmt: skip


@pytest.fixture
def method(patterns):
    torch.manual_seed(0)
    return Dino(CONFIG, patterns, CPU, seed=0)


def step(method, epoch):
    optimizer = method.optimizer()
    plan = method.plan(epoch)
    for group in optimizer.param_groups:
        group["lr"] = plan.lr
    batch = method.data.batch(next(iter(plan.batches)), 0, 1, CPU)
    method.model.train()
    outputs = method.forward(batch)
    loss = method.loss(batch, outputs)["dino"]
    optimizer.zero_grad()
    loss.backward()
    method.before_step()
    optimizer.step()
    method.after_step(batch, outputs)
    return batch, float(loss.detach())


def test_views_are_two_of_every_image_and_answers_go_by_view(method):
    batch, loss = step(method, 0)
    assert len(batch.rows) == 4 * CONFIG.batch
    for modality in Modality:
        first, second = batch.rows[batch.of(modality)].chunk(2)
        assert torch.equal(first, second)
    assert 0 < loss < 2 * np.log(CONFIG.outputs)


def test_the_teacher_follows_slowly_and_learns_from_nothing_else(method):
    before = {name: value.clone() for name, value in method.teacher.named_parameters()}
    step(method, 1)
    student = dict(method.model.named_parameters())
    momentum = 1 - (1 - CONFIG.teacher_momentum) * (1 + np.cos(np.pi * 4 / 9)) / 2
    for name, value in method.teacher.named_parameters():
        expected = momentum * before[name] + (1 - momentum) * student[name]
        assert torch.allclose(value, expected, atol=1e-6), name
        assert value.grad is None


def test_the_last_layer_rests_for_an_epoch(method):
    last = next(p for p in method.head.last_layer.parameters() if p.requires_grad)
    for epoch, moves in ((0, False), (1, True)):
        last.grad = None
        step(method, epoch)
        assert bool(last.grad.abs().sum() > 0) == moves


def test_gradients_are_shortened_one_by_one(method):
    method.plan(1)
    long, short, none = list(method.model.parameters())[:3]
    long.grad = torch.full_like(long, 5.0)
    short.grad = torch.full_like(short, 1e-6)
    method.before_step()
    assert float(long.grad.norm()) == pytest.approx(CONFIG.clip)
    assert torch.equal(short.grad, torch.full_like(short, 1e-6))
    assert none.grad is None


def test_the_network_computes_student_crops_and_teacher(method):
    batch = method.data.batch(next(iter(method.plan(0).batches)), 0, 1, CPU)
    with torch.no_grad():
        tokens = method.forward(batch).tokens
        assert tokens.shape == (len(batch.rows), 3, method.model.embedding_dim)
        assert torch.equal(tokens[:, 0], method.model(batch.images, batch.infrared).tokens[:, 0])
        crops = method._small_crops(batch, 0)
        assert torch.equal(tokens[:, 1], method.model(crops, batch.infrared).tokens[:, 0])
    assert torch.equal(tokens[:, 2], method.teacher(batch.images, batch.infrared).tokens[:, 0])


def test_small_crops_are_windows_of_the_large_views(method):
    batch, _ = step(method, 0)
    ramp = torch.linspace(0, 1, 16)[:, None].expand(16, 8)
    images = ramp.expand(len(batch.rows), 3, 16, 8).contiguous()
    crops = method._small_crops(batch._replace(images=images), 0)
    assert crops.shape == (len(batch.rows), 3, 8, 8)
    assert crops.min() >= 0 and crops.max() <= 1
    spans = crops[:, 0, -1, 0] - crops[:, 0, 0, 0]
    assert (spans > 0).all() and (spans < 1).any()
    again = method._small_crops(batch._replace(images=images), 0)
    assert torch.equal(crops, again)
    assert not torch.equal(crops, method._small_crops(batch._replace(images=images), 1))


def test_the_rate_rises_then_falls(method):
    rates = [method.plan(epoch).lr for epoch in range(3)]
    assert rates[0] == pytest.approx(CONFIG.lr / 3) and rates[1] < CONFIG.lr
    assert rates[2] == pytest.approx(CONFIG.lr)


def test_a_stop_changes_nothing(method, patterns):
    step(method, 0)
    again = Dino(CONFIG, patterns, CPU, seed=0)
    again.load_state(method.state())
    again.model.load_state_dict(method.model.state_dict())
    results = [step(one, 1)[1] for one in (method, again)]
    assert results[0] == results[1]
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, again.teacher.state_dict()[name]), name


@pytest.fixture
def crops(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(10):
        path = tmp_path / "crops" / f"site {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 8, 3), np.uint8)).save(path)
    return tmp_path / "crops"


def test_a_backbone_of_unlabelled_crops_starts_a_method(crops, tmp_path, capsys):
    settings = ["--set", *(f"{name}={value}" for name, value in SMALL.items())]
    out = tmp_path / "run"
    assert cli.main(["pretrain", str(crops), "--out", str(out), "--device=cpu", *settings]) == 0
    assert "--start" in capsys.readouterr().out
    whole = read_checkpoint(out / "pretrained.pth")
    assert {name.split(".")[0] for name in whole} == {
        "cls_token", "pos_embed", "patch_embed", "blocks", "norm",
    }  # fmt: skip
    net = build("micro", (32, 16), class_tokens=4)
    loaded = start_from(net, out / "pretrained.pth")
    assert loaded.used == len(whole) and not loaded.unused
    teacher = torch.load(out / "last.ckpt", weights_only=True)["method"]["teacher"]
    assert torch.equal(net.ir_stem.proj.weight, teacher["vis_stem.proj.weight"])
    assert to_transreid(teacher).keys() == whole.keys()


def test_a_stopped_pretraining_goes_on(crops, tmp_path):
    whole = pretrain(crops, tmp_path / "a", settings=SMALL, progress=False)
    with pytest.raises(InputError, match="already holds a run"):
        pretrain(crops, tmp_path / "a", settings=SMALL, progress=False)
    assert pretrain(crops, tmp_path / "a", resume=True, progress=False) == whole


def test_what_cannot_be_pretrained_on_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in it or below"):
        pretrain(tmp_path / "empty", tmp_path / "run", settings=SMALL)


def test_small_crops_that_do_not_fit_are_refused(patterns):
    with pytest.raises(InputError, match="small_size=8,6"):
        Dino(replace(CONFIG, small_size=(8, 6)), patterns, CPU, seed=0)


@pytest.mark.parametrize(("settings", "said"), [
    ({"size": (32, 24)}, "two or three times"), ({"small_crops": 3}, "small_crops=3: must be even"),
])  # fmt: skip
def test_sizes_no_reader_would_find_out_are_refused(settings, said, patterns):
    with pytest.raises(InputError, match=said):
        Dino(replace(CONFIG, **settings), patterns, CPU, seed=0)


def test_without_lightly_the_mend_is_named(patterns, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lightly", None)
    with pytest.raises(InputError, match=r"visir\[pretrain\]"):
        Dino(CONFIG, patterns, CPU, seed=0)


def test_a_backbone_has_one_class_token(people, tmp_path):
    with pytest.raises(InputError, match="class_tokens: a backbone has one"):
        pretrain(people, tmp_path / "run", method="simclr", settings={"class_tokens": "4"})
    torch.manual_seed(0)
    several = to_transreid(build("micro", (16, 8), class_tokens=2).state_dict())
    torch.save(several, tmp_path / "two.pth")
    with pytest.raises(InputError, match="has 2 class tokens, a backbone has one"):
        start_from(build("micro", (16, 8)), tmp_path / "two.pth")


@pytest.mark.parametrize("method", ["dino", "simclr"])
def test_either_loss_makes_a_backbone_of_one_modality_or_two(method, crops, people, tmp_path):
    settings = {"size": "16,8", "epochs": "1", "iterations": "2", "batch": "4"}
    settings |= SMALL | {"epochs": "1"} if method == "dino" else {}
    for number, data in enumerate((crops, people)):
        made = pretrain(
            data, tmp_path / str(number), method=method, settings=settings, progress=False
        )
        net = build("micro", (16, 8), class_tokens=2)
        loaded = start_from(net, made)
        assert not loaded.unused and all(name.startswith("bottlenecks.") for name in loaded.kept)
        expected = load_weights(tmp_path / str(number) / "model.safetensors").net.state_dict()
        same = torch.equal(net.blocks[0].mlp.fc1.weight, expected["blocks.0.mlp.fc1.weight"])
        assert same == (method == "simclr")  # DINO's is the teacher
