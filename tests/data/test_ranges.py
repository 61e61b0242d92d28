import json

import numpy as np
import pytest
from PIL import Image

from tests.tiff_files import write_tiff
from visir.core.types import InputError, Modality, Span
from visir.data import pixels
from visir.data.dataset import open_training_set
from visir.data.images import read_image
from visir.data.locate import gallery_items
from visir.data.ranges import RangeBook, as_json, from_json, likely, read_ranges
from visir.data.registry import open_benchmark


def counts(low, high, shape=(40, 20)):
    """Values from low to high, each as often as the others, the same in every image."""
    return np.linspace(low, high, shape[0] * shape[1]).reshape(shape).astype(np.uint16)


@pytest.fixture
def site(tmp_path):
    """Two thermal cameras with other raw values, one that writes 8 bits, and colour images."""
    root = tmp_path / "site"
    for number in range(3):
        write_tiff(root / "infrared/yard" / f"{number}.tiff", counts(7000, 9000))
        write_tiff(root / "infrared/roof" / f"{number}.tiff", counts(29000, 31000))
        for name, shape in (("infrared/old", (40, 20)), ("visible/door", (40, 20, 3))):
            path = root / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(noise).save(path)
    return root


def test_each_camera_is_measured(site):
    ranges = open_benchmark(site).ranges
    assert sorted(ranges) == ["infrared/roof", "infrared/yard"]
    # .5 and 99.5 % of evenly spread values from 7000 to 9000 are 7010 and 8990; a tenth of the
    # 1980 between them is room on both sides.
    assert ranges["infrared/yard"] == pytest.approx((6812, 9188), abs=2)
    assert ranges["infrared/roof"] == pytest.approx((28812, 31188), abs=2)


def test_a_hot_spot_or_a_dead_pixel_moves_nothing(site):
    values = counts(7000, 9000)
    values[0, 0], values[0, 1] = 65535, 0
    write_tiff(site / "infrared/yard/1.tiff", values)
    assert open_benchmark(site).ranges["infrared/yard"] == pytest.approx((6812, 9188), abs=10)


def test_ranges_json_comes_first(site):
    (site / "ranges.json").write_text('{"infrared/yard": [6000, 10000], "infrared": [0, 40000]}')
    benchmark = open_benchmark(site)
    assert benchmark.ranges == {
        "infrared/yard": Span(6000, 10000),
        "infrared/roof": Span(0, 40000),
        "infrared/old": Span(0, 40000),  # without effect: its images have 8 bits
    }
    spans = {record.path.parent.name: record.span for record in benchmark.train}
    assert spans == {"yard": (6000, 10000), "roof": (0, 40000), "old": (0, 40000), "door": None}
    items = {item.camera: item.record.span for item in gallery_items(site)}
    assert items == spans


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nonsense", "cannot be read as JSON"),
        ("[1, 2]", "holds no ranges of cameras"),
        ('{"yard": [1, 2]}', "'yard' begins with no modality"),
        ('{"infrared/yard": [1]}', "is .1., not two numbers"),
        ('{"infrared/yard": [1, "2"]}', "not two numbers"),
        ('{"infrared/yard": [9, 9]}', "low 9 and high 9"),
        ('{"infrared/yard": [9000, 7000]}', "low 9000 and high 7000"),
        ('{"infrared/yard": [1, NaN]}', "not two numbers"),
    ],
)
def test_faults_of_ranges_json_are_named(tmp_path, text, fault):
    (tmp_path / "ranges.json").write_text(text)
    with pytest.raises(InputError, match=rf"ranges\.json: .*{fault}"):
        read_ranges(tmp_path)


def test_ranges_are_written_as_they_are_read():
    ranges = {"infrared/yard": Span(1.5, 2.0), "infrared": Span(0, 1)}
    assert from_json(json.loads(json.dumps(as_json(ranges))), "here") == ranges
    assert as_json({}) == {}


def test_a_networks_range_is_used_where_it_fits(site):
    known = {"infrared/yard": Span(6900, 9100), "infrared/roof": Span(100, 200)}
    ranges = open_benchmark(site, known=known).ranges
    assert ranges["infrared/yard"] == Span(6900, 9100)
    assert ranges["infrared/roof"] == pytest.approx((28812, 31188), abs=2)  # another camera


def test_what_a_gallery_holds_is_binding(site):
    book = RangeBook(kept={"infrared/yard": Span(1, 2)})
    items = gallery_items(site, book=book)
    assert {item.record.span for item in items if item.camera == "yard"} == {Span(1, 2)}
    assert sorted(book.used) == ["infrared/roof", "infrared/yard"]
    (site / "ranges.json").write_text('{"infrared/yard": [1, 3]}')
    with pytest.raises(InputError, match=r"ranges\.json: infrared/yard has the range \[1.0, 3.0\]"):
        gallery_items(site, book=book)


def test_the_range_of_an_unknown_camera():
    ranges = {"infrared/yard": Span(1, 2)}
    assert likely(ranges, Modality.INFRARED, "yard") == Span(1, 2)
    assert likely(ranges, Modality.INFRARED, None) == Span(1, 2)  # the only one
    assert likely(ranges, Modality.VISIBLE, "yard") is None
    assert likely({**ranges, "infrared/roof": Span(3, 4)}, Modality.INFRARED, "hall") is None


def test_training_sees_the_range(site, tmp_path):
    """The cameras' pictures are the same once each has its range; another range is other pixels."""
    records = open_benchmark(site).train
    data = open_training_set(records, (40, 20), tmp_path / "cache")
    rows = {record.path.parent.name: row for row, record in enumerate(records)}
    yard, roof = (data.pixels[rows[name]].astype(int) for name in ("yard", "roof"))
    assert np.abs(yard - roof).max() <= 1
    assert len(np.unique(yard)) > 200
    (site / "ranges.json").write_text('{"infrared/yard": [9000, 12000]}')
    other = open_training_set(open_benchmark(site).train, (40, 20), tmp_path / "cache")
    assert (other.pixels[rows["yard"]] == 0).all()


def test_nothing_is_stretched_alone(site, recwarn):
    for record in open_benchmark(site).train:
        read_image(record.path, record.modality, record.span)
    assert not [each for each in recwarn if each.category is pixels.RangeWarning]
    with pytest.warns(pixels.RangeWarning):
        read_image(site / "infrared/yard/0.tiff")
