"""COCO json: `images`, `annotations` and `categories`.

"bbox": [x, y, width, height], "box coordinates are measured from the top left image corner and are
0-indexed" (cocodataset.org, data format); they are floats, so x + width is the right edge. With
`iscrowd` 1 a box is of a group of people. Tracks are no part of COCO: `track_id` or `instance_id`
of an annotation, or of its `attributes` (so CVAT writes them), are taken as such. Datumaro keeps
CVAT's boxes of people who are no longer seen, with `outside` true among the `attributes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visir.core.types import InputError
from visir.data.boxes.mark import UNSEEN, Annotation, Mark, edges, number, reading

_TRACK = ("track_id", "instance_id")
_NAMES = ("bbox[0]", "bbox[1]", "bbox[2]", "bbox[3]")


def looks(content: object) -> bool:
    """Whether parsed JSON has the form of this format."""
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def read(path: Path, content: dict[str, Any]) -> Annotation:
    """Read parsed JSON.

    Raises:
        InputError: a part is missing or has another form.
    """
    found = Annotation(path, "coco")
    with reading(path, "COCO", "COCO object detection"):
        images = {image["id"]: image for image in content["images"]}
        categories = {kind["id"]: str(kind["name"]) for kind in content.get("categories", ())}
        for image in images.values():
            if "width" in image and "height" in image:
                sizes = (int(image["width"]), int(image["height"]))
                found.sizes[str(image["file_name"])] = sizes
        for row, about in enumerate(content["annotations"]):
            where = f"{path}: annotation {about.get('id', row)}"
            if about.get("iscrowd"):
                found.left_out["groups (iscrowd)"] += 1
                continue
            if (about.get("attributes") or {}).get("outside"):
                found.left_out[UNSEEN] += 1
                continue
            image = images.get(about["image_id"])
            if image is None:
                raise InputError(
                    f"{where}: image_id {about['image_id']} is not in images; add the image or "
                    "remove the annotation"
                )
            found.marks.append(_mark(where, about, str(image["file_name"]), categories))
    return found


def _mark(where: str, about: dict[str, Any], frame: str, categories: dict[Any, str]) -> Mark:
    box = about.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise InputError(f"{where}: bbox is {box!r}; write [x, y, width, height] there")
    left, top, width, height = edges(where, box, _NAMES)
    attributes = {**(about.get("attributes") or {}), **about}
    track = next((attributes[name] for name in _TRACK if attributes.get(name) is not None), None)
    kind = about.get("category_id")
    return Mark(
        frame,
        left,
        top,
        left + width,
        top + height,
        where,
        categories.get(kind, None if kind is None else f"category {kind}"),
        track=None if track is None else str(track),
        score=number(where, "score", about.get("score", 1.0)),
    )
