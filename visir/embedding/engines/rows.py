"""Embed a batch of rows, whichever engine holds them."""

from __future__ import annotations

import io
import math
import os
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from visir.core.times import parse_time
from visir.core.types import InputError, Span
from visir.data.images import decode
from visir.data.locate import modality_named, placed
from visir.data.ranges import RangeBook, likely
from visir.embedding.base import ImageEmbedder
from visir.embedding.bulk.work import embed_crops
from visir.sources.crop import DEFAULT_OPTIONS, Broken, Crop, ReadOptions, timestamp
from visir.sources.folders import crops, listed

COLUMNS: Mapping[str, str] = {
    "source": "string",
    "camera": "string",
    "modality": "string",
    "time": "double",
    "tags": "array<string>",
    "vector": "array<float>",
    "thumbnail": "binary",
    "mark": "string",
    "model": "string",
    "low": "double",
    "high": "double",
    "skipped": "string",
}
"""Columns of the output, with their types as Spark writes them. In a row that was skipped,
`skipped` is the reason, and all others but `source` and `model` are null."""
_BYTES = ("bytes", "content")  # as Ray's read_binary_files and Spark's binaryFile name them


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How rows are embedded.

    modality, camera: of rows that do not say it, in a column or in the folders of the path; tags:
    added to every row; skip_broken: give a row with a reason for an image that cannot be read;
    device: where the network of a run computes, an export always uses the CPU; threads: in how many
    one copy of an export computes, None for as many as the machine has cores.
    """

    modality: str | None = None
    camera: str | None = None
    tags: tuple[str, ...] = ()
    skip_broken: bool = False
    device: str = "cpu"
    threads: int | None = None


DEFAULT = RowOptions()


class RowEmbedder:
    """Embeds batches of rows; the model is loaded once.

    Args:
        model: a run folder, a weights file, "builtin", or a folder that `visir export` wrote. It is
            read on the machine where this object is made.
        options: how rows are embedded.

    Raises:
        InputError: the model is not on this machine, or cannot be used; threads below 1.
    """

    def __init__(self, model: Path | str, options: RowOptions = DEFAULT) -> None:
        if options.threads is not None and options.threads < 1:
            raise InputError(
                f"threads is {options.threads}; give 1 or more, or None for as many as cores"
            )
        self.embedder = _load(Path(model), options)
        self.options = options
        self._modality = modality_named(options.modality, "modality")

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Embed one batch.

        Args:
            batch: N values for each column. `path` is needed. `bytes` or `content` is the image
                file itself, and then `path` is only its name. Optional are `camera`, `modality`,
                `time` (seconds since 1970, a date, or text), `tags` (lists of words), and `low` and
                `high`, the range of a camera of more than 8 bits a pixel.

        Returns:
            N values for each of `COLUMNS`.

        Raises:
            InputError: a column is missing, a value cannot be used, this machine does not see a
                file, or an image is damaged and `skip_broken` is off.
        """
        require_columns(list(batch))
        count = len(batch["path"])
        rows = [{name: batch[name][n] for name in batch} for n in range(count)]
        with ThreadPoolExecutor(self.options.threads or os.cpu_count()) as pool:
            found = list(pool.map(self._crop, rows))
            entries, vectors_ND, skipped = embed_crops(
                iter(found), self.embedder, pool, self.options.skip_broken
            )
        given = [each for each in found if isinstance(each, Broken)]
        unread = {each.source: each.reason for each in skipped if each not in given}
        done = iter(zip(entries, vectors_ND, strict=True))
        out: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for crop in found:
            if isinstance(crop, Broken):
                reason: str | None = crop.reason
            else:  # two rows may have one name, but a picture that was given is read
                reason = unread.get(crop.source) if isinstance(crop.image, Path) else None
            row: dict[str, Any] = dict.fromkeys(COLUMNS) | {
                "source": crop.source, "model": self.embedder.fingerprint, "skipped": reason,
            }  # fmt: skip
            if reason is None:
                assert isinstance(crop, Crop)
                entry, vector_D = next(done)
                low, high = crop.span or (None, None)
                row |= entry._asdict() | {
                    "modality": entry.modality.value, "tags": [*entry.tags],
                    "vector": vector_D, "low": low, "high": high,
                }  # fmt: skip
            for name, column in out.items():
                column.append(row[name])
        return out

    def _crop(self, row: Mapping[str, Any]) -> Crop | Broken:
        path = _local(row["path"])
        place = Path(path)
        said, camera = placed(place.parent.parts)
        modality = modality_named(_word(row, "modality"), f"{path}: column modality") or said
        modality = modality or self._modality
        if modality is None:
            raise InputError(
                f"{path}: nothing says its modality; add a column `modality` with visible or "
                "infrared, or give the option modality"
            )
        if said is None:  # the first folder of a whole path is no camera
            camera = None
        camera = _word(row, "camera") or camera or self.options.camera or modality.value
        time = _seconds(row.get("time"), f"{path}: column time")
        low, high = _number(row.get("low")), _number(row.get("high"))
        span = None if low is None or high is None else Span(low, high)
        crop = Crop(
            path, place, camera, modality,
            time=timestamp(place.stem) if time is None else time,
            tags=tuple(dict.fromkeys((*self.options.tags, *_tags(row.get("tags"), path)))),
            span=span or likely(self.embedder.ranges, modality, camera),
        )  # fmt: skip
        data = next((row[name] for name in _BYTES if not _is_absent(row.get(name))), None)
        return _seen(crop) if data is None else _decoded(crop, data)


def list_rows(
    folder: Path | str, settings: ReadOptions = DEFAULT_OPTIONS
) -> list[dict[str, object]]:
    """List the images of a folder as rows for `RowEmbedder`, as `visir embed` finds them.

    Modality, camera, time and tags are those of a known layout, of folder names or of `labels.csv`.
    Cameras of more than 8 bits a pixel are measured here, so that all machines read them alike.

    Raises:
        InputError: as `visir.data.locate.gallery_items`.
    """
    book = RangeBook()
    found = listed(Path(folder).resolve(), settings, book)
    return [
        {
            "path": each.source,
            "camera": each.camera,
            "modality": each.modality.value,
            "time": each.time,
            "tags": [*each.tags],
            "low": each.span and each.span.low,
            "high": each.span and each.span.high,
        }
        for each in crops(found, settings, book.used)
    ]


def require_columns(names: Sequence[str]) -> None:
    """Check that the needed column is there.

    Raises:
        InputError: it is not.
    """
    if "path" not in names:
        raise InputError(
            f"columns: there is no column `path` (found: {', '.join(names) or 'none'}); rename the "
            "column that holds the files' paths, or with `bytes` the images' names"
        )


def _load(model: Path, options: RowOptions) -> ImageEmbedder:
    from visir.embedding import onnx

    if str(model) != "builtin" and not model.exists():
        raise InputError(
            f"{model}: not there on the machine {socket.gethostname()}; put the run or export on "
            "storage that every machine sees under this path"
        )
    if (model / onnx.MANIFEST).is_file():
        return onnx.load(model, options.threads)
    from visir.embedding.pytorch import load

    return load(model, options.device)


def _seen(crop: Crop) -> Crop:
    """The crop, if its file is on this machine."""
    if not Path(crop.source).exists():
        raise InputError(
            f"{crop.source}: there is no such file on the machine {socket.gethostname()}; put the "
            "images on storage that every machine sees under this path, or give their content in "
            "a column `bytes`"
        )
    return crop


def _decoded(crop: Crop, data: bytes) -> Crop | Broken:
    try:
        if not len(data):
            raise InputError(f"{crop.source}: the file is empty (0 bytes); replace or remove it")
        picture = decode(io.BytesIO(data), crop.source, crop.modality, crop.span)
    except InputError as error:
        return Broken(crop.source, str(error))
    return crop._replace(image=np.asarray(picture))


def _local(path: object) -> str:
    """A path; Spark writes those of this machine as file:/a/b."""
    if not isinstance(path, str) or not path:
        raise InputError(f"column path: {path!r} is not a path; give text in every row")
    return unquote(urlsplit(path).path) if path.startswith("file:/") else path


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _word(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    return None if _is_absent(value) or value == "" else str(value)


def _number(value: Any) -> float | None:  # noqa: ANN401 - of any engine
    return None if _is_absent(value) else float(value)


def _seconds(value: Any, field: str) -> float | None:  # noqa: ANN401
    """Seconds since 1970; a time without a zone is UTC."""
    if _is_absent(value) or value != value:
        return None
    if isinstance(value, np.datetime64):
        return float((value - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return parse_time(str(value), field)


def _tags(value: Any, path: str) -> tuple[str, ...]:  # noqa: ANN401
    if _is_absent(value):
        return ()
    if isinstance(value, (str, bytes)):
        raise InputError(f"{path}: column tags: {value!r} is not a list; give a list of words")
    return tuple(map(str, value))
