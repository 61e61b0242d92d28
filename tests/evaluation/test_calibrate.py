"""Calibration of scores, on made-up features with known truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from visir.cluster.metrics import purity
from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.ranges import NONE
from visir.evaluation import calibrate as module
from visir.evaluation import grouping
from visir.evaluation.calibrate import Table, calibrate, measure
from visir.evaluation.confidence import Calibration
from visir.evaluation.strangers import measure_strangers

pytestmark = pytest.mark.slow

PEOPLE, IMAGES, WIDTH = 40, 6, 24


def made(people=PEOPLE, seed=0, noise=0.6):
    """Unit features of both modalities, and who is on each."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, WIDTH))
    sides = {}
    for modality in Modality:
        pids = np.repeat(np.arange(people), IMAGES)
        rows = centres[pids] + noise * rng.normal(size=(len(pids), WIDTH))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sides[modality] = rows.astype(np.float32)
    return sides, pids


def tables(people=PEOPLE, seed=0, noise=0.6):
    sides, pids = made(people, seed, noise)
    found = []
    for side in Modality:
        sim = sides[side] @ sides[side.other].T
        best = np.stack([sim[:, pids == person].max(axis=1) for person in range(people)], axis=1)
        found.append(Table(best, np.full(people, IMAGES), pids))
    return found


def rates(curve, threshold, seed):
    """False alarms and finds of new people in galleries of half of them, in a plain loop."""
    calibration = Calibration(*curve, threshold, 0, 0, "labels", 0, 0, "")
    rng = np.random.default_rng(seed)
    alarms, finds = [], []
    for table in tables(seed=seed):
        for query in range(0, len(table.own), 3):
            there = rng.choice(PEOPLE, PEOPLE // 2, replace=False)
            scores = table.best[query, there]
            sure = calibration.confidence(scores.max(), IMAGES * len(there))
            own, best = table.own[query], there[scores.argmax()]
            if own in there:
                finds.append(sure >= threshold and best == own)
            else:
                alarms.append(sure >= threshold)
    return np.mean(alarms), np.mean(finds)


def test_the_threshold_lets_the_share_asked_for_pass_on_new_people():
    curve, threshold, (alarms, found) = measure(tables(), 0.1)
    assert curve[0] > 0 and curve[1] < 0
    assert 0.03 < alarms < 0.2 and found > 0.6
    new_alarms, new_found = rates(curve, threshold, seed=5)
    assert 0.02 < new_alarms < 0.25 and new_found > 0.5
    sterner = measure(tables(), 0.01)[1]
    assert sterner > threshold


def test_confidence_is_how_often_best_hits_are_right():
    curve, _, _ = measure(tables(noise=0.9), 0.1)
    searches = module.draw_searches(tables(noise=0.9), np.arange(PEOPLE), np.random.default_rng(3))
    sure = curve.confidence(searches.scores, searches.images)
    assert searches.there.mean() == 0.5
    for low, high in ((0.1, 0.4), (0.4, 0.7), (0.7, 1.0)):
        inside = (sure >= low) & (sure < high)
        assert abs(searches.right[inside].mean() - sure[inside].mean()) < 0.12


class Fake:
    fingerprint = "f" * 64
    ranges = NONE

    def __init__(self, features):
        self.features = features

    def embed_records(self, records, progress=False):
        return np.stack([self.features[record.path] for record in records])


def benchmark(labelled, people=PEOPLE):
    sides, pids = made(people, noise=0.35)
    records, features = [], {}
    for modality, rows in sides.items():
        for row, vector in enumerate(rows):
            path = f"{modality.value}/{row}"
            records.append(Record(path, int(pids[row]) if labelled else None, 0, modality))
            features[path] = vector
    return Benchmark("made", ".", tuple(records), ()), Fake(features)


@pytest.mark.parametrize("labelled", [True, False])
def test_runs_are_calibrated_with_labels_and_without(tmp_path, monkeypatch, labelled):
    data, fake = benchmark(labelled)
    monkeypatch.setattr(module, "load", lambda run, device: fake)
    monkeypatch.setattr(module, "open_benchmark", lambda *arguments: data)
    monkeypatch.setattr(grouping, "_K1", 5)
    found = calibrate(tmp_path, tmp_path)
    assert found.identities == ("labels" if labelled else "clusters")
    assert found.people > 0.7 * PEOPLE and found.images == 2 * PEOPLE * IMAGES
    assert Calibration.of(tmp_path, fake.fingerprint) == found
    same = calibrate(tmp_path, tmp_path, labels=False)
    assert same.identities == "clusters"
    if not labelled:
        assert same == found  # nothing is left to chance


@pytest.mark.parametrize("labelled", [True, False])
def test_few_people_give_the_weaker_answer(tmp_path, monkeypatch, labelled):
    data, fake = benchmark(labelled, people=5)
    monkeypatch.setattr(module, "load", lambda run, device: fake)
    monkeypatch.setattr(module, "open_benchmark", lambda *arguments: data)
    found = calibrate(tmp_path, tmp_path)
    assert found.only_strangers and found.found is None
    assert found.identities == ("strangers" if labelled else "others")
    text = str(found)
    assert text.startswith("Only ") and "so only strangers were measured" in text
    assert "how likely a hit is right, and how many people are found, is unknown" in text
    assert Calibration.of(tmp_path, fake.fingerprint) == found
    assert found.displayed(np.array([0.9]), 30) is None  # a cosine stays a cosine
    assert found.no_match(np.array([-0.9]), 30) and not found.no_match(np.array([0.999]), 30)
    assert found.no_match(np.array([]), 30)


def strangers(seed, noise=0.6):
    """Forty people in visible light, forty others in infrared: nobody is in both."""
    rng = np.random.default_rng(seed)
    sides, pids = {}, {}
    for number, modality in enumerate(Modality):
        who = np.repeat(np.arange(PEOPLE), IMAGES)
        rows = rng.normal(size=(PEOPLE, WIDTH))[who] + noise * rng.normal(size=(len(who), WIDTH))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sides[modality], pids[modality] = rows.astype(np.float32), who + PEOPLE * number
    return sides, pids


def test_strangers_pass_the_threshold_as_often_as_asked():
    curve, threshold, alarms = measure_strangers(*strangers(0), None, 0.1)
    assert curve.slope > 0 and curve.growth <= 0
    assert 0.05 < alarms < 0.2
    new, _ = strangers(7)
    cosines = new[Modality.VISIBLE] @ new[Modality.INFRARED].T
    for images in (10, 100):
        drawn = np.random.default_rng(1).permutation(cosines.shape[1])[:images]
        sure = curve.confidence(cosines[:, drawn].max(axis=1), images)
        assert 0.01 < (sure >= threshold).mean() < 0.3
    assert measure_strangers(*strangers(0), None, 0.01)[1] > threshold


def test_without_labels_the_nearest_group_is_no_stranger():
    sides, who = made()
    pids = dict.fromkeys(Modality, who)

    def least_cosine(*who):
        """The cosine at the threshold, among all 240 images."""
        curve, threshold, _ = measure_strangers(sides, *who, 0.1)
        odds = np.log(threshold / (1 - threshold))
        return (odds - curve.growth * np.log(240) - curve.offset) / curve.slope

    known = least_cosine(pids, None)
    assert abs(least_cosine(None, pids) - known) < 0.05  # the nearest group is the person
    assert least_cosine(None, None) > known + 0.1  # other images of the person are left


def test_images_of_one_person_only_are_too_few():
    sides, _ = made(people=1)
    one = {modality: np.zeros(IMAGES, np.int64) for modality in Modality}
    with pytest.raises(InputError, match="only 0 images have a stranger in the other modality"):
        measure_strangers(sides, one, None, 0.1)


def test_too_little_to_measure_is_refused(tmp_path, monkeypatch):
    data, fake = benchmark(True, people=5)
    monkeypatch.setattr(module, "load", lambda run, device: fake)
    only = replace(data, train=tuple(r for r in data.train if r.modality is Modality.VISIBLE))
    monkeypatch.setattr(module, "open_benchmark", lambda *arguments: only)
    with pytest.raises(InputError, match="there are no infrared images to calibrate with"):
        calibrate(tmp_path, tmp_path)
    with pytest.raises(InputError, match="false_alarms: must be between 0 and 1, got 0"):
        calibrate(tmp_path, tmp_path, false_alarms=0)
    assert not list(tmp_path.iterdir())


def tracked(*facts):
    """Records of one camera, each with its track and its frame."""
    return [
        Record(Path(str(n)), None, 1, Modality.VISIBLE, track=track, frame=frame)
        for n, (track, frame) in enumerate(facts)
    ]


def turned(*degrees):
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_the_images_of_a_track_are_in_one_cluster():
    records = tracked(("a", "1"), ("a", "2"), ("a", "3"), ("b", "9"), (None, None), ("b", "8"))
    units = turned(0.0, 1.0, 80.0, 90.0, 91.0, 45.0)
    found = grouping.by_tracks(np.array([0, 0, 1, 1, 1, -1]), units, records)
    assert found.tolist() == [0, 0, 0, 1, 1, 1]
    # A cluster all of whose images belong elsewhere is gone, and the next one takes its number.
    found = grouping.by_tracks(np.array([0, 0, 1, 2, 2, 2]), units, records)
    assert found.tolist() == [0, 0, 0, 1, 1, 1]


def test_two_tracks_of_one_frame_are_two_people():
    records = tracked(("a", "1"), ("a", "2"), ("b", "2"), ("b", "3"), ("c", "4"))
    units = turned(0.0, 2.0, 30.0, 32.0, 4.0)
    found = grouping.by_tracks(np.zeros(5, np.int64), units, records)
    assert found.tolist() == [0, 0, -1, -1, 0]  # a and b meet in frame 2; a is nearer to the centre
    apart = tracked(("a", "1"), ("a", "2"), ("b", "5"), ("b", "6"), ("c", "4"))
    assert grouping.by_tracks(np.zeros(5, np.int64), units, apart).tolist() == [0] * 5
    other = [record._replace(cam=record.cam + (record.track == "b")) for record in records]
    assert grouping.by_tracks(np.array([0, 0, 1, 1, 0]), units, other).tolist() == [0, 0, 1, 1, 0]


def test_without_tracks_clusters_stay_as_they_are():
    labels = np.array([0, -1, 1])
    records = tracked(*[(None, "1")] * 3)
    assert grouping.by_tracks(labels, turned(0.0, 1.0, 2.0), records) is labels


def test_tracks_put_clusters_of_poor_features_right():
    sides, pids = made(noise=0.9)
    right = {}
    for tracks in (False, True):
        records = {
            modality: [
                Record(Path(str(n)), None, 0, modality, track=str(pid) if tracks else None)
                for n, pid in enumerate(pids)
            ]
            for modality in Modality
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grouping, "_K1", 5)
            labels = grouping.grouped(sides, records).labels
        right[tracks] = [purity(of, pids) * (of >= 0).mean() for of in labels.values()]
    assert min(np.subtract(right[True], right[False])) > 0.05
