"""CVAT XML 1.1, "for images" (`<image name><box>`) and "for video" (`<track id><box frame>`).

Edges are xtl, ytl, xbr, ybr in pixels, with decimals, from 0 at the top left (docs.cvat.ai, XML
annotation format); frames are numbered from 0. In a track, `outside` says that the person is not
seen from that frame on, and frames between two boxes are on a straight line between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from visir.core.types import InputError
from visir.data.boxes.mark import TURNED, UNSEEN, Annotation, Mark, between, edges, number

_NAMES = ("xtl", "ytl", "xbr", "ybr")


def looks(head: str) -> bool:
    """Whether the beginning of a text has the form of this format."""
    return head.lstrip().startswith("<") and "<annotations" in head


def read(path: Path, text: str) -> Annotation:
    """Read the content of a file.

    Raises:
        InputError: it is not XML, or has another form.
    """
    if "<!DOCTYPE" in text[:4096] or "<!ENTITY" in text[:4096]:
        raise InputError(f"{path}: has a document type, which CVAT does not write; export it again")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not XML that can be read ({error}); export it again") from error
    found = Annotation(path, "cvat")
    size = root.find(".//original_size")
    if size is not None:
        width, height = (_text(path, size, name) for name in ("width", "height"))
        found.sizes[None] = (int(width), int(height))
    for image in root.iter("image"):
        _read_image(found, image)
    for track in root.iter("track"):
        found.sequence = True
        _read_track(found, track)
    return found


def _text(path: Path, parent: ElementTree.Element, name: str) -> float:
    return number(f"{path}: original_size", name, parent.findtext(name))


def _read_image(found: Annotation, image: ElementTree.Element) -> None:
    name = _required(f"{found.path}: image {image.get('id')}", image.attrib, "name")
    if image.get("width") and image.get("height"):
        width, height = (number(name, side, image.get(side)) for side in ("width", "height"))
        found.sizes[name] = (int(width), int(height))
    for row, box in enumerate(image.iter("box"), start=1):
        if box.get("outside") == "1":  # so Datumaro writes the end of a track
            found.left_out[UNSEEN] += 1
        elif _is_upright(found, box):
            where = f"{found.path}: image {name}, box {row}"
            tracks = [a.text for a in box.iter("attribute") if a.get("name") == "track_id"]
            found.marks.append(_mark(where, box, name, box.get("label"), next(iter(tracks), None)))


def _read_track(found: Annotation, track: ElementTree.Element) -> None:
    where = f"{found.path}: track {track.get('id')}"
    name = _required(where, track.attrib, "id")
    keys = []
    for box in track.iter("box"):
        frame = int(number(where, "frame", box.get("frame")))
        at = f"{where}, frame {frame}"
        if _is_upright(found, box):
            mark = _mark(at, box, frame, track.get("label"), name)
            keys.append((mark, box.get("outside") == "1"))
    keys.sort(key=lambda key: int(key[0].frame))
    run: list[tuple[Mark, bool]] = []
    for mark, outside in [*keys]:
        if outside:
            found.marks += between(found, [*run, (mark, False)])[:-1] if run else []
            run = []
        else:
            run.append((mark, True))
    found.marks += between(found, run)


def _is_upright(found: Annotation, box: ElementTree.Element) -> bool:
    if number(f"{found.path}: box", "rotation", box.get("rotation") or 0) == 0:
        return True
    found.left_out[TURNED] += 1
    return False


def _mark(
    where: str, box: ElementTree.Element, frame: int | str, label: str | None, track: str | None
) -> Mark:
    values = [_required(where, box.attrib, name) for name in _NAMES]
    left, top, right, bottom = edges(where, values, _NAMES)
    return Mark(frame, left, top, right, bottom, where, label, track=track or None)


def _required(where: str, attributes: Mapping[str, str], name: str) -> str:
    if name not in attributes:
        raise InputError(f"{where}: has no {name}; export it again as CVAT for images or video")
    return attributes[name]
