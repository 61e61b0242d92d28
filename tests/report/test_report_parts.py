"""Parts of the report on made-up embeddings, whose clusters, hubs and pairs are known."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Of

import numpy as np
import pytest
import torch
from fake_run import draw_person
from PIL import Image

from visir.core.run_config import RunConfig
from visir.core.types import Benchmark, InputError, Modality, Protocol, Record
from visir.evaluation.grouping import Grouping, as_people
from visir.report import health as module
from visir.report import images, montages, plane, quality
from visir.report.health import Health, examine
from visir.report.images import Mark, Pictures
from visir.report.inputs import ReportInputs
from visir.report.verdict import as_html, verdict

VIS, IR = Modality.VISIBLE, Modality.INFRARED


def record(number, modality=VIS, pid=None, cam=1):
    return Record(Path(f"{modality.value}-{number}.png"), pid, cam, modality)


def unit(*degrees):
    """(N, 2) unit vectors at these angles."""
    angles = np.radians(np.array(degrees, float))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def made(visible, infrared, labels, sims, partners, pids=None):
    """Inputs of a report: angles of the images of both modalities, and their clusters."""
    number = len(visible) + len(infrared)
    pids = [None] * number if pids is None else pids
    records = tuple(
        record(n, VIS if n < len(visible) else IR, pids[n], 1 if n < len(visible) else 2)
        for n in range(number)
    )
    rows = {VIS: np.arange(len(visible)), IR: np.arange(len(visible), number)}
    grouping = Grouping(
        {VIS: torch.from_numpy(unit(*visible)), IR: torch.from_numpy(unit(*infrared))},
        {m: np.array(labels[m]) for m in Modality},
        np.array(sims, np.float32),
        np.array(partners),
    )
    people = np.full(number, -1)
    for modality, of in as_people(grouping).items():
        people[rows[modality]] = of
    measures = {f"{what}_{m.value}": 2.0 for m in Modality for what in ("clusters", "median_size")}
    measures |= {f"outliers_{m.value}": 0.0 for m in Modality}
    nothing = np.zeros(number, np.int64)
    health = Health(
        rows, grouping, "", measures, people, nothing, {VIS: 1, IR: 1}, {VIS: 1, IR: 1}, poor={}
    )
    return ReportInputs(
        run=None,
        config=RunConfig("people"),
        metrics=[],
        benchmark=Benchmark("mine", None, records, (), cameras={1: "door", 2: "yard <3>"}),
        size=(48, 24),
        records=records,
        features=np.concatenate([unit(*visible), unit(*infrared)]),
        evaluation=None,
        unscored="No test image has an identity label",
        protocol=Protocol("none", ()),
        precision=np.empty(0, np.float32),
        health=health,
    )


SMALL = {
    "visible": [0, 10, 20, 90, 91, 180],
    "infrared": [5, 6, 80, 100],
    "labels": {VIS: [0, 0, 0, 1, 1, -1], IR: [1, 1, 0, 0]},
    "sims": [[0.1, 0.9], [0.8, 0.3]],
    "partners": [1, 0],
}


def shown(html):
    """Numbers of the pictures in the order of the page."""
    return [int(number) for number in re.findall(r'class="pic p(\d+)', html)]


def test_the_margin_is_the_distance_to_the_next_best_cluster_of_either_side():
    grouping = made(**SMALL).health.grouping
    vis, margins = grouping.margins()
    assert vis.tolist() == [0, 1]
    assert margins == pytest.approx([0.9 - 0.3, 0.8 - 0.3], abs=1e-6)
    one = grouping._replace(partners=np.array([1, -1]))
    assert one.margins()[1] == pytest.approx([0.9 - 0.3], abs=1e-6)


def test_matched_clusters_are_one_person():
    found = as_people(made(**SMALL).health.grouping)
    assert found[VIS].tolist() == [0, 0, 0, 1, 1, -1]
    assert found[IR].tolist() == [0, 0, 1, 1]
    alone = as_people(made(**{**SMALL, "partners": [1, -1]}).health.grouping)
    assert alone[IR].tolist() == [0, 0, 2, 2]


def test_a_cluster_goes_from_its_most_to_its_least_typical_image():
    inputs = made(**SMALL)
    pictures = Pictures(0.5)
    page = montages.clusters(inputs, pictures).html
    # Visible: the larger cluster, at 0, 10 and 20 degrees, is centred at 10; then the other one.
    numbers = list(pictures._numbers)
    assert [numbers[n].path.name for n in shown(page)][:5] == [
        f"visible-{row}.png" for row in (1, 0, 2, 3, 4)
    ]
    assert "3 images · 1 camera · 0.99 similar to its centre" in page
    assert "1 visible image like no group of others, 16.7 % of them" in page
    assert "Images in no infrared cluster" not in page
    assert "yard &lt;3&gt;" in page and "<3>" not in page


def test_known_people_are_said_and_never_needed():
    pids = [7, 7, 8, 9, 9, 1, 7, 7, 4, 4]
    page = montages.clusters(made(**SMALL, pids=pids), Pictures(0.5)).html
    assert "✗ 2 people" in page and "✓ one person" in page
    pairs = montages.pairs(made(**SMALL, pids=pids), Pictures(0.5)).html
    assert re.findall("✓ the same person|✗ different people", pairs) == [
        "✓ the same person",
        "✗ different people",
    ]
    unknown = montages.pairs(made(**SMALL), Pictures(0.5)).html
    assert not re.search("✓|✗", unknown)


def test_known_people_tell_how_many_pairs_are_right(monkeypatch):
    """Two pairs, one right; 10 image pairs, 4 right, which are all pairs of one person."""
    monkeypatch.setattr(module, "_poor", lambda records: {})
    pids = [7, 7, 8, 9, 9, 1, 7, 7, 4, 4]
    for known, said in ((pids, True), ([None, *pids[1:]], False)):
        inputs = made(**SMALL, pids=known)
        monkeypatch.setattr(module, "_grouped", lambda *_: (inputs.health.grouping, ""))  # noqa: B023
        health = examine(inputs.records, inputs.features)
        page = montages.pairs(replace(inputs, health=health), Pictures(0.5)).html
        for words in ("50.0 % of the pairs show one person", "40.0 % show one person (precision)",
                      "one person 100.0 % are in matched clusters (recall)"):  # fmt: skip
            assert (words in page) == said
        assert ("ari" in health.measures) == said


def test_pairs_are_sorted_by_their_lead():
    html = montages.pairs(made(**SMALL), Pictures(0.5)).html
    confident, doubtful = html.split("Most doubtful pairs")
    assert "margin 0.60, similarity 0.90" in confident and "margin 0.50" not in confident
    assert "margin 0.50, similarity 0.80" in doubtful
    assert "3 visible images<br>2 infrared images" in confident
    assert montages.pairs(made(**{**SMALL, "partners": [-1, -1]}), Pictures(0.5)) is None


def test_a_page_holds_no_more_pictures_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MOST", 3)
    pictures = Pictures(0.5)
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    for n, path in enumerate(paths):
        draw_person(path, n, False, 0)
    tags = [pictures.tag(Record(path, None, 1, VIS), "x") for path in paths]
    assert [bool(shown(tag)) for tag in tags] == [True, True, True, False, False]
    assert pictures.tag(Record(paths[0], None, 1, VIS), "x") == tags[0]
    assert pictures.css().count("base64") == 3


def test_the_largest_page_is_within_its_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (112, 56, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")  # no JPEG is larger
    pictures = Pictures(0.5)
    pictures.tag(Record(tmp_path / "noise.png", None, 1, VIS), "noise")
    assert images.MOST * len(pictures.css()) < 4.5e6


def test_marks_are_said_in_letters_and_in_words():
    one, other = record(1), record(2)
    pictures = Pictures(0.5, {one: Mark("!", "poor crop: too dark")})
    assert '<i title="poor crop: too dark">!</i>' in pictures.tag(one, "door")
    assert 'aria-label="door; poor crop: too dark"' in pictures.tag(one, "door")
    assert "<i" not in pictures.tag(other, "door")


@pytest.fixture
def crowd(tmp_path):
    """100 images of each modality; the first visible one is similar to every infrared one."""
    records, features = [], []
    rng = np.random.default_rng(0)
    for n in range(100):
        path = tmp_path / f"v{n}.png"
        draw_person(path, n, False, 0)
        records.append(Record(path, None, 1, VIS))
        features.append(np.eye(101)[100] if n == 0 else np.eye(101)[n])
    for n in range(100):
        path = tmp_path / f"i{n}.png"
        draw_person(path, n, True, 0)
        records.append(Record(path, None, 2, IR))
        features.append(np.eye(101)[n] + 0.9 * np.eye(101)[100] + 0.01 * rng.random(101))
    Image.new("RGB", (24, 48), (9, 9, 9)).save(records[5].path)
    Image.new("RGB", (12, 48), (9, 9, 9)).save(records[105].path)
    rows = np.array(features, np.float32)
    return records, rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_hubs_and_poor_crops_are_found(crowd):
    records, features = crowd
    health = examine(records, features)
    assert health.first == {VIS: 5, IR: 5} and health.searches == {VIS: 100, IR: 100}
    assert health.found[0] == 100  # of 100 searches; an image is in 5 on average
    assert health.hubs().tolist() == [0]
    assert health.poor[5] == "too dark, little contrast, few grey levels"
    assert health.poor[105].endswith("a side below 16 pixels")
    marks = health.marks(records)
    assert marks[records[0]] == Mark("H", "hub: among the first hits of 100 searches")
    assert marks[records[5]].letter == "!"
    assert sorted(health.poor) == [5, 105]


def test_the_section_of_hubs_shows_how_often(crowd):
    records, features = crowd
    inputs = replace(
        made(**SMALL), records=tuple(records), features=features, health=examine(records, features)
    )
    page = quality.quality(inputs, Pictures(0.5)).html
    assert "<b>100 of 100</b>" in page
    assert "1 image came up among the first hits" in page
    assert "2 images of 200: 2 too dark" in page
    clean = replace(inputs, health=inputs.health._replace(found=np.zeros(200, int), poor={}))
    assert quality.quality(clean, Pictures(0.5)) is None


def test_images_that_cannot_be_clustered_say_why(crowd, monkeypatch):
    def none(*_):
        raise InputError("the visible images: clustering gave 0 cluster(s); set another eps")

    monkeypatch.setattr(module, "grouped", none)
    health = examine(*crowd)
    assert health.grouping is None
    assert health.ungrouped == "the visible images: clustering gave 0 cluster(s)"
    inputs = replace(made(**SMALL), health=health)
    assert montages.pairs(inputs, Pictures(0.5)) is montages.clusters(inputs, Pictures(0.5)) is None
    assert health.unpaired() == ""
    found = verdict(inputs)
    assert found.level == "poor" and "clustering gave 0 cluster(s)." in found.reasons[0]


def judged(inputs, matched=True, lead=0.5, outliers=0.0):
    sims = [[0.9 - lead, 0.9], [0.9, 0.9 - lead]]
    grouping = inputs.health.grouping._replace(
        sims=np.array(sims, np.float32), partners=np.array([1, 0] if matched else [-1, -1])
    )
    measures = {**inputs.health.measures, "outliers_infrared": outliers}
    return verdict(
        replace(inputs, health=inputs.health._replace(grouping=grouping, measures=measures))
    )


def test_without_labels_the_verdict_rests_on_clusters():
    inputs = made(**SMALL)
    good = judged(inputs)
    assert good.level == "good" and "nothing is proven" in good.words
    assert good.reasons[0].startswith(
        "2 pairs of clusters match across the modalities, of at most 2"
    )
    assert "by 0.50 (median)" in good.reasons[0]
    unpaired = "0 to 100&nbsp;% of the visible ones and 0 to 100&nbsp;% of the infrared ones"
    assert unpaired in good.reasons[2]  # two clusters are too few to tell
    assert judged(inputs, lead=0.1).level == "fair"
    assert judged(inputs, matched=False).level == "poor"
    assert judged(inputs, outliers=0.5).level == "poor"
    for found in (good, judged(inputs, matched=False)):
        assert as_html(found).count("No test image has an identity label") == 1


@pytest.mark.parametrize(
    ("rank1", "mean_ap", "level", "words"),
    [
        (0.9, 0.8, "good", "most first hits are right"),
        (0.5, 0.4, "fair", "checks every hit"),
        (0.2, 0.3, "poor", "most first hits are wrong"),
        (0.9, 0.15, "poor", "hardly more often than chance"),
    ],
)
def test_with_labels_the_verdict_rests_on_the_scores(rank1, mean_ap, level, words):
    mean = Of(rank1=rank1, mAP=mean_ap, chance_mAP=0.1)
    result = Of(mean=mean, protocol="folder <full>")
    found = verdict(replace(made(**SMALL), evaluation=Of(results={"a": result})))
    assert (found.level, words in found.words) == (level, True)
    assert f"in {100 * rank1:.0f} of 100 searches" in found.reasons[0]
    assert "folder &lt;full&gt;" in found.reasons[0]


def test_the_map_can_be_coloured_by_cluster_and_by_camera(monkeypatch):
    monkeypatch.setattr(plane, "FEWEST", 4)
    monkeypatch.setattr(plane, "_plane", lambda features: features)
    html = plane.embedding_map(made(**SMALL)).html
    assert re.findall(r'<input type="radio" name="map" id="map-(\w+)"( checked)?', html) == [
        ("cluster", " checked"),
        ("camera", ""),
    ]
    points = re.findall(r'<(circle|path)[^>]*class="([^"]*)"><title>([^<]*)', html)
    assert [shape for shape, *_ in points] == ["circle"] * 6 + ["path"] * 4
    # The clusters 0 and 1 have five and four images; the sixth visible image has none.
    assert points[0] == ("circle", "cluster0 camera0", "visible, door, cluster 0, visible-0.png")
    assert points[5] == ("circle", "camera0", "visible, door, visible-5.png")
    assert points[6][1] == "cluster0 camera1" and points[8][1] == "cluster1 camera1"
    for rule in ("#map-cluster:checked~figure .cluster0{", "#map-camera:checked~.of-camera{"):
        assert rule in html
    by_person = plane.embedding_map(made(**SMALL, pids=[7, 7, 8, 9, 9, 1, 7, 7, 4, 4])).html
    assert 'id="map-person" checked' in by_person and "person 7" in by_person
