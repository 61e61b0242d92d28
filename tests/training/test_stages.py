"""Where a stage begins, what is said of bad clusters, and images no clustering can tell apart."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from visir.core.types import InputError
from visir.training.train import train

pytestmark = pytest.mark.slow

FAST = {
    "size": "32,16", "stage_epochs": "2,1", "iterations": "2", "visible_clusters": "2",
    "infrared_clusters": "2", "instances": "2", "k1": "4", "k2": "2", "eps": "0.7",
    "min_samples": "2", "precision": "fp32", "adapt": "nothing",
}  # fmt: skip


def folder(root, draw, images=(8, 8), people=3):
    """Crops of both modalities, `images` of each person; `draw` gives the pixels."""
    for modality, count in zip(("visible", "infrared"), images, strict=True):
        for number in range(people * count):
            path = root / modality / f"cam{number % 2}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(number % people, number)).save(path)
    return root


def pattern(person, number):
    base = np.kron(np.random.default_rng(person).integers(0, 256, (4, 2, 3)), np.ones((8, 8, 1)))
    noisy = base + np.random.default_rng(100 + number).normal(0, 8, base.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def run(data, out, **keywords):
    settings = FAST | keywords.pop("settings", {})
    return train("adca", data, out, settings=settings, progress=False, **keywords)


def warnings_of(done):
    plans = [line for line in done.read_metrics() if line["kind"] == "plan"]
    return [text for line in plans for text in line["warnings"]]


@pytest.mark.parametrize(("stage_start", "chosen"), [("last", 1), ("test-best", 0)])
def test_the_second_stage_starts_where_the_settings_say(stage_start, chosen, tmp_path):
    data, seen = folder(tmp_path / "crops", pattern), []
    scores = [0.9, 0.2, 0.1]  # the first epoch scores best

    def look(epoch, plan, embedder):
        state = {name: value.clone() for name, value in embedder.net.state_dict().items()}
        seen.append((epoch, state))
        return scores[epoch] if plan is not None else None

    done = run(data, tmp_path / "run", settings={"stage_start": stage_start, "lr": "1e-9"},
               on_epoch=look)  # fmt: skip
    states = dict(seen)
    name = "vis_stem.conv.1.BN.running_mean"  # moves whatever the rate
    assert done.stage_best.exists() == (chosen == 0)
    if chosen == 0:
        assert torch.equal(load_file(done.stage_best)[name], states[0][name])
    told = [text for text in warnings_of(done) if "test identities" in text]
    assert bool(told) == (stage_start == "test-best")
    if told:
        assert "epoch 1" in told[0]
        assert "90.0%" in told[0]


def test_the_best_epoch_on_test_identities_needs_scores(tmp_path):
    data = folder(tmp_path / "crops", pattern)
    with pytest.raises(InputError, match="--eval-every 1"):
        run(data, tmp_path / "run", settings={"stage_start": "test-best"})


def test_a_resumed_stage_remembers_its_best_epoch(tmp_path):
    data = folder(tmp_path / "crops", pattern)
    scores = [0.9, 0.2, 0.1]

    def look(stop_at):
        def on_epoch(epoch, plan, _embedder):
            if epoch == stop_at:
                raise KeyboardInterrupt
            return scores[epoch] if plan is not None else None

        return on_epoch

    chosen = {"stage_start": "test-best"}
    whole = run(data, tmp_path / "whole", settings=chosen, on_epoch=look(None))
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run", settings=chosen, on_epoch=look(1))
    resumed = train("adca", data, tmp_path / "run", resume=True, on_epoch=look(None),
                    progress=False)  # fmt: skip
    first, again = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(first[name], again[name]) for name in first)


def black(_person, _number):
    return np.zeros((32, 16, 3), np.uint8)


def test_images_all_alike_stop_with_the_mend(tmp_path):
    data = folder(tmp_path / "crops", black)
    with pytest.raises(InputError, match=r"the visible images: .*1 cluster.*--start"):
        run(data, tmp_path / "run")


def test_nothing_but_outliers_stops_with_the_mend_or_adapts(tmp_path):
    data = folder(tmp_path / "crops", pattern)
    with pytest.raises(InputError, match=r"the visible images: .*0 cluster.*eps"):
        run(data, tmp_path / "run", settings={"min_samples": "20"})
    done = run(data, tmp_path / "adapted", settings={"eps": "0.3", "adapt": "eps"})
    assert done.weights.exists()


def test_fewer_images_than_neighbours_train(tmp_path):
    data = folder(tmp_path / "crops", pattern)
    assert run(data, tmp_path / "run", settings={"k1": "90", "eps": "0.9"}).weights.exists()


def test_a_camera_with_one_image_trains(tmp_path):
    data = folder(tmp_path / "crops", pattern)
    path = data / "infrared" / "cam9" / "alone.png"
    path.parent.mkdir()
    Image.fromarray(pattern(0, 99)).save(path)
    done = run(data, tmp_path / "run", settings={"center_cameras": "true"})
    assert done.weights.exists()


def test_one_modality_without_images_is_refused(tmp_path):
    data = folder(tmp_path / "crops", pattern, images=(8, 0))
    (data / "infrared" / "cam0").mkdir(parents=True)
    with pytest.raises(InputError, match="infrared"):
        run(data, tmp_path / "run")


def test_a_network_that_has_diverged_is_refused(tmp_path, monkeypatch):
    data = folder(tmp_path / "crops", pattern)
    monkeypatch.setattr(
        "visir.methods.clustering.embed_pixels",
        lambda net, pixels, modality, *_, rows, **__: torch.full((len(rows), 8), torch.nan),
    )
    with pytest.raises(InputError, match="not finite"):
        run(data, tmp_path / "run")


def test_each_kind_of_fault_is_said_once(tmp_path, capsys):
    data = folder(tmp_path / "crops", pattern)
    settings = {"stage_epochs": "4,0", "lr": "1e-9", "min_samples": "2", "eps": "0.2"}
    train("adca", data, tmp_path / "run", settings=FAST | settings | {"adapt": "eps"})
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    kinds = {json.dumps([word for word in line.split() if not word[0].isdigit()]) for line in said}
    assert len(kinds) == len(said)


def test_progress_compares_with_the_last_epoch(tmp_path):
    data = folder(tmp_path / "crops", pattern)
    done = run(data, tmp_path / "run")
    plans = [line for line in done.read_metrics() if line["kind"] == "plan"]
    assert "agreement_visible" not in plans[0]
    assert all("agreement_visible" in line for line in plans[1:])
    assert len(list((done.folder / "tensorboard").glob("events*"))) == 1
