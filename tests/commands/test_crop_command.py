"""`visir crop`: crops and labels.csv from boxes made elsewhere, read back by everything else."""

import csv
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from fake_run import PixelEmbedder
from PIL import Image

from visir import cli
from visir.commands.crop import crop
from visir.core.types import InputError
from visir.data.boxes import FORMATS
from visir.data.registry import open_benchmark
from visir.embedding import bulk
from visir.gallery.add import add
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import EVERYTHING
from visir.sources import detector
from visir.sources.crop import ReadOptions
from visir.sources.tracks import Box

MOMENT = datetime(2026, 1, 31, 17, 0, tzinfo=UTC).timestamp()
OPTIONS = {"start": "2026-01-31T18:00+01:00", "fps": 4.0}
LINES = "1,7,21,11,40,80,1\n3,7,31,11,40,80,1\n3,8,-9,11,40,80,1\n"


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (100, 200, 3), dtype=np.uint8)


@pytest.fixture
def frames(tmp_path):
    for folder in ("visible/gate", "thermal/yard"):
        (tmp_path / "site" / folder).mkdir(parents=True)
        for number in range(1, 5):
            path = tmp_path / "site" / folder / f"{number:06d}.png"
            Image.fromarray(noise(number)).save(path)
    (tmp_path / "gate.txt").write_text(LINES)
    return tmp_path / "site"


def rows(out):
    with (out / "labels.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def pixels(path):
    return np.asarray(Image.open(path))


def test_crops_and_their_table_are_written(frames, tmp_path):
    out, gate = tmp_path / "out", frames / "visible" / "gate"
    done = crop(gate, out, boxes=tmp_path / "gate.txt", tag=("a", "b c"), **OPTIONS)
    assert str(done).splitlines() == [
        f"3 crops of 2 tracks in {out}, 0 skipped",
        "1 boxes cut off at the frame's edge",
    ]
    found = rows(out)
    names = ["000001_track_7", "000003_track_7", "000003_track_8"]
    assert list(found) == [f"visible/gate/{name}.png" for name in names]
    assert found["visible/gate/000003_track_7.png"] == {
        "path": "visible/gate/000003_track_7.png",
        "camera": "gate",
        "time": "2026-01-31T17:00:00.500+00:00",
        "tags": "a;b c",
        "track": "gate:7",
        "source": f"{gate / '000003.png'}::track 7",
    }
    cut = pixels(out / "visible" / "gate" / "000003_track_7.png")
    np.testing.assert_array_equal(cut, noise(3)[10:90, 30:70])
    cut = pixels(out / "visible" / "gate" / "000003_track_8.png")
    np.testing.assert_array_equal(cut, noise(3)[10:90, :30])


def test_two_cameras_in_one_folder_make_a_data_set(frames, tmp_path):
    out = tmp_path / "out"
    for camera in ("visible/gate", "thermal/yard", "visible/gate"):
        crop(frames / camera, out, boxes=tmp_path / "gate.txt", crops=1, **OPTIONS)
    bench = open_benchmark(out)
    assert (len(bench.train), bench.test) == (4, ())  # tracks are no identities
    assert bench.cameras == {1: "gate", 2: "yard"}
    assert {row["track"] for row in rows(out).values()} == {"gate:7", "gate:8", "yard:7", "yard:8"}


def test_labels_that_somebody_added_stay(frames, tmp_path):
    out, gate = tmp_path / "out", frames / "visible" / "gate"
    crop(gate, out, boxes=tmp_path / "gate.txt")
    table = (out / "labels.csv").read_text().splitlines()
    table = [f"{table[0]},pid", f"{table[1]},anna", *(f"{line}," for line in table[2:])]
    (out / "labels.csv").write_text("\n".join(table) + "\n")
    crop(gate, out, boxes=tmp_path / "gate.txt", tag=("new",))
    first, *others = rows(out).values()
    assert (first["pid"], first["tags"]) == ("anna", "new")
    assert {row["pid"] for row in others} == {""}


def test_crops_of_other_frames_with_the_same_names_stay(frames, tmp_path):
    out = tmp_path / "out"
    for folder in (frames / "visible" / "gate", frames / "thermal" / "yard"):
        moved = folder.rename(tmp_path / folder.name)
        crop(moved, out, boxes=tmp_path / "gate.txt", camera="x", modality="visible")
    names = {path.rpartition("/")[2] for path in rows(out)}
    assert {"000001_track_7.png", "000001_track_7_2.png"} < names
    assert len(names) == 6


def entries(folder):
    found = [
        pair
        for part, vectors in bulk.read_shards(folder)
        for pair in zip(part, vectors, strict=True)
    ]
    return sorted((entry.time, entry.camera, vector.tolist()) for entry, vector in found)


def test_boxes_are_an_input_of_embed_and_index_add(frames, tmp_path):
    out, gate, file = tmp_path / "out", frames / "visible" / "gate", tmp_path / "gate.txt"
    crop(gate, out, boxes=file, **OPTIONS)
    settings = ReadOptions(boxes=file, start=MOMENT, fps=4.0)
    with pytest.warns(UserWarning, match="1 boxes cut off"):
        done = bulk.embed_many(PixelEmbedder(), [gate], tmp_path / "direct", settings)
    assert done.embedded == 3
    bulk.embed_many(PixelEmbedder(), [out], tmp_path / "written", ReadOptions())
    assert entries(tmp_path / "direct") == entries(tmp_path / "written")
    assert entries(tmp_path / "direct")[0][:2] == (MOMENT, "gate")
    store = SqliteStore(tmp_path / "gallery", create=True)
    for expected in ((3, 0), (0, 3)):
        with pytest.warns(UserWarning, match="1 boxes cut off"):
            assert add(store, PixelEmbedder(), [gate], settings)[:2] == expected
    assert {item.source.rpartition("/")[2] for item in store.select(EVERYTHING)} == {
        "000001.png::track 7", "000003.png::track 7", "000003.png::track 8",
    }  # fmt: skip
    store.close()


def test_the_command_line_takes_boxes(frames, tmp_path, capsys):
    gate, file = str(frames / "visible" / "gate"), str(tmp_path / "gate.txt")
    out = str(tmp_path / "out")
    words = ["crop", gate, out, "--boxes", file, "--format", "mot", "--crops", "1"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith(f"2 crops of 2 tracks in {out}, 0 skipped")
    assert cli.main(["crop", gate, out]) == 2
    said = capsys.readouterr().err
    assert "gate: has no boxes of people; name the file that holds them with --boxes" in said
    assert cli.main(["crop", gate, out, "--boxes", file, "--start", "noon"]) == 2
    assert "start: 'noon' is not a time" in capsys.readouterr().err


def test_a_stop_leaves_the_table_of_what_is_written(frames, tmp_path):
    out, gate = tmp_path / "out", frames / "visible" / "gate"
    (gate / "000003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000003\.png: not an image .*--skip-broken"):
        crop(gate, out, boxes=tmp_path / "gate.txt")
    assert list(rows(out)) == ["visible/gate/000001_track_7.png"]
    done = crop(gate, out, boxes=tmp_path / "gate.txt", skip_broken=True)
    assert (done.written, len(done.skipped)) == (1, 2)


def test_every_format_can_be_named():
    from visir.commands.arguments import find

    for name in ("crop", "embed", "index add"):
        (argument,) = [a for a in find(name).arguments if a.name == "format"]
        assert argument.choices == ("auto", *FORMATS)


def film(path, count=10, size=(100, 200)):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.height, stream.width, stream.pix_fmt = *size, "bgr0"
        for number in range(count):
            picture = np.zeros((*size, 3), np.uint8)
            picture[..., 0] = 20 * number
            picture[10:90, 20:60, 1] = 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_a_video_is_cut_at_the_numbers_of_its_frames(tmp_path):
    path, out = film(tmp_path / "gate.mkv"), tmp_path / "out"
    (tmp_path / "a").write_text("1,7,21,11,40,80,1\n8,7,21,11,40,80,1\n")
    done = crop(path, out, boxes=tmp_path / "a", start="2026-01-31T17:00", modality="visible")
    assert (done.written, done.tracks) == (2, 1)
    assert {row["time"] for row in rows(out).values()} == {
        "2026-01-31T17:00:00.000+00:00", "2026-01-31T17:00:01.400+00:00",
    }  # fmt: skip
    found = pixels(out / "visible" / "gate" / "gate_track_7_frame_7.png")
    assert (found == [140, 200, 0]).all()
    assert found.shape == (80, 40, 3)


@pytest.mark.slow
def test_boxes_of_label_studio_end_with_the_video(tmp_path):
    path, out = film(tmp_path / "gate.mkv"), tmp_path / "out"
    step = {"frame": 8, "x": 10, "y": 10, "width": 20, "height": 60, "enabled": True}
    value = {"sequence": [step], "framesCount": 99, "labels": ["Person"]}
    result = [{"id": "a", "type": "videorectangle", "value": value}]
    content = [{"data": {"video": "gate.mkv"}, "annotations": [{"result": result}]}]
    (tmp_path / "a").write_text(json.dumps(content))
    done = crop(path, out, boxes=tmp_path / "a", start="2026-01-31T17:00", modality="visible")
    assert (done.written, done.tracks) == (3, 1)  # of the ten frames the last three


@pytest.mark.slow
def test_boxes_that_do_not_fit_a_video_are_refused(tmp_path):
    path, out = film(tmp_path / "gate.mkv"), tmp_path / "out"
    (tmp_path / "a").write_text("1,7,21,11,40,80,1\n11,7,21,11,40,80,1\n")
    with pytest.raises(InputError, match=r"gate\.mkv: has no frame 10 \(from 0\); is it the video"):
        crop(path, out, boxes=tmp_path / "a")
    assert crop(path, out, boxes=tmp_path / "a", skip_broken=True).written == 1
    with pytest.raises(InputError, match=r"gate\.mkv is a video, which has its own times; leave"):
        crop(path, out, boxes=tmp_path / "a", fps=5.0)
    named = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"id": 2, "image_id": 1, "bbox": [20, 10, 40, 80]}],
    }
    (tmp_path / "b").write_text(json.dumps(named))
    with pytest.raises(
        InputError, match=r"annotation 2: names the image 1\.png, but .* is a video"
    ):
        crop(path, out, boxes=tmp_path / "b")
    (tmp_path / "c").write_text(
        "<annotations><original_size><width>640</width><height>480</height></original_size>"
        '<track id="1"><box frame="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track></annotations>'
    )
    with pytest.raises(InputError, match=r"was made on frames of 640 x 480 pixels, but .* has 200"):
        crop(path, out, boxes=tmp_path / "c")
    (tmp_path / "gate.mkv").write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"gate\.mkv: the video is cut short or damaged"):
        crop(path, out, boxes=tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        ("avi", "no frame can be read; replace or remove"),
        ("mp4", "holds neither pictures nor sound; remove it"),
        ("mkv", "the video is cut short or damaged"),
    ],
)
def test_a_video_without_frames_is_refused(tmp_path, ending, fault):
    av = pytest.importorskip("av")
    path = tmp_path / f"gate.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 100, 200, "yuv420p"
        stream.codec_context.open()
        container.start_encoding()
    (tmp_path / "a").write_text("1,7,21,11,40,80,1\n")
    with pytest.raises(InputError, match=rf"gate\.{ending}: {fault}"):
        crop(path, tmp_path / "out", boxes=tmp_path / "a")


@pytest.mark.slow
def test_a_detector_takes_the_place_of_boxes(tmp_path, monkeypatch):
    def find(pixels):
        return [Box(20, 10, 60, 90, 0.9)]

    monkeypatch.setattr(detector, "load_detector", lambda weights, device: find)
    out = tmp_path / "out"
    done = crop(film(tmp_path / "gate.mkv"), out, detector=tmp_path / "none.pth", crops=2)
    assert (done.written, done.tracks) == (2, 1)
    assert {row["track"] for row in rows(out).values()} == {"gate:1"}
    with pytest.raises(InputError, match=r"gate\.mkv: a video needs a person detector"):
        crop(tmp_path / "gate.mkv", out)
