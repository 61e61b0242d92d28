"""Boxes made elsewhere, cut out of folders of frames: the right pixels, or a word why not."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError, Modality
from visir.sources import boxes
from visir.sources.crop import Broken, ReadOptions
from visir.sources.plan import WorkUnit, crops, work_units

MOMENT = datetime(2026, 1, 31, 17, 0, tzinfo=UTC).timestamp()
LEFT, TOP, RIGHT, BOTTOM = 20, 10, 60, 90


def frame(path, number=0, size=(100, 200), grey=False):
    """Every pixel is another: red its row, green its column, blue the frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices(size)
    pixels = np.stack([rows, columns, np.full(size, number)], axis=-1)
    Image.fromarray((pixels[..., :1].repeat(3, -1) if grey else pixels).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def frames(tmp_path):
    for number in range(1, 5):
        frame(tmp_path / "gate" / f"{number:06d}.png", number)
    return tmp_path / "gate"


def mot(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def read(folder, file, skip=False, **options):
    settings = ReadOptions(boxes=file, **options)
    units = work_units([folder], settings, 3, skip)
    plain = [WorkUnit(*json.loads(json.dumps(unit))) for unit in units]
    return [crop for unit in plain for crop in crops(unit, settings, lambda: pytest.fail("none"))]


def edges(crop):
    """Frame, left, top, right and bottom, as the pixels say them."""
    first, last = crop.image[0, 0], crop.image[-1, -1]
    return (first[2], first[1], first[0], last[1] + 1, last[0] + 1)


EVERY_FORMAT = {
    "mot": "2,7,21,11,40,80,1,-1,-1,-1\n",
    "coco": json.dumps({
        "images": [{"id": 1, "file_name": "site\\gate\\000002.png", "width": 200, "height": 100}],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [20, 10, 40, 80], "track_id": 7}],
    }),
    "cvat": '<annotations><track id="7" label="person"><box frame="1" outside="0" xtl="20" ytl="10"'
    ' xbr="60" ybr="90"/></track></annotations>',
    "label-studio": json.dumps([{
        "data": {"video": "v.mp4"},
        "annotations": [{"result": [{
            "id": "7", "type": "videorectangle",
            "value": {"sequence": [
                {"frame": 2, "x": 10, "y": 10, "width": 20, "height": 80, "enabled": False}
            ]},
        }]}],
    }]),
}  # fmt: skip


@pytest.mark.parametrize("form", [*EVERY_FORMAT, "yolo"])
def test_every_format_names_the_same_pixels(frames, tmp_path, form):
    file = tmp_path / "boxes"
    if form == "yolo":
        file.mkdir()
        (file / "classes.txt").write_text("person\n")
        (file / "000002.txt").write_text("0 0.2 0.5 0.2 0.8 7\n")
    else:
        file.write_text(EVERY_FORMAT[form])
    (crop,) = read(frames, file)
    assert edges(crop) == (2, LEFT, TOP, RIGHT, BOTTOM)
    assert crop.source == f"{frames / '000002.png'}::track 7"
    assert (crop.camera, crop.modality, crop.time) == ("gate", Modality.VISIBLE, None)
    assert crop.track == "gate:7"


def test_label_studio_may_count_more_frames_than_there_are(frames, tmp_path):
    content = json.loads(EVERY_FORMAT["label-studio"])
    value = content[0]["annotations"][0]["result"][0]["value"]
    value["sequence"][0]["enabled"], value["framesCount"] = True, 99
    (tmp_path / "boxes").write_text(json.dumps(content))
    found = read(frames, tmp_path / "boxes")
    assert [edges(crop)[0] for crop in found] == [2, 3, 4]
    value["sequence"][0]["frame"] = 99  # a key frame has to be there
    (tmp_path / "boxes").write_text(json.dumps(content))
    with pytest.raises(InputError, match="none of the frames"):
        read(frames, tmp_path / "boxes")


def test_a_box_with_decimals_takes_the_pixels_it_touches(frames, tmp_path):
    file = mot(tmp_path / "a", "1,1,21.4,11,39.2,80.0000001,1", "1,2,21,11,1,1,1")
    first, second = read(frames, file)
    assert edges(first) == (1, 20, 10, 60, 90)
    assert edges(second) == (1, 20, 10, 21, 11)


def test_the_number_of_a_frame_is_that_of_the_boxes(tmp_path):
    file = mot(tmp_path / "a", "12,1,21,11,40,80,1")
    for start in (11, 12, 13):  # the first frames are missing
        frame(tmp_path / "late" / f"{start:06d}.png", start)
    assert edges(read(tmp_path / "late", file)[0])[0] == 12
    for number in range(12):  # counted from 0, so the twelfth is 11
        frame(tmp_path / "zero" / f"{number}.png", number)
    assert edges(read(tmp_path / "zero", file)[0])[0] == 11
    for number in range(12):  # names are times: the place counts
        frame(tmp_path / "times" / f"20260131_1700{number:02d}.png", number)
    (crop,) = read(tmp_path / "times", file)
    assert (edges(crop)[0], crop.time) == (11, MOMENT + 11)


def test_times_are_counted_from_the_start(frames, tmp_path):
    file = mot(tmp_path / "a", "1,1,21,11,40,80,1", "4,1,21,11,40,80,1")
    options = {"start": MOMENT, "fps": 2.0, "tags": ("night",), "camera": "door"}
    first, last = read(frames, file, **options)
    assert (first.time, last.time) == (MOMENT, MOMENT + 1.5)
    assert (first.camera, first.tags) == ("door", ("night",))


def test_folders_and_colours_say_camera_and_modality(tmp_path):
    root = tmp_path / "site"
    frame(root / "visible" / "a" / "1.png")
    frame(root / "infrared" / "b" / "1.png")
    frame(root / "x" / "2.png", grey=True)
    names = ("visible/a/1.png", "infrared/b/1.png", "x/2.png")
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [{"image_id": n, "bbox": [20, 10, 40, 80], "track_id": 1} for n in range(3)],
    }
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    found = {crop.camera: crop for crop in read(root, file)}
    assert found["a"].modality is Modality.VISIBLE
    assert found["b"].modality is Modality.INFRARED
    assert found["site"].modality is Modality.INFRARED


def test_a_name_that_fits_two_images_is_refused(tmp_path):
    for folder in "ab":
        frame(tmp_path / "s" / folder / "1.png")
    file = tmp_path / "a.json"
    content = {
        "images": [{"id": 1, "file_name": "1.png"}],
        "annotations": [{"image_id": 1, "bbox": [20, 10, 40, 80]}],
    }
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"s: 2 images are named 1\.png; write their folders"):
        read(tmp_path / "s", file)
    with pytest.raises(InputError, match="the boxes number their frames, but the images are in"):
        read(tmp_path / "s", mot(tmp_path / "b", "1,1,21,11,40,80,1"))


def test_names_of_an_upload_and_decomposed_ones_are_found(tmp_path):
    frame(tmp_path / "s" / "Zoe\u0308 1.png")
    value = {"x": 10, "y": 10, "width": 20, "height": 80}
    content = [{
        "data": {"image": "/data/upload/1/0a1b2c3d-Zo%C3%AB%201.png"},
        "annotations": [{"result": [{"id": "r", "type": "rectangle", "value": value}]}],
    }]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    (crop,) = read(tmp_path / "s", tmp_path / "a.json")
    assert edges(crop)[1:] == (20, 10, 60, 90)
    assert (crop.track, crop.source[-7:]) == (None, "::box 1")


def test_the_frame_is_read_upright(tmp_path):
    path = frame(tmp_path / "s" / "1.png", size=(200, 100))
    with Image.open(path) as lying:
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise
        lying.save(tmp_path / "s" / "1.png", exif=exif)
    (crop,) = read(tmp_path / "s", mot(tmp_path / "a", "1,1,161,1,40,100,1"))
    assert crop.image.shape == (100, 40, 3)
    assert crop.image[0, -1].tolist() == [0, 0, 0]  # the former first pixel, now at the right


def test_a_few_crops_of_each_track(frames, tmp_path):
    lines = [f"{n},{track},21,11,{40 + n},80,1" for n in range(1, 5) for track in (1, 2)]
    file = mot(tmp_path / "a", *lines)
    assert len(read(frames, file, crops=None)) == 8
    found = read(frames, file, crops=2)
    assert [(edges(crop)[0], crop.track) for crop in found] == [
        (2, "gate:1"), (2, "gate:2"), (4, "gate:1"), (4, "gate:2"),
    ]  # fmt: skip
    with pytest.raises(InputError, match="crops: must be 1 or more per person, got 0"):
        read(frames, file, crops=0)


def test_boxes_without_tracks_of_a_sequence_are_followed(frames, tmp_path):
    lines = [f"{n},-1,{20 + n},11,40,80,0.9" for n in range(1, 5)]
    lines += [f"{n},-1,{120 + n},11,40,80,0.9" for n in range(1, 5)]
    found = read(frames, mot(tmp_path / "a", *lines), crops=None)
    tracks = {track: [c for c in found if c.track == track] for track in {c.track for c in found}}
    assert sorted(tracks) == ["gate:found 1", "gate:found 2"]
    assert [edges(crop)[:2] for crop in tracks["gate:found 1"]] == [
        (n, 19 + n) for n in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("fps", "hidden", "count"),
    [
        (25.0, 10, 1),
        (25.0, 24, 1),
        (25.0, 27, 2),
        (1.0, 1, 1),
        (1.0, 3, 2),
        (None, 5, 1),
        (None, 6, 2),
    ],
)  # seconds where the rate is known, else five frames
def test_patience_is_in_seconds_where_times_are_known(tmp_path, fps, hidden, count):
    numbers = [1, 2, 3, 3 + hidden + 1, 3 + hidden + 2]
    for number in numbers:
        frame(tmp_path / "gate" / f"{number:06d}.png")
    file = mot(tmp_path / "a", *(f"{number},-1,21,11,40,80,1" for number in numbers))
    found = read(tmp_path / "gate", file, fps=fps, modality=Modality.VISIBLE)
    assert len({crop.track for crop in found}) == count


def test_boxes_past_the_edge_are_cut_off_and_counted(frames, tmp_path):
    file = mot(tmp_path / "a", "1,1,-9,-9,40,80,1", "1,2,181,51,40,80,1", "1,3,1,1,200,100,1")
    with pytest.warns(boxes.BoxesWarning, match="boxes: 2 boxes cut off at the frame's edge"):
        found = read(frames, file)
    assert [edges(crop)[1:] for crop in found] == [
        (0, 0, 30, 70), (180, 50, 200, 100), (0, 0, 200, 100),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,21,11,0,80,1", "a: line 2: the box is 0 x 80 pixels; correct its width and height"),
        ("1,2,21,11,40,-8,1", "a: line 2: the box is 40 x -8 pixels"),
        (
            "1,2,201,11,40,80,1",
            "line 2: the box from 200, 10 to 240, 90 lies outside the frame of 200 x 100 pixels",
        ),
        ("1,2,-99,11,40,80,1", "line 2: the box from -100, 10 to -60, 90 lies outside the frame"),
        # findings/second-camera.sh
        (
            "1,1,101,11,40,80,1",
            "line 2: track 1 has another box in this frame, .*a: line 1; a track is one person",
        ),
        ("9,2,21,11,40,80,1", "line 2: frame 9 is not in .*gate; add it or remove the box"),
    ],
)
def test_boxes_that_cannot_be_cut_out_are_refused_or_counted(frames, tmp_path, line, message):
    file = mot(tmp_path / "a", "1,1,21,11,40,80,1", line)
    with pytest.raises(InputError, match=message + ".*, or skip broken images with --skip-broken"):
        read(frames, file)
    found = read(frames, file, skip=True)
    (broken,) = [crop for crop in found if isinstance(crop, Broken)]
    assert broken.reason.startswith(f"{tmp_path / 'a'}: line 2")
    assert len(found) == 2


def test_a_frame_that_is_no_image_is_reported(frames, tmp_path):
    (frames / "000002.png").write_bytes(b"")
    file = mot(tmp_path / "a", "1,1,21,11,40,80,1", "2,1,21,11,40,80,1")
    found = read(frames, file)
    assert [crop.reason for crop in found if isinstance(crop, Broken)] == [
        f"{frames / '000002.png'}: the file is empty (0 bytes); replace or remove it"
    ]
    assert len(found) == 2


def test_boxes_of_other_frames_are_refused(frames, tmp_path):
    file = tmp_path / "a.json"
    image = {"id": 1, "file_name": "000001.png", "width": 1920, "height": 1080}
    box = {"image_id": 1, "bbox": [20, 10, 40, 80]}
    file.write_text(json.dumps({"images": [image], "annotations": [box]}))
    with pytest.raises(
        InputError,
        match=r"a\.json: was made on frames of 1920 x 1080 pixels, but .*000001\.png has 200 x 100",
    ):
        read(frames, file)
    image["file_name"] = "other.png"
    file.write_text(json.dumps({"images": [image], "annotations": [box]}))
    with pytest.raises(InputError, match=r"none of the frames of its boxes is in .*4 images; give"):
        read(frames, file, skip=True)


def test_options_that_do_not_fit_are_refused(frames, tmp_path):
    file = mot(tmp_path / "a", "1,1,21,11,40,80,1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "s.tar").write_bytes(b"x")
    for folders, options, message in (
        ([frames], {"start": MOMENT}, "start: .*gate has no frame rate; give it with --fps"),
        ([frames], {"start": MOMENT, "fps": 0.0}, "fps: must be more than 0 frames in a second"),
        ([frames, tmp_path / "empty"], {}, "a is of one folder of frames or one video, but 2 inp"),
        ([tmp_path / "s.tar"], {}, r"s\.tar is a tar file; unpack it"),
        ([tmp_path / "empty"], {}, "empty: holds no image; give the folder that holds the frames"),
    ):
        with pytest.raises(InputError, match=message):
            list(work_units(folders, ReadOptions(boxes=file, **options), 3))


def test_a_motchallenge_sequence_needs_no_option(tmp_path):
    root = tmp_path / "MOT17-02"
    for folder in ("img1", "previews"):
        for number in (1, 2):
            frame(root / folder / f"{number:06d}.png", number)
    (root / "gt").mkdir()
    mot(root / "gt" / "gt.txt", "1,7,21,11,40,80,1", "2,7,21,11,40,80,1")
    about = "[Sequence]\nname=MOT17-02-DPM\nimDir=img1\nframeRate=25\nimWidth=200\nimHeight=100\n"
    (root / "seqinfo.ini").write_text(about)
    found = read(root, root, start=MOMENT, modality=Modality.VISIBLE)
    assert [crop.camera for crop in found] == ["MOT17-02-DPM"] * 2
    assert [crop.track for crop in found] == ["MOT17-02-DPM:7"] * 2
    assert [crop.time for crop in found] == [MOMENT, MOMENT + 1 / 25]
    assert edges(found[1]) == (2, LEFT, TOP, RIGHT, BOTTOM)
    slower = read(root, root, start=MOMENT, fps=2.0, camera="door", modality=Modality.VISIBLE)
    assert [(crop.camera, crop.time) for crop in slower] == [
        ("door", MOMENT),
        ("door", MOMENT + 0.5),
    ]
    (root / "seqinfo.ini").write_text(about.replace("imWidth=200", "imWidth=1920"))
    with pytest.raises(InputError, match="made on frames of 1920 x 100 pixels"):
        read(root, root, modality=Modality.VISIBLE)
