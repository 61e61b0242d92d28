"""Evaluation of features and embedders on small benchmarks built by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from visir.core.run import write_text
from visir.core.types import Benchmark, Exclusion, InputError, Modality, Protocol, Record, Trial
from visir.data.ranges import NONE
from visir.evaluation import evaluate as module
from visir.evaluation.evaluate import evaluate, evaluate_run, merge, score_features
from visir.evaluation.ranking import score

ROOM = Exclusion(cam_pairs=frozenset({(3, 2)}))
IDENTITIES = 6


def small_benchmark(name="toy", split=None, unlabelled=()):
    """Six people, two infrared images each (cameras 3, 6) and four visible ones (1, 2)."""
    records = []
    for pid in range(IDENTITIES):
        cams = [(3, Modality.INFRARED), (6, Modality.INFRARED)]
        cams += [(cam, Modality.VISIBLE) for cam in (1, 1, 2, 2)]
        for number, (cam, modality) in enumerate(cams):
            who = None if len(records) in unlabelled else pid
            records.append(Record(Path(f"{pid}-{cam}-{number}.jpg"), who, cam, modality))
    rows = np.arange(len(records)).reshape(IDENTITIES, 6)
    query, visible = rows[:, :2].ravel(), rows[:, 2:].ravel()
    rng = np.random.default_rng(0)
    draws = tuple(Trial(query, np.sort(rng.choice(visible, 15, replace=False))) for _ in range(3))
    protocols = {
        "drawn": Protocol("Toy drawn gallery", draws, ROOM, unique_identities=True),
        "to-infrared": Protocol("Toy visible to infrared", (Trial(visible[2:22], query),)),
    }
    return Benchmark(name, Path("toy"), (), tuple(records), protocols, split=split)


def features_for(benchmark, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(len(benchmark.test), 8)).astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


class FakeEmbedder:
    """Returns stored features by file name and records which images were requested."""

    ranges = NONE

    def __init__(self, benchmark, dataset=None, split=None):
        features = features_for(benchmark)
        self.known = {r.path: row for r, row in zip(benchmark.test, features, strict=True)}
        self.dataset, self.split, self.flip = dataset, split, True
        self.calls = []

    def embed_records(self, records, progress=False):
        self.calls.append([record.path for record in records])
        return np.stack([self.known[record.path] for record in records])


def separately(benchmark, features, key):
    """Each trial from its own similarity matrix."""
    protocol = benchmark.protocols[key]
    pids = np.array([record.pid for record in benchmark.test])
    cams = np.array([record.cam for record in benchmark.test])
    return [
        score(
            features[q] @ features[g].T, pids[q], pids[g], cams[q], cams[g],
            protocol.exclusion, protocol.unique_identities,
        )
        for q, g in protocol.trials
    ]  # fmt: skip


@pytest.mark.parametrize("block", [None, 1, 40])
def test_trials_from_one_matrix_equal_trials_on_their_own(monkeypatch, block):
    if block is not None:
        monkeypatch.setattr(module, "_BLOCK", block)
    benchmark = small_benchmark()
    features = features_for(benchmark)
    evaluation = score_features(features, benchmark)
    assert list(evaluation.results) == ["drawn", "to-infrared"]
    for key, result in evaluation.results.items():
        assert result.protocol == benchmark.protocols[key].name
        for ours, alone in zip(result.trials, separately(benchmark, features, key), strict=True):
            for value, expected in zip(ours, alone, strict=True):
                np.testing.assert_allclose(value, expected, rtol=0, atol=1e-12)


def test_mean_and_spread_over_trials():
    result = score_features(features_for(small_benchmark()), small_benchmark()).results["drawn"]
    values = [trial.mAP for trial in result.trials]
    assert len(set(values)) == 3
    assert result.mean.mAP == pytest.approx(sum(values) / 3)
    assert result.spread.mAP == pytest.approx(np.std(values, ddof=1))
    assert result.mean.rank5 == pytest.approx(np.mean([t.cmc[4] for t in result.trials]))


def test_perfect_features_score_one_and_chance_does_not():
    benchmark = small_benchmark()
    features = np.eye(IDENTITIES, dtype=np.float32)[[r.pid for r in benchmark.test]]
    for result in score_features(features, benchmark).results.values():
        assert result.mean[:6] == pytest.approx((1,) * 6)
        assert 0.1 < result.mean.chance_mAP < 0.5


def test_chance_is_what_random_features_score():
    benchmark = small_benchmark()
    runs = [score_features(features_for(benchmark, seed), benchmark) for seed in range(300)]
    for key in benchmark.protocols:
        values = [run.results[key].mean.mAP for run in runs]
        error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - runs[0].results[key].mean.chance_mAP) < 4 * error


def test_every_image_is_embedded_once_and_no_other():
    benchmark = small_benchmark()
    embedder = FakeEmbedder(benchmark)
    evaluation = evaluate(embedder, benchmark)
    (asked,) = embedder.calls
    trials = [trial for p in benchmark.protocols.values() for trial in p.trials]
    rows = sorted({int(row) for trial in trials for side in trial for row in side})
    assert asked == [benchmark.test[row].path for row in rows]
    expected = score_features(features_for(benchmark), benchmark)
    assert evaluation.as_json()["protocols"] == expected.as_json()["protocols"]


def test_chosen_protocols_only():
    benchmark = small_benchmark()
    embedder = FakeEmbedder(benchmark)
    evaluation = evaluate(embedder, benchmark, ["to-infrared"])
    assert len(embedder.calls[0]) == 20 + 12
    expected = score_features(features_for(benchmark), benchmark, ["to-infrared"])
    assert evaluation.as_json()["protocols"] == expected.as_json()["protocols"]
    with pytest.raises(InputError, match="'dawn'; did you mean 'drawn'"):
        evaluate(embedder, benchmark, ["dawn"])


def test_a_model_is_scored_on_its_own_split_only():
    benchmark = small_benchmark("RegDB", split="2")
    with pytest.raises(InputError, match="trained on split 1, which contains test identities"):
        evaluate(FakeEmbedder(benchmark, "RegDB", "1"), benchmark)
    for dataset, split in [("RegDB", "2"), ("SYSU-MM01", None), ("synthetic RegDB", "1")]:
        assert evaluate(FakeEmbedder(benchmark, dataset, split), benchmark).split == "2"


def test_missing_labels_are_refused_where_they_are_needed():
    used = small_benchmark(unlabelled=(0,))
    with pytest.raises(InputError, match=r"toy: 0-3-0\.jpg .* no identity.*labels\.csv"):
        score_features(features_for(used), used)
    visible = [row for row, record in enumerate(used.test) if record.pid == IDENTITIES - 1][-1]
    unused = small_benchmark(unlabelled=(visible,))
    assert score_features(features_for(unused), unused, ["to-infrared"]).results


def test_nothing_to_score_is_refused():
    benchmark = replace(small_benchmark(), protocols={})
    with pytest.raises(InputError, match=r"no labelled test images.*labels\.csv"):
        score_features(features_for(benchmark), benchmark)


def test_no_shared_identity_is_refused_with_the_protocol_named():
    trial = Trial(np.array([0, 1]), np.array([8, 9, 10]))
    benchmark = replace(small_benchmark(), protocols={"x": Protocol("Toy strangers", (trial,))})
    with pytest.raises(InputError, match="Toy strangers: no identity is shared"):
        score_features(features_for(benchmark), benchmark)


@pytest.mark.parametrize("shape", [(35, 8), (36,)])
def test_features_must_fit_the_test_images(shape):
    with pytest.raises(InputError, match="does not fit the 36 test images of toy"):
        score_features(np.ones(shape, np.float32), small_benchmark())


def test_nan_features_are_refused():
    features = features_for(small_benchmark())
    features[3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        score_features(features, small_benchmark())


def test_the_table_names_the_protocol_beside_every_number():
    benchmark = small_benchmark()
    lines = evaluate(FakeEmbedder(benchmark), benchmark).table().splitlines()
    head, drawn, single, legend = lines
    assert len({len(line) for line in (head, drawn, single)}) == 1
    for word in ["R1", "R5", "R10", "R20", "mAP", "mINP", "chance mAP", "trials", "queries"]:
        assert word in head
    result = score_features(features_for(benchmark), benchmark).results["drawn"]
    assert drawn.startswith("Toy drawn gallery  ")
    assert f"{100 * result.mean.mAP:.2f} ± {100 * result.spread.mAP:.2f}" in drawn
    assert drawn.split()[-2:] == ["3", result.queries]
    assert single.startswith("Toy visible to infrared  ")
    assert "±" not in single
    assert "flip averaging: yes; re-ranking: none" in legend


def test_json_holds_names_trials_and_how_it_was_scored():
    benchmark = small_benchmark(split="4")
    evaluation = evaluate(FakeEmbedder(benchmark), benchmark)
    plain = json.loads(json.dumps(evaluation.as_json()))
    assert (plain["benchmark"], plain["split"]) == ("toy", "4")
    assert (plain["flip_averaging"], plain["re_ranking"]) == (True, "none")
    drawn, single = plain["protocols"]["drawn"], plain["protocols"]["to-infrared"]
    assert drawn["protocol"] == "Toy drawn gallery"
    assert [t["mAP"] for t in drawn["trials"]] == [
        t.mAP for t in evaluation.results["drawn"].trials
    ]
    assert all(0 < trial["queries"] <= 12 for trial in drawn["trials"])
    assert single["spread"] is None
    assert single["mean"] == {k: v for k, v in single["trials"][0].items() if k != "queries"}


def test_merge_puts_the_trials_of_runs_side_by_side():
    benchmarks = [small_benchmark("RegDB", split) for split in ("1", "2")]
    runs = [score_features(features_for(b, seed), b) for seed, b in enumerate(benchmarks)]
    merged = merge(runs)
    assert merged.split == "1, 2"
    assert len(merged.results["drawn"].trials) == 6
    both = merged.results["to-infrared"]
    means = [run.results["to-infrared"].mean.rank1 for run in runs]
    assert both.mean.rank1 == pytest.approx(np.mean(means))
    assert both.spread.rank1 == pytest.approx(np.std(means, ddof=1))


def test_merge_refuses_different_measurements():
    benchmark = small_benchmark()
    features = features_for(benchmark)
    whole = score_features(features, benchmark)
    with pytest.raises(InputError, match="scored differently"):
        merge([whole, score_features(features, benchmark, ["drawn"])])
    with pytest.raises(InputError, match="scored differently"):
        merge([whole, replace(whole, benchmark="other")])
    with pytest.raises(InputError, match="no evaluation"):
        merge([])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder; opening data and weights is replaced, and says what was asked."""
    asked = []

    def open_benchmark(root, layout=None, split=1, known=NONE):
        asked.append((root, layout, split))
        return small_benchmark("RegDB", split=str(split))

    embedder = FakeEmbedder(small_benchmark(), "RegDB", "3")
    monkeypatch.setattr("visir.data.registry.open_benchmark", open_benchmark)
    monkeypatch.setattr("visir.embedding.pytorch.load", lambda path, device: embedder)
    (tmp_path / "data").mkdir()
    settings = f"data: '{tmp_path / 'data'}'\nlayout: regdb\nsplit: 3\n"
    write_text(tmp_path / "run" / "config.yaml", settings)
    return tmp_path / "run", asked


def test_a_run_is_scored_on_its_data_and_split(run):
    folder, asked = run
    evaluation = evaluate_run(folder)
    assert asked[-1] == (folder.parent / "data", "regdb", 3)
    assert json.loads((folder / "scores.json").read_text()) == evaluation.as_json()
    assert evaluation.as_json()["split"] == "3"


def test_a_run_can_be_scored_on_other_data(run):
    folder, asked = run
    evaluate_run(folder, data=folder.parent, protocols=["drawn"])
    assert asked[0][:2] == (folder.parent, None)
    assert list(json.loads((folder / "scores.json").read_text())["protocols"]) == ["drawn"]


def test_a_checkpoint_is_scored_on_the_split_that_is_named(run, monkeypatch):
    folder, asked = run
    stranger = FakeEmbedder(small_benchmark(), None, None)
    monkeypatch.setattr("visir.embedding.pytorch.load", lambda path, device: stranger)
    checkpoint = folder.parent / "weights" / "7.pth"
    checkpoint.parent.mkdir()
    with pytest.raises(InputError, match=r"7\.pth: no config\.yaml says .*--data"):
        evaluate_run(checkpoint)
    evaluation = evaluate_run(checkpoint, folder.parent, layout="regdb", split=7)
    assert asked == [(folder.parent, "regdb", 7)]
    written = checkpoint.with_name("7.pth.scores.json")
    assert json.loads(written.read_text()) == evaluation.as_json()


def test_a_run_with_moved_data_is_refused(run):
    folder, _ = run
    (folder.parent / "data").rmdir()
    with pytest.raises(InputError, match=r"config\.yaml: data .* does not exist"):
        evaluate_run(folder)
    (folder / "config.yaml").write_text("method: adca\n")
    with pytest.raises(InputError, match=r"config\.yaml: key 'data' is missing"):
        evaluate_run(folder)


def test_scoring_features_needs_neither_torch_nor_numba_to_be_imported() -> None:
    code = "import sys, visir.evaluation.evaluate; print({'torch', 'numba'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
