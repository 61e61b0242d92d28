"""The training loop: no label gets in, a stopped run goes on to the same weights, clear errors."""

import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from visir.cluster.associate import ASSOCIATIONS
from visir.cluster.matches import Association
from visir.core.run import Run
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml
from visir.data.registry import open_benchmark
from visir.methods import METHODS
from visir.synth.write import synthesise
from visir.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]

LABELLED = ("agw", "caj", "hct", "identity", "mra")
# Too small for the preset that is named to users of real data.
TINY = {"size": "32,16", "epochs": "1", "iterations": "2", "batch": "6"}
STOPS = [(method, epoch) for method in METHODS for epoch in (0, 1)]
STOPS += [("tokenmatcher", 3), ("tokenmatcher", 10), ("tokenmatcher", 11), ("cmag", 2)]


@pytest.fixture(scope="module")
def people(once):
    def make(folder):
        synthesise(folder / "set", ids=10, train_ids=6, images=2, size="32x16", progress=False)

    return once("training-people", make) / "set"


def run(people, out, method="adca", **keywords):
    return train(method, people, out, preset="smoke", progress=False, **keywords)


def weights(run):
    return load_file(run.weights)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def undisturbed(people, once):
    """Gives the whole training of a method, which is only read; copy it to change it."""

    def trained(method):
        folder = once(f"undisturbed-{method}", lambda folder: run(people, folder / "run", method))
        return Run(folder / "run")

    return trained


@pytest.mark.parametrize("method", METHODS)
def test_a_run_writes_everything_it_promises(method, undisturbed):
    done = undisturbed(method)
    for path in (done.config, done.metrics, done.checkpoint, done.weights):
        assert path.stat().st_size > 0
    epochs = [line for line in done.read_metrics() if line["kind"] == "epoch"]
    assert [line["epoch"] for line in epochs] == list(range(len(epochs)))
    # A camera that tells nobody apart is not trained.
    assert all(line["loss"] > 0 for line in epochs if not line["stage"].startswith("camera"))
    assert list((done.folder / "tensorboard").glob("events*"))


def test_plans_show_clusters_and_true_purity(undisturbed):
    plans = [line for line in undisturbed("adca").read_metrics() if line["kind"] == "plan"]
    assert [line["stage"] for line in plans] == ["stage 1"] * 2 + ["stage 2"] * 2
    for line in plans:
        assert line["clusters_visible"] >= 2
        assert 0 < line["purity_infrared"] <= 1
    assert "pairs_matched" in plans[-1]


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_weights_and_others_do_not(method, people, undisturbed, tmp_path):
    first = weights(undisturbed(method))
    assert same(first, weights(run(people, tmp_path / "again", method)))
    assert not same(first, weights(run(people, tmp_path / "other", method, seed=1)))


@pytest.mark.parametrize(("method", "stop_after"), STOPS)
def test_a_stopped_run_resumes_to_the_same_weights(
    method, stop_after, people, undisturbed, tmp_path
):
    def stop(epoch, _plan, _embedder):
        if epoch == stop_after + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(people, tmp_path / "run", method, on_epoch=stop)
    resumed = run(people, tmp_path / "run", method, resume=True)
    assert same(weights(undisturbed(method)), weights(resumed))
    kept = [
        [line["loss"] for line in done.read_metrics() if line["kind"] == "epoch"]
        for done in (undisturbed(method), resumed)
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(LABELLED)))
def test_no_label_reaches_training(method, people, undisturbed, tmp_path, monkeypatch):
    """With every identity unknown the run gives bit-equal weights."""
    seeing = undisturbed(method)

    def blinded(*arguments):
        benchmark = open_benchmark(*arguments)
        unknown = tuple(record._replace(pid=None) for record in benchmark.train)
        return dataclasses.replace(benchmark, train=unknown)

    monkeypatch.setattr("visir.training.train.open_benchmark", blinded)
    blind = run(people, tmp_path / "run", method)
    lines = blind.read_metrics()
    assert not any("purity_visible" in line for line in lines)
    assert losses(lines) == losses(seeing.read_metrics())
    assert same(weights(seeing), weights(blind))


def losses(lines):
    return [line["loss"] for line in lines if line["kind"] == "epoch"]


def test_a_folder_of_unlabelled_crops_trains(people, tmp_path):
    for modality, cams in (("visible", (1, 2)), ("infrared", (3,))):
        for cam in cams:
            shutil.copytree(people / f"cam{cam}", tmp_path / "crops" / modality / f"door {cam}")
    done = run(tmp_path / "crops", tmp_path / "run")
    assert len(losses(done.read_metrics())) == 4


def test_a_small_preset_is_said_where_people_are_real(people, tmp_path, capsys):
    real = tmp_path / "real"
    shutil.copytree(people, real)
    (real / "visir-synth.json").unlink()
    for data, said in ((people, False), (real, True)):
        train("simclr", data, tmp_path / f"run-{said}", settings=TINY)
        assert ("preset: tiny" in capsys.readouterr().err) is said


def test_adca_starts_from_another_runs_weights(people, undisturbed, tmp_path):
    seen = {}

    def look(epoch, _plan, embedder):
        seen.setdefault(epoch, {k: v.clone() for k, v in embedder.net.state_dict().items()})

    start = undisturbed("simclr")
    run(people, tmp_path / "run", start=start.folder, on_epoch=look)
    assert same(weights(start), seen[-1])
    assert not same(seen[-1], seen[3])


def test_a_run_is_resumed_without_the_one_it_started_from(people, undisturbed, tmp_path):
    start = shutil.copytree(undisturbed("simclr").folder, tmp_path / "start")

    def stop(epoch, _plan, _embedder):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(people, tmp_path / "run", start=start, on_epoch=stop)
    shutil.rmtree(start)
    assert len(losses(run(people, tmp_path / "run", resume=True).read_metrics())) == 4


def test_a_resumed_run_keeps_its_settings(people, undisturbed, tmp_path):
    done = Run(shutil.copytree(undisturbed("simclr").folder, tmp_path / "run"))
    same_again = {"settings": {"batch": "6"}, "resume": True, "progress": False}
    assert train("simclr", people, done.folder, **same_again).folder == done.folder
    with pytest.raises(InputError, match="other settings than epochs=9"):
        train("simclr", people, done.folder, **(same_again | {"settings": {"epochs": "9"}}))
    with pytest.raises(InputError, match="method is simclr, not adca"):
        train("adca", people, done.folder, **(same_again | {"settings": {}}))


def test_weights_are_never_older_than_the_checkpoint(people, tmp_path, monkeypatch):
    """Stopped between the two files of the last epoch, the run still ends with its weights."""

    def stop(*_):
        raise KeyboardInterrupt

    whole = run(people, tmp_path / "whole", "simclr")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("visir.training.loop.save_weights", stop)
        run(people, tmp_path / "run", "simclr")
    assert not Run(tmp_path / "run").checkpoint.exists()
    assert same(weights(whole), weights(run(people, tmp_path / "run", "simclr")))


def test_identities_may_have_any_numbers(people, tmp_path, monkeypatch):
    def renumbered(*arguments):
        benchmark = open_benchmark(*arguments)
        train = tuple(r._replace(pid=10**17 + r.pid) for r in benchmark.train)
        return dataclasses.replace(benchmark, train=train)

    monkeypatch.setattr("visir.training.train.open_benchmark", renumbered)
    lines = run(people, tmp_path / "run").read_metrics()
    assert all(line["purity_visible"] > 0 for line in lines if line["kind"] == "plan")


@pytest.mark.parametrize("method", [key for key, of in METHODS.items() if of.needs_both_modalities])
def test_training_images_of_one_modality_are_refused(method, people, tmp_path):
    shutil.copytree(people, tmp_path / "set")
    known = [(people / "exp" / f"{name}_id.txt").read_text() for name in ("train", "val")]
    for pid in ",".join(known).replace("\n", "").split(","):
        for cam in (3, 6):
            shutil.rmtree(tmp_path / "set" / f"cam{cam}" / f"{int(pid):04d}", ignore_errors=True)
    with pytest.raises(InputError, match="at least two infrared images, found 0"):
        run(tmp_path / "set", tmp_path / "run", method)
    assert not (tmp_path / "run").exists()


def test_a_disk_too_small_for_the_pixels_is_said(people, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("visir.data.dataset.os.posix_fallocate", full)
    with pytest.raises(InputError, match=r"not enough space for the decoded images.*No space left"):
        run(people, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_only_the_methods_named_here_are_given_labels():
    asking = {key for key, method in METHODS.items() if method.learns_from_labels}
    assert asking == set(LABELLED)


def test_a_folder_that_holds_a_run_is_not_written_over(people, undisturbed):
    done = undisturbed("simclr")
    before = done.metrics.read_text()
    with pytest.raises(InputError, match="--resume"):
        run(people, done.folder, "simclr")
    assert done.metrics.read_text() == before


def test_clear_errors(people, undisturbed, tmp_path):
    with pytest.raises(InputError, match="no run to resume"):
        run(people, tmp_path / "none", resume=True)
    with pytest.raises(InputError, match="did you mean 'adca'"):
        train("adcaa", people, tmp_path / "a", progress=False)
    with pytest.raises(InputError, match="did you mean 'tiny'"):
        train("adca", people, tmp_path / "a", preset="tinny", progress=False)
    with pytest.raises(InputError, match="did you mean 'eps'"):
        train("adca", people, tmp_path / "a", settings={"epps": "1"}, progress=False)
    with pytest.raises(InputError, match="setting visible_clusters: must be >= 1, got 0"):
        train("adca", people, tmp_path / "a", settings={"visible_clusters": "0"}, progress=False)
    with pytest.raises(InputError, match="has no place in this network"):
        train(
            "simclr", people, tmp_path / "b", settings={"network": "hybrid-micro"},
            start=undisturbed("simclr").folder, progress=False,
        )  # fmt: skip
    assert not (tmp_path / "a").exists()


def test_collapsed_clustering_says_what_to_do(people, tmp_path):
    settings = {"eps": "0.01", "min_samples": "50"}
    with pytest.raises(InputError, match=r"0 cluster.*eps"):
        run(people, tmp_path / "run", settings=settings)
    assert run(people, tmp_path / "run").weights.exists()  # no epoch was whole: begun anew


ASSOCIATING = ("adca", "sdcl", "tokenmatcher", "vit-baseline", "cmag")


@pytest.mark.parametrize("method", ASSOCIATING)
@pytest.mark.parametrize("name", ASSOCIATIONS)
def test_every_associating_method_trains_with_every_association(method, name, people, tmp_path):
    settings = {"association": name, "vote_threshold": "0"}
    if method in ("tokenmatcher", "cmag"):
        settings["stage_epochs"] = "1,1"
    if method == "tokenmatcher":
        settings["camera_epochs"] = "0,0"
    done = run(people, tmp_path / "run", method, settings=settings)
    plans = [line for line in done.read_metrics() if line["kind"] == "plan"]
    assert "pairs_matched" in plans[-1]
    assert load_yaml(done.config)["settings"]["association"] == name


def test_a_start_that_is_kept_is_saved_as_it_is(people, undisturbed, tmp_path, monkeypatch, capsys):
    def nothing(name, vis, ir, options):
        shares = np.zeros((vis.clusters, ir.clusters), np.float32)
        return Association(shares, shares.T)

    monkeypatch.setattr("visir.methods.clustering.associate", nothing)
    start = undisturbed("pairs")
    capsys.readouterr()
    settings = {"least_matched": "0.1"}
    kept = train(
        "pairs", people, tmp_path / "run", preset="smoke", start=start.folder, settings=settings
    )
    assert same(weights(kept), weights(start))
    lines = kept.read_metrics()
    assert [line["stage"] for line in lines if line["kind"] == "epoch"] == ["start kept"] * 3
    said = next(line["warnings"] for line in lines if line["kind"] == "plan")
    assert any(one.startswith("0 of ") and "so the start is kept" in one for one in said)
    shown = [of for of in capsys.readouterr().err.splitlines() if of.startswith("start kept")]
    assert len(shown) == 1 and "epoch   1/3  clusters" in shown[0]
    assert "loss" not in shown[0] and "views/s" not in shown[0]


def test_a_missing_training_image_is_warned_of_without_reading_the_data_set_again(
    people, tmp_path, monkeypatch, capsys
):
    root = tmp_path / "set"
    shutil.copytree(people, root)
    next((root / "cam1").glob("*/*.jpg")).unlink()
    opened = []

    def counted(*arguments):
        opened.append(arguments)
        return open_benchmark(*arguments)

    monkeypatch.setattr("visir.training.train.open_benchmark", counted)
    run(root, tmp_path / "run", "simclr")
    assert len(opened) == 1
    said = capsys.readouterr().err
    assert f"warning: {root}: cam1: " in said and "1 missing (see `visir check`)" in said


def test_tracks_alone_are_enough_for_tracklets(people, tmp_path):
    """Crops of `visir crop` have tracks and no identity."""
    site, rows = tmp_path / "site", ["path,track"]
    for number, record in enumerate(open_benchmark(people).train):
        name = f"{record.modality.value}/{record.cam}/{number:03d}.jpg"
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.path, site / name)
        rows.append(f"{name},{record.pid}")
    (site / "labels.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(InputError, match="has no identity label"):
        run(site, tmp_path / "refused", "identity")
    done = run(site, tmp_path / "run", "identity", settings={"labels": "tracklet"})
    labels = {}
    for line in done.images.read_text().splitlines():
        path, _, _, camera, label = json.loads(line)
        labels.setdefault(label, set()).add((camera, path.split("/")[:2][0]))
    tracks = {(row.split(",")[0].split("/")[1], row.split(",")[1]) for row in rows[1:]}
    assert len(labels) == len(tracks)
    assert all(len(places) == 1 for places in labels.values())
    (site / "labels.csv").unlink()
    with pytest.raises(InputError, match="labels=tracklet: no training image has a track"):
        run(site, tmp_path / "none", "identity", settings={"labels": "tracklet"})
