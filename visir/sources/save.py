"""Write crops as image files, with a `labels.csv` that says what is known of each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from visir.core.names import printable
from visir.core.progress import bar
from visir.core.run import sweep, write_image, write_text
from visir.core.times import iso_time
from visir.core.types import ByteArray, InputError
from visir.data.ranges import RangeBook, as_json
from visir.data.table import LABELS, read_rows, same_name
from visir.sources import boxes
from visir.sources.crop import Broken, Crop, ReadOptions
from visir.sources.plan import WorkUnit, crops, detectors, input_type, work_units

COLUMNS = ("path", "camera", "time", "tags", "track", "source")
_SHOWN = 10  # skipped crops are listed one by one up to this number
_UNSAFE = re.compile(r"[^\w.-]+")


class Saved(NamedTuple):
    """What was written: crops and tracks, notes about other boxes, and what was skipped."""

    out: Path
    written: int
    tracks: int
    notes: tuple[str, ...]
    skipped: tuple[Broken, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.written:,} crops of {self.tracks:,} tracks in {self.out}, "
            f"{len(self.skipped):,} skipped",
            *self.notes,
            *(f"  {printable(broken.reason)}" for broken in self.skipped[:_SHOWN]),
        ]
        if len(self.skipped) > _SHOWN:
            lines.append(f"  and {len(self.skipped) - _SHOWN:,} more")
        return "\n".join(lines)


def save_crops(
    frames: Path,
    out: Path,
    settings: ReadOptions,
    *,
    skip_broken: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Saved:
    """Write the crops of a folder of frames or a video as `out/<modality>/<camera>/<name>.png`.

    `out/labels.csv` gets a row for each, in place of an earlier row of the same file; all other
    rows stay. It is written when all crops are, or when the work stops early.

    Args:
        frames: a folder of frames, with `settings.boxes`, or a video, with these or a detector.
        out: folder to write; may hold crops of other frames.
        settings: how they are read.
        skip_broken: skip and count boxes that cannot be cut out.
        device: where a detector runs.
        progress: show a progress bar.

    Raises:
        InputError: the frames or boxes cannot be used, or `out` cannot be written.
    """
    if settings.boxes is None and input_type(frames) != "video":
        raise InputError(
            f"{frames}: has no boxes of people; name the file that holds them with --boxes"
        )
    units, notes, total = _work(frames, settings, skip_broken)
    rows = _Rows(out)
    sweep(out)
    skipped: list[Broken] = []
    detector = detectors(settings, device)
    stream = (crop for unit in units for crop in crops(unit, settings, detector))
    try:
        for crop in bar(stream, "cutting", total, unit="crops", show=progress):
            if isinstance(crop, Broken):
                skipped.append(_kept(crop, skip_broken))
            else:
                rows.add(crop)
    finally:
        rows.write()
    return Saved(out, rows.added, len(rows.tracks), notes, tuple(skipped))


def _work(
    frames: Path, settings: ReadOptions, skip_broken: bool
) -> tuple[Sequence[WorkUnit], tuple[str, ...], int | None]:
    """The units of work, notes about boxes that are not cut out, and the number of crops."""
    if settings.boxes is None:
        return list(work_units([frames], settings, 1, skip_broken)), (), None
    found = boxes.listed(frames, settings, skip_broken)
    book = RangeBook()
    boxes.settle(frames, found.cuts, settings, book)
    unit = WorkUnit("boxes", str(frames), found.cuts, as_json(book.used))
    return [unit], tuple(found.notes()), len(found.cuts)


def _kept(broken: Broken, skip_broken: bool) -> Broken:
    if not skip_broken:
        raise broken.error()
    return broken


class _Rows:
    """The rows of `labels.csv`, and the files they are of."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / LABELS
        self.header, old = read_rows(self.path) if self.path.exists() else ([], [])
        self._rows = {same_name(row["path"]): row for _, row in old}
        self._here: set[str] = set()
        self.tracks: set[tuple[str, str]] = set()

    @property
    def added(self) -> int:
        """How many crops were written."""
        return len(self._here)

    def add(self, crop: Crop) -> None:
        """Write a crop and its row."""
        assert not isinstance(crop.image, Path)
        name = self._name(crop)
        _write(self.out / name, crop.image)
        self._here.add(name)
        if crop.track is not None:
            self.tracks.add((crop.camera, crop.track))
        self._rows[name] = self._rows.get(name, {}) | {
            "path": name,
            "camera": crop.camera,
            "time": "" if crop.time is None else iso_time(crop.time),
            "tags": ";".join(crop.tags),
            "track": crop.track or "",
            "source": crop.source,
        }

    def write(self) -> None:
        """Write the file, if there is a row."""
        if not self._rows:
            return
        text = io.StringIO()
        header = [*self.header, *(name for name in COLUMNS if name not in self.header)]
        table = csv.DictWriter(text, header, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows[name] for name in sorted(self._rows))
        write_text(self.path, text.getvalue())

    def _name(self, crop: Crop) -> str:
        """A file name that no crop of another source has: `visible/gate/0001_track_7.png`."""
        file, _, end = crop.source.partition("::")
        stem = _UNSAFE.sub("_", f"{Path(file).stem} {end}")
        place = f"{crop.modality.value}/{_UNSAFE.sub('_', crop.camera)}"
        for count in range(1, len(self._rows) + 2):
            name = f"{place}/{stem}{'' if count == 1 else f'_{count}'}.png"
            source = self._rows.get(name, {}).get("source", crop.source)
            if source == crop.source and name not in self._here:
                break
        return name


def _write(path: Path, pixels: ByteArray) -> None:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    write_image(path, encoded.getbuffer())
