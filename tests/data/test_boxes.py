"""Boxes of five formats: the conventions of each, with values from its documentation.

One person is drawn in all of them: in a frame of 200 x 100 pixels the box whose first pixel is
column 20, row 10 and whose last is column 59, row 89 (both counted from 0), so the edges are
20, 10, 60, 90.
"""

import json

import pytest

from visir.core.types import InputError
from visir.data.boxes import format_of, read_boxes

EDGES = (20, 10, 60, 90)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def in_pixels(mark, size=(200, 100)):
    width, height = size
    return pytest.approx(
        (mark.left * width, mark.top * height, mark.right * width, mark.bottom * height)
    )


# findings/mot-first-pixel.sh
def test_mot_counts_frames_and_pixels_from_1(tmp_path):
    # frame, id, bb_left, bb_top, bb_width, bb_height, conf, x, y, z; all 1-based
    text = "1, 3, 21, 11, 40, 80, -1, -1, -1, -1\n2,-1,21.5,11,40,80,0.75,-1,-1,-1\n\n"
    found = read_boxes(write(tmp_path / "det.txt", text))
    assert (found.format, found.first, found.sequence, found.shares) == ("mot", 1, True, False)
    first, second = found.marks
    assert first[:5] == (0, *EDGES)
    assert (first.track, first.score, first.label) == ("3", 1, None)
    assert second[:5] == (1, 20.5, 10, 60.5, 90)
    assert (second.track, second.score) == (None, 0.75)
    assert second.where == f"{tmp_path / 'det.txt'}: line 2"


def test_mot_ground_truth_has_a_flag_and_classes(tmp_path):
    # frame, id, left, top, width, height, flag, class, visibility; class 1 pedestrian, 3 car,
    # 7 static person; flag 0: ignored
    text = "1,1,21,11,40,80,1,1,0.86\n1,2,1,1,9,9,1,3,1\n1,3,1,1,9,9,0,1,1\n2,4,21,11,40,80,1,7,0\n"
    write(tmp_path / "seq" / "gt" / "gt.txt", text)
    found = read_boxes(tmp_path / "seq")
    assert [(mark.track, mark.label) for mark in found.marks] == [
        ("1", "pedestrian"), ("4", "static person"),
    ]  # fmt: skip
    assert found.left_out == {"label car": 1, "marked as ignored (conf 0)": 1}
    write(tmp_path / "seq" / "gt" / "labels.txt", "cat\nperson\n")  # as CVAT exports
    with pytest.raises(InputError, match=r"gt\.txt: its boxes have the labels cat, class 3, class"):
        read_boxes(tmp_path / "seq")


SEQUENCE = """[Sequence]
name=MOT17-02-DPM
imDir=img1
frameRate=30
seqLength=600
imWidth=1920
imHeight=1080
imExt=.jpg
"""


def test_mot_says_frame_rate_size_and_folder_in_seqinfo(tmp_path):
    for place in ("gt/gt.txt", "det/det.txt"):
        write(tmp_path / place, "1,3,21,11,40,80,1\n")
    write(tmp_path / "seqinfo.ini", SEQUENCE)
    for path in (tmp_path, tmp_path / "gt" / "gt.txt", tmp_path / "det" / "det.txt"):
        found = read_boxes(path)
        assert (found.fps, found.folder, found.camera) == (30.0, "img1", "MOT17-02-DPM")
        assert found.sizes == {None: (1920, 1080)}
    write(tmp_path / "seqinfo.ini", "[Sequence]\nframeRate=29.97\n")
    found = read_boxes(tmp_path)
    assert (found.fps, found.folder, found.camera, found.sizes) == (29.97, None, None, {})
    (tmp_path / "seqinfo.ini").unlink()
    assert read_boxes(tmp_path).fps is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[Sequence]\nframeRate=fast\n", "seqinfo.ini: frameRate is 'fast'; write a number there"),
        ("[Sequence]\nframeRate=0\n", "seqinfo.ini: frameRate is '0'; write a number above 0"),
        (
            "[Sequence]\nimWidth=-1\nimHeight=9\n",
            "seqinfo.ini: imWidth is '-1'; write",
        ),
        ("frameRate=30\n", "seqinfo.ini: cannot be read .*; correct or remove it"),
    ],
)
def test_a_seqinfo_that_cannot_be_used_is_named(tmp_path, text, said):
    write(tmp_path / "gt" / "gt.txt", "1,3,21,11,40,80,1\n")
    write(tmp_path / "seqinfo.ini", text)
    with pytest.raises(InputError, match=said):
        read_boxes(tmp_path)


def coco(**changes):
    box = {"id": 5, "image_id": 9, "category_id": 1, "bbox": [20, 10, 40, 80], "iscrowd": 0}
    image = {"id": 9, "file_name": "cam/000001.jpg", "width": 200, "height": 100}
    return {
        "images": [image],
        "annotations": [{**box, **changes}],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }


def test_coco_counts_from_0_and_has_floats(tmp_path):
    # "box coordinates are measured from the top left image corner and are 0-indexed"
    found = read_boxes(write(tmp_path / "a.json", coco(bbox=[20.25, 10, 39.5, 80.0], track_id=7)))
    (mark,) = found.marks
    assert (found.format, found.sequence, found.shares) == ("coco", False, False)
    assert mark[:5] == ("cam/000001.jpg", 20.25, 10, 59.75, 90)
    assert (mark.label, mark.track) == ("person", "7")
    assert found.sizes == {"cam/000001.jpg": (200, 100)}


@pytest.mark.parametrize(
    ("changes", "track"),
    [({}, None), ({"instance_id": 4}, "4"), ({"attributes": {"track_id": 0}}, "0")],
)
def test_coco_tracks(tmp_path, changes, track):
    assert read_boxes(write(tmp_path / "a.json", coco(**changes))).marks[0].track == track


# findings/annotation-zero.sh
def test_a_coco_annotation_may_have_the_number_0(tmp_path):
    first, second = (coco(id=number)["annotations"][0] for number in (0, 1))
    content = {**coco(), "annotations": [first, second]}
    assert len(read_boxes(write(tmp_path / "a.json", content)).marks) == 2


# findings/outside-box.sh
def test_coco_boxes_of_people_no_longer_seen_are_left_out(tmp_path):
    content = coco(attributes={"outside": False, "track_id": 0})
    content["annotations"] += coco(attributes={"outside": True, "track_id": 0})["annotations"]
    found = read_boxes(write(tmp_path / "a.json", content))
    assert [mark.track for mark in found.marks] == ["0"]
    assert found.left_out == {"of people no longer seen (outside)": 1}


def test_coco_groups_and_other_classes_are_left_out(tmp_path):
    content = coco()
    content["annotations"] += coco(iscrowd=1)["annotations"] + coco(category_id=3)["annotations"]
    found = read_boxes(write(tmp_path / "a.json", content))
    assert len(found.marks) == 1
    assert found.left_out == {"groups (iscrowd)": 1, "label car": 1}
    found = read_boxes(tmp_path / "a.json", labels=("Car",))
    assert [mark.label for mark in found.marks] == ["car"]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task>{size}</task></meta>{body}</annotations>"""
BOX = 'xtl="20.00" ytl="10.00" xbr="60.00" ybr="90.00"'


def test_cvat_for_images(tmp_path):
    # <box label xtl ytl xbr ybr>: x and y of the top left and the bottom right corner
    body = (
        f'<image id="0" name="cam/a.jpg" width="200" height="100"><box label="person" {BOX}/>'
        f'<box label="person" {BOX} rotation="30.5"/>'
        f'<box label="person" {BOX} outside="1"/>'  # as Datumaro ends a track
        f'<box label="person" {BOX}><attribute name="track_id">4</attribute></box></image>'
    )
    found = read_boxes(write(tmp_path / "a.xml", CVAT.format(size="", body=body)))
    assert (found.format, found.sequence, found.shares) == ("cvat", False, False)
    assert [mark[:5] for mark in found.marks] == [("cam/a.jpg", *EDGES)] * 2
    assert [mark.track for mark in found.marks] == [None, "4"]
    assert found.sizes == {"cam/a.jpg": (200, 100)}
    assert found.left_out == {"turned boxes": 1, "of people no longer seen (outside)": 1}


def test_cvat_for_video(tmp_path):
    # frames from 0; outside: not seen from there on; between two boxes on a straight line
    box = '<box frame="{}" outside="{}" keyframe="1" xtl="{}" ytl="10" xbr="{}" ybr="90"/>'
    keys = [(0, 0, 20, 60), (2, 0, 30, 70), (4, 1, 30, 70), (6, 0, 50, 90)]
    body = f'<track id="8" label="person">{"".join(box.format(*key) for key in keys)}</track>'
    size = "<original_size><width>200</width><height>100</height></original_size>"
    found = read_boxes(write(tmp_path / "a.xml", CVAT.format(size=size, body=body)))
    assert [mark[:5] for mark in found.marks] == [
        (0, *EDGES), (1, 25, 10, 65, 90), (2, 30, 10, 70, 90), (3, 30, 10, 70, 90),
        (6, 50, 10, 90, 90),
    ]  # fmt: skip
    assert {mark.track for mark in found.marks} == {"8"}
    assert (found.first, found.sequence, found.sizes) == (0, True, {None: (200, 100)})


def task(result, **data):
    return {"id": 1, "data": data, "annotations": [{"result": [result], "was_cancelled": False}]}


def studio_video(**changes):
    key = {"frame": 1, "enabled": True, "x": 1, "y": 1, "width": 5, "height": 9, "rotation": 0}
    value = {"sequence": [key], "labels": ["person"], "framesCount": 2, **changes}
    return task({"type": "videorectangle", "id": "a", "value": value}, video="a.mp4")


def test_label_studio_has_percent(tmp_path):
    # x, y, width, height: percent of the image; of 200 x 100 pixels: 20, 10, 40, 80
    value = {
        "x": 10,
        "y": 10,
        "width": 20,
        "height": 80,
        "rotation": 0,
        "rectanglelabels": ["Person"],
    }
    result = {
        "id": "Dx", "type": "rectanglelabels", "value": value,
        "original_width": 200, "original_height": 100, "image_rotation": 0,
    }  # fmt: skip
    content = [task(result, image="/data/upload/3/1a2b3c4d-a.jpg")]
    content[0]["annotations"].append({"result": [result]})  # of a second person
    content[0]["predictions"] = [{"result": [result]}]
    content.append(task(result, image="/data/local-files/?d=cam%2Fb.jpg"))
    content.append(task({**result, "value": {**value, "rotation": 9}}, image="c.jpg"))
    found = read_boxes(write(tmp_path / "a.json", content))
    assert (found.format, found.shares) == ("label-studio", True)
    assert [mark.frame for mark in found.marks] == ["/data/upload/3/1a2b3c4d-a.jpg", "cam/b.jpg"]
    assert in_pixels(found.marks[0]) == EDGES
    assert found.sizes["cam/b.jpg"] == (200, 100)
    assert found.left_out == {"turned boxes": 1, "of a second annotator or prediction": 1}


def test_label_studio_videos_count_frames_from_1(tmp_path):
    step = {"x": 10, "y": 10, "width": 20, "height": 80, "rotation": 0}
    sequence = [
        {**step, "frame": 1, "enabled": True, "time": 0.04},
        {**step, "frame": 3, "x": 20, "enabled": False, "time": 0.12},
        {**step, "frame": 6, "enabled": False, "time": 0.24},
    ]
    result = {
        "id": "tr1", "type": "videorectangle", "value": {"sequence": sequence, "labels": ["Person"]}
    }  # fmt: skip
    found = read_boxes(write(tmp_path / "a.json", [task(result, video="/data/upload/v.mp4")]))
    assert [mark.frame for mark in found.marks] == [0, 1, 2, 5]
    assert in_pixels(found.marks[1]) == (30, 10, 70, 90)
    assert {mark.track for mark in found.marks} == {"tr1"}
    assert found.sequence


# findings/last-key-frame.sh
@pytest.mark.parametrize(
    ("keys", "count", "frames"),
    [
        ([(1, True)], 5, [0, 1, 2, 3, 4]),
        ([(1, True), (3, True)], 5, [0, 1, 2, 3, 4]),
        ([(1, True), (3, False)], 5, [0, 1, 2]),
        ([(2, True)], 2, [1]),
        ([(2, True)], None, [1]),
        ([], 5, []),
    ],
)
def test_label_studio_people_stay_after_the_last_key_frame(tmp_path, keys, count, frames):
    step = {"x": 10, "y": 10, "width": 20, "height": 80, "rotation": 0}
    sequence = [{**step, "frame": frame, "enabled": enabled} for frame, enabled in keys]
    value = {"sequence": sequence, "labels": ["Person"], "framesCount": count}
    one = {"id": "a", "type": "videorectangle", "value": value}
    other = {**one, "id": "b", "value": {"sequence": [{**step, "frame": 1, "enabled": False}]}}
    content = [task(one, video="v.mp4")]
    content[0]["annotations"][0]["result"].append(other)
    marks = read_boxes(write(tmp_path / "a.json", content)).marks
    assert [mark.frame for mark in marks if mark.track == "a"] == frames
    assert {mark[1:5] for mark in marks} == {(0.1, 0.1, 0.3, 0.9)}


FAR = '<box frame="{}" outside="0" keyframe="1" xtl="20" ytl="10" xbr="60" ybr="90"/>'


def test_key_frames_that_are_impossibly_far_apart_are_refused(tmp_path, monkeypatch):
    tracks = ['<track id="1" label="person">{}</track>', '<track id="2" label="person">{}</track>']
    body = "".join(track.format(FAR.format(0) + FAR.format(10**8)) for track in tracks)
    path = write(tmp_path / "a.xml", CVAT.format(size="", body=body))
    with pytest.raises(InputError, match=r"track 1.*than 5,000,000 boxes; check the frame numb"):
        read_boxes(path)
    step = {"x": 10, "y": 10, "width": 20, "height": 80, "frame": 1, "enabled": True}
    value = {"sequence": [step], "labels": ["Person"], "framesCount": 10**8}
    content = [task({"id": "a", "type": "videorectangle", "value": value}, video="v.mp4")]
    with pytest.raises(InputError, match=r"region a.*than 5,000,000 boxes"):
        read_boxes(write(tmp_path / "b.json", content))
    monkeypatch.setattr("visir.data.boxes.mark.MOST", 100)  # of both tracks together
    body = "".join(track.format(FAR.format(0) + FAR.format(60)) for track in tracks)
    path = write(tmp_path / "c.xml", CVAT.format(size="", body=body))
    with pytest.raises(InputError, match=r"track 2.*than 100 boxes"):
        read_boxes(path)


def test_yolo_has_shares_of_the_frame_around_the_centre(tmp_path):
    # class x_center y_center width height: centre 40 of 200, 50 of 100; 40 of 200, 80 of 100
    labels = tmp_path / "labels"
    write(labels / "train" / "a.txt", "0 0.2 0.5 0.2 0.8\n1 0.5 0.5 0.1 0.1\n")
    write(labels / "b.txt", "")
    write(tmp_path / "data.yaml", "path: .\nnames:\n  0: person\n  1: bicycle\n")
    found = read_boxes(labels)
    (mark,) = found.marks
    assert (found.format, found.shares, found.sequence) == ("yolo", True, False)
    assert (mark.frame, mark.label, mark.track, mark.score) == ("train/a", "person", None, 1)
    assert in_pixels(mark) == EDGES
    assert found.left_out == {"label bicycle": 1}


@pytest.mark.parametrize(
    ("lines", "score", "track"),
    [
        ("0 .2 .5 .2 .8 0.91\n0 .2 .5 .2 .8 1", 0.91, None),
        ("0 .2 .5 .2 .8 7", 1, "7"),
        ("0 .2 .5 .2 .8 0.91 7", 0.91, "7"),
    ],
)
def test_yolo_predictions_append_confidence_and_track(tmp_path, lines, score, track):
    write(tmp_path / "a.txt", lines)
    write(tmp_path / "classes.txt", "person\n")
    mark = read_boxes(tmp_path).marks[0]
    assert (mark.score, mark.track) == (score, track)


def test_yolo_without_names_has_numbers(tmp_path):
    write(tmp_path / "a.txt", "0 0.2 0.5 0.2 0.8\n")
    with pytest.raises(InputError, match="its boxes have the labels 0; name those of people with"):
        read_boxes(tmp_path)
    assert len(read_boxes(tmp_path, labels=("0",)).marks) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "frame,left,top\n", "a.txt: none of the formats mot, coco, cvat, label-studio,"),
        ("a.txt", "", "a.txt: none of the formats"),
        ("a.json", {"shapes": []}, "a.json: none of the formats"),
        ("a.json", "{", "a.json: not JSON that can be read"),
        ("a.xml", "<annotation/>", "a.xml: none of the formats"),
        ("a.xml", "<annotations>", "a.xml: not XML that can be read"),
        ("a.xml", "<!DOCTYPE a><annotations/>", "a.xml: has a document type"),
        ("a.xml", CVAT.format(size="", body=""), "a.xml: holds no box to use; give the file"),
        (
            "a.xml",
            CVAT.format(size="", body='<track id="1"><box frame="0" xtl="1"/></track>'),
            "track 1, frame 0: has no ytl; export it again",
        ),
        ("a.txt", "1,1,1,1,x,1,1\n", "a.txt: none of the formats"),
        ("a.txt", "1,1,1,1,1,1,1\n1,1,1,1,x,1,1\n", "line 2: width is 'x'; write a number there"),
        ("a.txt", "0,1,1,1,1,1,1\n", "line 1: frame is '0'; number the frames from 1"),
        ("a.txt", "1,1,1,1,1,1,1\n1,1\n", "line 2 has 2 fields; write frame,id,left,top"),
        ("a.txt", "1,1,1,1,1,1,0\n", r"holds no box to use \(1 marked as ignored \(conf 0\) left"),
        ("a.txt", "0 .5 .5 .1 .1\n", "YOLO's boxes of one frame; give the folder of all"),
        ("a.json", coco(bbox=[1, 2, 3]), r"annotation 5: bbox is \[1, 2, 3\]; write"),
        ("a.json", coco(bbox=[1, 2, 3, None]), r"annotation 5: bbox\[3\] is None; write a number"),
        ("a.json", coco(image_id=1), "annotation 5: image_id 1 is not in images"),
        ("a.json", {"images": [{}], "annotations": []}, r"not COCO's form \(KeyError: 'id'\)"),
        ("a.json", coco(category_id=3), "its boxes have the labels car; name those of people"),
        ("a.json", [task({"type": "rectanglelabels", "value": {}})], "names no image file"),
        ("a.json", [studio_video(labels=[["person"]])], r"its label is \['person'\]; write a text"),
        ("a.json", [studio_video(labels=[True])], "its label is True; write a text there"),
        ("a.json", [studio_video(framesCount=10**400)], "framesCount is 1000.*; write a number"),
        ("a.json", coco(bbox=[1, 2, 3, 10**400]), r"bbox\[3\] is 1000.*; write a number there"),
        ("a.json", coco(image_id=float("inf")), "annotation 5: image_id inf is not in images"),
        ("l/a.txt", "0 40 50 40 80\n", r"a\.txt: line 1: 40 50 40 80 are not shares of the frame"),
        ("l/a.txt", "0 .1 .1 .2 .1 .2 .2 .1 .2\n", "has 9 numbers; write class, x, y, width"),
        ("l/a.png", "", "l: holds no YOLO text file with boxes"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_are_refused(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        read_boxes(path.parent if name.startswith("l/") else path)


def test_a_format_that_is_named_wrongly_is_refused(tmp_path):
    path = write(tmp_path / "a.json", coco())
    assert format_of(path) == "coco"
    for form, message in (
        ("label-studio", "a.json: not Label Studio's json"),
        ("yolo", "a.json: a file; give the folder of YOLO's files"),
        ("voc", "format 'voc' is unknown; use auto, mot, coco"),
    ):
        with pytest.raises(InputError, match=message):
            read_boxes(path, form)
    with pytest.raises(InputError, match="none: no such file or folder"):
        read_boxes(tmp_path / "none")
