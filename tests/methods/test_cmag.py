"""CMAG: off it is TokenMatcher to the bit; on, every switch acts; its state survives a stop."""

from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from visir.core.types import InputError, Modality
from visir.methods import tokenmatcher
from visir.methods.cmag.method import PRESETS, Cmag
from visir.methods.tokenmatcher import TokenMatcher

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]

VIS, IR = Modality.VISIBLE, Modality.INFRARED
CPU = torch.device("cpu")
OFF = {"cats": False, "dcam": False, "gsmem": False, "carc": False}
CONFIG = replace(
    PRESETS["tiny"], size=(16, 8), stage_epochs=(1, 3), iterations=10, visible_clusters=2,
    infrared_clusters=2, instances=2, k1=4, k2=2, eps=0.8, carc_eps=(0.8,), min_samples=2,
    precision="fp32", center_cameras=False, gsmem_size=40, gsmem_start=8, ramp=2,
)  # fmt: skip


def plain(config):
    """The same settings as TokenMatcher knows them."""
    return tokenmatcher.Config(
        **{of.name: getattr(config, of.name) for of in fields(tokenmatcher.Config)}
    )


def trained(method, epochs, steps=10):
    """Losses of every step, and the weights after the last."""
    optimizer, seen = method.optimizer(), []
    for epoch in epochs:
        torch.manual_seed(epoch)
        plan = method.plan(epoch)
        if plan.fresh_optimizer:
            optimizer = method.optimizer()
        for group in optimizer.param_groups:
            group["lr"] = plan.lr
        method.model.train()
        for step, parts in zip(range(steps), plan.batches, strict=False):
            batch = method.data.batch(parts, 100 * epoch + step, 2, CPU)
            outputs = method.model(batch.images, batch.infrared)
            terms = method.loss(batch, outputs)
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            method.after_step(batch, outputs)
            seen.append({name: value.item() for name, value in terms.items()})
    return seen, method.model.state_dict()


def made(kind, config, data):
    torch.manual_seed(0)
    return kind(config, data, CPU, seed=0)


@pytest.mark.parametrize("camera_epochs", [(0, 0), (1, 1)])
def test_all_off_is_tokenmatcher_to_the_bit(camera_epochs, patterns):
    config = replace(CONFIG, **OFF, camera_epochs=camera_epochs, camera_iterations=2,
                     camera_clusters=2)  # fmt: skip
    ours, base = made(Cmag, config, patterns), made(TokenMatcher, plain(config), patterns)
    assert ours.epochs == base.epochs and not list(ours.modules.parameters())
    losses, weights = trained(ours, range(ours.epochs))
    expected, theirs = trained(base, range(base.epochs))
    assert losses == expected and len(losses) >= 40
    for name, value in theirs.items():
        assert torch.equal(weights[name], value), name


SWITCHES = [
    {"cats": True}, {"cats": True, "cats_simple": True, "cats_k": 3},
    {"cats": True, "cats_convolution": True}, {"dcam": True},
    {"dcam": True, "dcam_scope": "paired_tokens"}, {"dcam": True, "dcam_scope": "batch"},
    {"dcam": True, "dcam_value": "reduced"},
    {"gsmem": True}, {"gsmem": True, "gsmem_per_radius": False},
    {"cats": True, "dcam": True, "gsmem": True, "weighting": "uncertainty"},
]  # fmt: skip


class Done(NamedTuple):
    """A training: the modules' weights before it and after, its losses, its model's weights."""

    start: dict[str, Any]
    end: dict[str, Any]
    losses: list[dict[str, float]]
    weights: dict[str, Any]


@pytest.fixture(scope="module")
def with_only(patterns):
    """Trains with these settings and all else off; several tests look at the same training."""
    done = {}

    def once(**settings):
        name = repr(sorted(settings.items()))
        if name not in done:
            method = made(Cmag, replace(CONFIG, **OFF | settings), patterns)
            start = {name: value.clone() for name, value in method.modules.state_dict().items()}
            losses, weights = trained(method, range(3), 5)
            done[name] = Done(start, method.modules.state_dict(), losses, weights)
        return done[name]

    return once


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: "-".join(switch))
def test_every_switch_acts(switch, with_only):
    without = with_only().weights
    start, end, losses, weights = with_only(**switch)
    names = {name.split("_")[0] for name in switch} & {"cats", "dcam", "gsmem"}
    names |= {"cats convolution"} if switch.get("cats_convolution") else set()
    for name in names:
        values = [step[name] for step in losses if name in step]
        assert values and all(np.isfinite(values)) and any(values), name
    assert not torch.equal(weights["blocks.0.mlp.fc1.weight"], without["blocks.0.mlp.fc1.weight"])
    learnt = [name for name, value in end.items() if not torch.equal(value, start[name])]
    assert bool(learnt) == bool(start)
    assert {name.split(".")[0] for name in learnt} == {name.split(".")[0] for name in start}


def test_the_other_readings_differ(with_only):
    for one, other in (
        ({"cats": True}, {"cats": True, "cats_closing": "same"}),
        ({"cats": True}, {"cats": True, "cats_exclude_self": False}),
        ({"cats": True}, {"cats": True, "cats_k": 3, "cats_extra_edge": False}),
        ({"gsmem": True}, {"gsmem": True, "gsmem_per_radius": False}),
        (
            {"carc": True, "carc_eps": (0.01,)},
            {"carc": True, "carc_eps": (0.01,), "carc_conflicts": "keep_decays"},
        ),
        ({"carc": True}, {}),
    ):
        assert with_only(**one).losses[-1] != with_only(**other).losses[-1], (one, other)


def test_the_ramp_grows_the_modules_in(patterns):
    steep = made(Cmag, replace(CONFIG, **OFF | {"dcam": True}, ramp=1), patterns)
    slow = made(Cmag, replace(CONFIG, **OFF | {"dcam": True}, ramp=4), patterns)
    a, b = (trained(method, range(2), 1)[0][-1]["dcam"] for method in (steep, slow))
    assert b == pytest.approx(a / 4, rel=1e-4)


def test_joint_labels_are_the_partners_and_nobody_elses(patterns):
    method = made(Cmag, CONFIG, patterns)
    method.plan(0)
    plan = method.plan(1)
    batch = method.data.batch(next(iter(plan.batches)), 0, 2, CPU)
    few = method.base.many.other
    joint = method._joint(batch)
    own = batch.of(few)
    assert torch.equal(joint[own], batch.labels[own])
    many = batch.of(few.other)
    assert torch.equal(joint[many], method.base.partners[few.other][batch.labels[many]])
    method.base.partners[few.other][:] = -1
    alone = method._joint(batch)[many]
    assert (alone >= len(method.base.memories[few].rows_CD)).all()
    assert len(torch.unique(alone)) == len(torch.unique(batch.labels[many]))


def test_the_second_pass_leaves_running_statistics_alone(patterns):
    method = made(Cmag, replace(CONFIG, **OFF | {"dcam": True}), patterns)
    method.plan(0)
    batch = method.data.batch(next(iter(method.plan(1).batches)), 0, 2, CPU)
    method.model.train()
    outputs = method.model(batch.images, batch.infrared)
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    method.loss(batch, outputs)
    for name, value in method.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_with_a_closed_gate_the_second_pass_is_the_first(patterns):
    method = made(Cmag, replace(CONFIG, **OFF | {"dcam": True}), patterns)
    method.plan(0)
    batch = method.data.batch(next(iter(method.plan(1).batches)), 0, 2, CPU)
    method.model.train()
    outputs = method.model(batch.images, batch.infrared)
    again = method.model.embed_tokens(outputs.tokens, keep_statistics=True)
    assert torch.allclose(again, outputs.embedding, atol=1e-5)


def test_the_queue_takes_as_many_of_either_modality_and_waits_for_its_start(patterns):
    # Twice as many clusters of infrared images as of visible ones, which come twice: as published.
    config = replace(CONFIG, **OFF | {"gsmem": True}, gsmem_start=16, gsmem_size=24,
                     infrared_clusters=4)  # fmt: skip
    method = made(Cmag, config, patterns)
    losses, _ = trained(method, range(2), 3)
    assert ["gsmem" in step for step in losses] == [False] * 5 + [True]
    assert method.queue.balance() == 0.5 and method.queue.filled == 24


def test_the_queue_holds_every_visible_image_once(patterns):
    config = replace(CONFIG, **OFF | {"gsmem": True}, gsmem_size=40, infrared_clusters=4)
    method = made(Cmag, config, patterns)
    method.plan(0)
    batch = method.data.batch(next(iter(method.plan(1).batches)), 0, 2, CPU)
    outputs = method.model.eval()(batch.images, batch.infrared)
    method.after_step(batch, outputs)
    vis, ir = (outputs.embedding[batch.of(modality)] for modality in (VIS, IR))
    expected = torch.cat([vis[: len(vis) // 2], ir[: len(vis) // 2]])
    assert torch.equal(method.queue.held(), expected.detach())


def test_diagnostics_come_with_the_epochs_numbers(patterns):
    method = made(Cmag, CONFIG, patterns)
    method.plan(0)
    plan = method.plan(1)
    method.model.train()
    for step, parts in zip(range(4), plan.batches, strict=False):
        batch = method.data.batch(parts, step, 2, CPU)
        outputs = method.model(batch.images, batch.infrared)
        method.loss(batch, outputs)
        method.after_step(batch, outputs)
    assert {"cats_kept", "cats_across", "dcam_gate", "gsmem_infrared", "gsmem_with_3",
            "gsmem_with_10", "carc_conflicts_visible", "carc_dropped_infrared", "carc_kept_visible",
            "neighbours_visible_visible"} <= set(plan.log)  # fmt: skip
    assert 0 < plan.log["cats_kept"] <= 1 and plan.log["gsmem_infrared"] == 0.5
    shares = [value for name, value in plan.log.items() if name.startswith("gsmem_with_")]
    assert sum(shares) == pytest.approx(1, abs=1e-3) and len(shares) == 8


def test_a_stopped_training_goes_on_to_the_same_weights(patterns):
    whole = made(Cmag, CONFIG, patterns)
    trained(whole, range(2))
    torch.manual_seed(5)
    again = Cmag(CONFIG, patterns, CPU, seed=0)
    again.load_state(whole.state())
    again.model.load_state_dict(whole.model.state_dict())
    results = []
    for method in (whole, again):
        method.base.pure = {}
        optimizer_free = trained(method, [2])
        results.append(optimizer_free)
    assert results[0][0] == results[1][0]
    for name, value in results[0][1].items():
        assert torch.equal(value, results[1][1][name]), name


def test_carc_on_one_camera_a_modality_is_refused(patterns):
    cams = patterns.infrared.astype(np.int64)
    with pytest.raises(InputError, match="carc=false"):
        made(Cmag, CONFIG, patterns._replace(cams=cams))
    made(Cmag, replace(CONFIG, carc=False), patterns._replace(cams=cams))


@pytest.mark.parametrize(("settings", "said"), [
    ({"cats_simple": True, "cats_p": 2}, "cats_p=3"),
    ({"gsmem_start": 50}, "gsmem_size=40 over 48 images"),
    ({"gsmem_start": 60, "gsmem_size": 99}, "over 48 images"),
    ({"neighbour_weight": 0.0}, "carc=false"),
    ({"carc_eps": (0.5, 0.5)}, "carc_eps has 2 radii"),
])  # fmt: skip
def test_settings_without_effect_are_refused(settings, said, patterns):
    with pytest.raises(InputError, match=said):
        method = made(Cmag, replace(CONFIG, **settings), patterns)
        method.plan(0)
        method.plan(1)


def test_an_epoch_without_an_infrared_cluster_stops_with_a_mend(patterns, monkeypatch):
    method = made(Cmag, replace(CONFIG, adapt="nothing"), patterns)
    honest = method.base._cluster

    def nobody(modality, features, eps):
        labels = honest(modality, features, eps)
        return np.full(len(labels), -1) if modality is IR else labels

    monkeypatch.setattr(method.base, "_cluster", nobody)
    with pytest.raises(
        InputError, match=r"infrared images: clustering gave 0 cluster.*min_samples"
    ):
        method.plan(0)


def test_the_encoder_is_saved_without_the_modules(patterns):
    method = made(Cmag, CONFIG, patterns)
    base = made(TokenMatcher, plain(replace(CONFIG, carc=False)), patterns)
    assert method.model.state_dict().keys() == base.model.state_dict().keys()
