import base64
import io
import json
import re

import pytest
from chromium import chromium
from fake_run import PROTOCOL, SIZE, PixelEmbedder, draw_person, make_run, make_sysu
from PIL import Image

import visir.embedding.pytorch
from visir.core.run import Run
from visir.core.types import InputError
from visir.report import figures, ranked_lists, write_report
from visir.report.clusters import clusters
from visir.report.inputs import evenly, gather

pytestmark = pytest.mark.slow

SECTIONS = (
    *("data", "results", "groups", "ranked", "failures", "map"),
    *("accuracy", "clusters", "losses", "settings"),
)


UNKNOWN_ONCE = ("warnings", "none_precision", "agreement_visible", "agreement_infrared",
                "image_pairs_precision", "image_pairs_recall", "ari", "ari_clustered")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def embedder():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visir.embedding.pytorch, "load", lambda path, device="cpu": PixelEmbedder())
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    return make_run(root / "a run", make_sysu(root / "data"))


@pytest.fixture(scope="module")
def page(run):
    path = write_report(run)
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture
def opened(page, run):
    """Open the page at a width, in light or dark; nothing may be asked for but the file itself."""
    asked = []
    with chromium() as browser:

        def go(width, scheme="light"):
            tab = browser.new_page(
                viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
            )
            tab.on("request", lambda request: asked.append(request.url[:5]))
            tab.goto((run / "report.html").as_uri())
            return tab

        yield go
    assert set(asked) <= {"file:", "data:"}


def section(page, name):
    found = re.search(rf'<section id="{name}"[^>]*>.*?</section>', page, re.DOTALL)
    assert found, f"section {name} is missing"
    return found[0]


def test_every_section_is_there_and_nothing_comes_from_elsewhere(page, run):
    for name in SECTIONS:
        assert section(page, name)
    assert not re.search(r"https?:|<script|<link|@import|\$\{?[a-z]", page)
    contents = page[page.index("<nav") : page.index("</nav>")]
    there = re.findall(r'<section id="(\w+)"', page)
    assert re.findall(r'href="#(\w+)"', contents) == there
    assert set(SECTIONS) <= set(there)
    assert all(link.startswith("#") for link in re.findall(r'(?:href|src)="([^"]*)"', page))
    assert f"visir report &#x27;{run}&#x27;" in section(page, "settings")
    assert "eps: 0.5" in section(page, "settings")


def test_pictures_are_stored_once_and_can_be_decoded(page):
    rules = re.findall(r"\.p(\d+)\{background-image:url\(data:image/jpeg;base64,([^)]*)\)\}", page)
    shown = set(re.findall(r'class="pic p(\d+)', page))
    assert {number for number, _ in rules} == shown
    assert len({code for _, code in rules}) == len(rules) > 20
    for _, code in rules:
        with Image.open(io.BytesIO(base64.b64decode(code, validate=True))) as picture:
            picture.load()
            assert picture.size == (112 * SIZE[1] // SIZE[0], 112)


def test_plots_take_the_colours_of_the_page(page):
    for name, minimum in (("clusters", 6), ("losses", 1), ("accuracy", 1), ("map", 1)):
        drawings = re.findall(r"<svg.*?</svg>", section(page, name), re.DOTALL)
        assert len(drawings) >= minimum
        for drawing in drawings:
            assert ("currentColor" in drawing) or name == "map"
            assert "#010203" not in drawing
            assert 'aria-hidden="true"' in drawing or 'role="img" aria-label="Map' in drawing
    names = re.findall(r' id="([^"]*)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(names)
    for words in ("epochs trained (0: the start)", "accuracy (%)", "mAP by chance"):
        assert words in section(page, "accuracy")


def test_warnings_stand_once_with_their_epochs(page):
    listed = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", section(page, "clusters"))
    assert [when for when, _ in listed] == ["epochs 3–5, 8", "epoch 5"]
    # The numbers of the last epoch it was said of.
    assert listed[0][1] == "Infrared: 20% of the images are outliers: raise eps, lower k1"
    assert "&lt;look&gt; at k1" in listed[1][1]
    assert "The numbers are those of the last epoch in the list." in section(page, "clusters")


def test_a_run_without_checks_is_not_called_faultless(tmp_path, run):
    data = Run(run).config.read_text().split("data: ")[1].splitlines()[0]
    for name, rule, said in (
        ("older", lambda line: [line.pop(key, None) for key in UNKNOWN_ONCE], False),
        ("good", lambda line: "warnings" in line and line["warnings"].clear(), True),
    ):
        again = make_run(tmp_path / name, data)
        lines = Run(again).read_metrics()
        for line in lines:
            rule(line)
        (again / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        part = section(write_report(again).read_text(), "clusters")
        assert ("No warnings." in part) == ("<h3>Warnings</h3>" in part) == said
        assert ("no match, precision" in part) == ("Stability" in part) == said
        assert "no match, recall" in part
        titles = ("Image pairs across modalities", "Labels against people")
        assert [title in part for title in titles] == [said, said]


def test_image_pairs_and_joint_labels_are_plotted(run, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "lines", lambda series, *_, **__: drawn.append(series) or "-")
    assert "Image pairs across modalities" in clusters(gather(Run(run), "cpu")).html
    last = {name: of[-1][1] for series in drawn for name, _, of in series}
    assert (last["precision"], last["recall"]) == (0.6, 0.4)
    assert (last["all images"], last["without outliers"]) == (0.5, 0.7)


def test_numbers_stand_with_their_protocol_and_come_from_the_features(page, run):
    inputs = gather(Run(run), "cpu")
    for result in inputs.evaluation.results.values():
        assert result.protocol in section(page, "results")
        assert f"<td>{100 * result.mean.mAP:.1f}" in section(page, "results")
    head = page[page.index("<header>") : page.index("</header>")]
    for words in (PROTOCOL, "chance", "random start", "warm-up", "after training", "× chance"):
        assert words in head
    assert "No test image was used in training." in head


def test_ranked_lists_follow_the_protocol(run):
    inputs = gather(Run(run), "cpu")
    for number in range(len(inputs.precision)):
        ranked = inputs.ranked(number)
        cams = {record.cam for record in ranked.gallery}
        assert cams == ({1, 4, 5} if ranked.query.cam == 3 else {1, 2, 4, 5})
        assert list(ranked.scores) == sorted(ranked.scores, reverse=True)
        right = [record.pid == ranked.query.pid for record in ranked.gallery]
        places = [place for place, good in enumerate(right, start=1) if good]
        precision = sum(n / place for n, place in enumerate(places, start=1)) / len(places)
        assert ranked.precision == pytest.approx(precision, abs=1e-6)
        assert ranked.match() == places[0] - 1


def test_failures_are_the_lowest_precisions_worst_first(page, run):
    shown = re.findall(r"average precision ([\d.]+) %", section(page, "failures"))
    lowest = sorted(100 * gather(Run(run), "cpu").precision)[: ranked_lists.FAILURES]
    assert [float(value) for value in shown] == pytest.approx(lowest, abs=0.051)
    assert 'class="pic' in section(page, "failures")


def test_an_unlabelled_folder_is_shown_without_scores(tmp_path):
    root = tmp_path / "crops"
    for view in range(6):
        draw_person(root / "visible" / "door" / f"{view}.png", view, False, view)
        draw_person(root / "infrared" / "gate" / f"{view}.png", view, True, view)
    page = write_report(make_run(tmp_path / "run", root, scored=False)).read_text()
    for name in ("results", "failures", "accuracy"):
        assert f'id="{name}"' not in page
    assert page.count("No test image has an identity label") == 1
    assert "Do not rely on this network yet" in page[: page.index("<section")]
    ranked = section(page, "ranked")
    assert "The identities are unknown" in ranked
    assert not re.search(r"✓|✗|hit\"|miss\"", ranked)
    assert "door" in section(page, "data")
    assert "<svg" in section(page, "map")


def test_images_trained_on_and_tested_on_are_called_so(tmp_path):
    root = tmp_path / "crops"
    rows = ["path,pid"]
    for pid in range(3):
        for modality in ("visible", "infrared"):
            draw_person(root / modality / f"{pid}.png", pid, modality == "infrared", pid)
            rows.append(f"{modality}/{pid}.png,{pid}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    page = write_report(make_run(tmp_path / "run", root)).read_text()
    assert "The test images were also used in training" in page
    assert "No test image was used in training" not in page
    assert 'id="map"' not in page  # six images


def test_a_run_without_metrics_has_a_report(tmp_path, run):
    data = Run(run).config.read_text().split("data: ")[1].splitlines()[0]
    fresh = make_run(tmp_path / "run", data)
    (fresh / "metrics.jsonl").unlink()
    page = write_report(fresh).read_text()
    for name in ("clusters", "losses", "accuracy"):
        assert f'id="{name}"' not in page
    assert "were not used in training" not in page


def test_missing_settings_or_data(tmp_path):
    with pytest.raises(InputError, match=r"config\.yaml"):
        write_report(tmp_path)
    run = make_run(tmp_path / "run", tmp_path / "gone")
    with pytest.raises(InputError, match=r"config\.yaml.*gone.*correct the field"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_evenly_spread_numbers():
    assert evenly(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly(3, 8).tolist() == [0, 1, 2]
    assert evenly(1, 5).tolist() == [0]
    assert evenly(0, 5).tolist() == []


def test_the_page_fits_a_phone_and_follows_the_dark_mode(opened):
    papers = []
    for width, scheme in ((360, "light"), (1200, "dark")):
        tab = opened(width, scheme)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        papers.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == ["rgb(251, 250, 247)", "rgb(20, 22, 26)"]


def test_the_keyboard_reaches_the_map_and_changes_its_colours(opened):
    tab = opened(1000)
    fill = "getComputedStyle(document.querySelector('#map .person0')).fill"
    assert tab.evaluate(fill) == "rgb(228, 87, 86)"  # the first of the tones
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.name") == "map":
            break
    assert tab.evaluate("document.activeElement.id") == "map-person"
    tab.keyboard.press("ArrowRight")
    chosen = tab.evaluate("document.querySelector('#map input:checked').id")
    assert chosen in ("map-cluster", "map-camera")
    assert tab.locator(f"#map .of-{chosen[4:]}").is_visible()
    assert not tab.locator("#map .of-person").is_visible()
    camera = "getComputedStyle(document.querySelector('#map .camera1')).fill"
    tab.locator("label[for=map-camera]").click()
    assert tab.evaluate(camera) == "rgb(59, 143, 212)"
