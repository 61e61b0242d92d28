"""Files of a data set that are worth a look before it is used: what they are, and their lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from visir.core.run import write_text
from visir.data.pictures import TINY, Look, near_copies
from visir.data.ranges import RANGES
from visir.data.registry import SYNTHETIC
from visir.data.tree import file_tree, is_image, masks

KINDS = {
    "dark": "too dark",
    "flat": "with little contrast",
    "levels": "with few grey levels",
    "blurred": "blurred",
    "shape": "of an odd shape for one person",
    "nobody": "without a person, by the detector",
    "coloured": "coloured, though infrared (false colours?)",
    "radiometric": 'radiometric JPEG (temperatures are read with pip install "visir[thermal]")',
    "copies": "nearly the same as another image",
    "masks": "passed over as masks of other images",
    "endings": "passed over because of the ending",
    "annotations": "annotation files beside what looks like whole frames (cut the people out)",
}
"""What is looked for: the name of its list, and how its line says it."""
POOR = {
    "dark": "too dark",
    "flat": "little contrast",
    "levels": "few grey levels",
    "blurred": "blurred",
    "shape": "an odd shape for one person",
    "tiny": f"a side below {TINY} pixels",
}
"""What makes a crop poor: keys of `KINDS`, and a side that is too short."""
_PICTURES = ".gif .jp2 .j2k .jpx .avif .heic .heif .jxl .dng .cr2 .nef .arw .raw .exr .svg .psd"
_THERMAL = ".seq .fff .csq .npy"  # FLIR's recordings and rasters, arrays
_VIDEOS = (
    ".mp4 .m4v .mov .3gp .mkv .webm .avi .flv .asf .wmv .ts .mts .m2ts .mpg .mpeg .h264 .264 .hevc "
    ".h265 .265"
)
PASSED_OVER = frozenset(f"{_PICTURES} {_THERMAL} {_VIDEOS}".split())
"""Endings of pictures, rasters and videos that are not images of a data set to visir."""
ANNOTATIONS = frozenset({".json", ".xml", ".txt"})  # COCO, Pascal VOC and CVAT, MOT and YOLO
_NAMED = 3  # files that the line of a kind names

Remarks = Mapping[str, list[str]]


def find_remarks(root: Path, names: Sequence[str], looks: Sequence[Look]) -> dict[str, list[str]]:
    """Files that are worth a look, by kind; empty kinds are left out.

    Args:
        root: the data set's folder.
        names: of its images.
        looks: what `visir.data.pictures.look` says of each.
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name, one in zip(names, looks, strict=True):
        for kind in one.kinds:
            found[kind].append(name)
    first: dict[str, int] = {}  # files that are equal byte for byte are problems already
    prints = [
        one.print if first.setdefault(one.digest, number) == number else None
        for number, one in enumerate(looks)
    ]
    found["copies"] = sorted(names[place] for group in near_copies(prints) for place in group[1:])
    tree = file_tree(root)
    found["masks"] = sorted(masks(p.relative_to(root).as_posix() for p in tree if is_image(p)))
    others = [path for path in tree if not is_image(path)]
    found["endings"] = _below(root, others, PASSED_OVER)
    if 2 * sum(one.width > one.height for one in looks) > sum(not one.problem for one in looks):
        found["annotations"] = _below(root, others, ANNOTATIONS)
    return {kind: some for kind, some in found.items() if some}


def poor(look: Look) -> str:
    """Why a picture is a poor crop of one person, in words; empty if it is none."""
    if look.problem:
        return "it cannot be read"
    kinds = {*look.kinds} | ({"tiny"} if min(look.width, look.height) < TINY else set())
    return ", ".join(words for kind, words in POOR.items() if kind in kinds)


def as_lines(remarks: Remarks) -> list[str]:
    """One line a kind: how many, what, and the first names; an empty line before them."""
    lines = []
    for kind, names in remarks.items():
        more = ", ..." if len(names) > _NAMED else ""
        endings = Counter(Path(name).suffix.lower() for name in names)
        counts = ", ".join(f"{count:,} {ending}" for ending, count in sorted(endings.items()))
        what = f"{KINDS[kind]} ({counts})" if kind == "endings" else KINDS[kind]
        lines.append(f"{len(names):,} {what}: {', '.join(names[:_NAMED])}{more}")
    return ["", *lines] if lines else []


def write_remarks(folder: Path, remarks: Remarks) -> None:
    """Write a file of paths for each kind, one a line; lists of former calls are removed.

    Raises:
        InputError: the folder cannot be written.
    """
    for kind in KINDS:
        path, names = folder / f"{kind}.txt", remarks.get(kind)
        if names:
            write_text(path, "\n".join(names) + "\n")
        else:
            path.unlink(missing_ok=True)


def _below(root: Path, paths: Sequence[Path], endings: frozenset[str]) -> list[str]:
    return [
        path.relative_to(root).as_posix()
        for path in paths
        if path.suffix.lower() in endings and path.name not in (SYNTHETIC, RANGES)
    ]
