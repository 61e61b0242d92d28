"""The files of an output folder: the manifest, and a shard for each unit of work.

A shard is one self-contained .npz file without pickles: `vectors` (N, D) float32; `about`: UTF-8
JSON of the model, the crops and what was skipped; `thumbnails`: concatenated JPEG files; `ends`
(N,) int64: where each of them ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visir.core.names import printable
from visir.core.run import atomic_write, write_text
from visir.core.types import FloatArray, InputError, Modality, Span
from visir.core.untrusted import NO_ARRAYS, parse_json
from visir.data.ranges import from_json
from visir.embedding.bulk.claims import claim
from visir.sources.crop import Broken, Entry
from visir.sources.plan import WorkUnit

MANIFEST = "manifest.json"
_SHOWN = 10  # skipped images are listed one by one up to this number
_AGAIN = "use the same settings, or another --out"


class Manifest(NamedTuple):
    """The settings of an output folder as JSON values, and the units of work.

    model: its fingerprint; inputs: as they were named, sorted; settings: how they are read; parts:
    the units of work.
    """

    model: str
    inputs: list[str]
    settings: dict[str, Any]
    shard_size: int
    parts: Sequence[WorkUnit] = ()


class Summary(NamedTuple):
    """The content of a finished output folder: counts, and the skipped images."""

    shards: int
    embedded: int
    skipped: tuple[Broken, ...]

    def __str__(self) -> str:
        """The counts, and the first images that were skipped, each with its reason."""
        lines = [
            f"{self.embedded} images embedded in {self.shards} shards, {len(self.skipped)} skipped",
            *(f"  {printable(broken.reason)}" for broken in self.skipped[:_SHOWN]),
        ]
        if len(self.skipped) > _SHOWN:
            lines.append(f"  and {len(self.skipped) - _SHOWN} more")
        return "\n".join(lines)


def agreed(
    out: Path, asked: Manifest, divide: Callable[[], Iterable[WorkUnit]], patience: float
) -> Manifest:
    """Return the folder's manifest; the first worker writes it.

    Args:
        out: the output folder.
        asked: the settings of this worker, without units of work.
        divide: returns the units of work.
        patience: as for `visir.embedding.bulk.claims.claim`.

    Raises:
        InputError: the folder was started with other settings, or as `divide`.
    """
    path = out / MANIFEST
    while not path.exists():
        with claim(claim_path(out, "manifest"), patience) as mine:
            if mine and not path.exists():
                made = asked._replace(parts=tuple(divide()))
                if not path.exists():  # another worker's, if this process was suspended
                    write_text(path, json.dumps(made._asdict()))
        if not mine:
            time.sleep(0.2)
    manifest = read_manifest(out)
    _require_same(path, manifest, asked)
    return manifest


def is_output(path: Path) -> bool:
    """Whether a folder is one that `visir embed` wrote."""
    return (path / MANIFEST).is_file() and (path / "shards").is_dir()


def read_manifest(out: Path) -> Manifest:
    """Read the manifest that `visir embed` wrote in this folder.

    Raises:
        InputError: there is no manifest, or it cannot be read.
    """
    path = Path(out) / MANIFEST
    try:
        stored = parse_json(path.read_text(encoding="utf-8"))
        units = tuple(WorkUnit(*unit) for unit in stored["parts"])
        found = Manifest(**{**stored, "parts": units})
        _require_kinds(found)
        return found
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a folder `visir embed` wrote") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a manifest of `visir embed` ({error}); give another folder"
        ) from error


def _require_kinds(manifest: Manifest) -> None:
    """Refuse values of other types than this version writes.

    Raises:
        TypeError: which of them.
    """
    kinds = {"model": str, "inputs": list, "settings": dict, "shard_size": int}
    wrong = [name for name, kind in kinds.items() if type(getattr(manifest, name)) is not kind]
    if not all(isinstance(name, str) for name in (*manifest.inputs, manifest.model)):
        wrong.append("inputs")
    for unit in manifest.parts:
        texts = isinstance(unit.input_type, str) and isinstance(unit.path, str)
        lists = isinstance(unit.items, list) and all(isinstance(item, list) for item in unit.items)
        if not (texts and lists and isinstance(unit.ranges, dict)):
            wrong.append("parts")
    if wrong:
        raise TypeError(f"{wrong[0]} has a value of another type")


def ranges_of(manifest: Manifest) -> dict[str, Span]:
    """The ranges that its images of more than 8 bits a pixel were read with, by camera."""
    stored: dict[str, Sequence[float]] = {}
    for unit in manifest.parts:
        stored.update(unit.ranges)
    return from_json(stored, MANIFEST)


def shard_path(out: Path, number: int) -> Path:
    """The shard of a unit of work."""
    return out / "shards" / f"{number:06d}.npz"


def claim_path(out: Path, name: str) -> Path:
    """The claim on a shard, or on the manifest."""
    return out / "claims" / f"{name}.json"


def write_shard(
    path: Path,
    model: str,
    entries: Sequence[Entry],
    vectors_ND: FloatArray,
    skipped: Sequence[Broken],
) -> None:
    """Write a shard atomically."""
    thumbnails = [entry.thumbnail or b"" for entry in entries]
    about = {
        "model": model,
        "crops": [[e.source, e.camera, e.modality.value, e.time, e.tags, e.mark] for e in entries],
        "skipped": skipped,
    }
    with atomic_write(path) as file:
        np.savez(
            file,
            vectors=vectors_ND,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            thumbnails=np.frombuffer(b"".join(thumbnails), np.uint8),
            ends=np.cumsum([len(jpeg) for jpeg in thumbnails], dtype=np.int64),
        )


def read_shards(out: Path) -> Iterator[tuple[list[Entry], FloatArray]]:
    """Read the embeddings shard by shard, always in the same order; empty shards are skipped.

    Yields:
        N entries and their (N, D) float32 embeddings.

    Raises:
        InputError: a shard is missing, damaged, or of another model.
    """
    for about, (vectors_ND, thumbnails, ends_N) in _shards(
        Path(out), "vectors", "thumbnails", "ends"
    ):
        ends, jpegs = [0, *ends_N.tolist()], thumbnails.tobytes()
        entries = [
            Entry(
                source,
                camera,
                modality=Modality(modality),
                time=time,
                tags=tuple(tags),
                thumbnail=jpegs[start:end],
                mark=mark[0] if mark else None,  # files of before have none
            )
            for (source, camera, modality, time, tags, *mark), (start, end) in zip(
                about["crops"], pairwise(ends), strict=True
            )
        ]
        if entries:
            yield entries, vectors_ND


def summary(out: Path) -> Summary:
    """Counts of a finished folder; raises as `read_shards`."""
    abouts = [about for about, _ in _shards(Path(out))]
    skipped = tuple(Broken(*each) for about in abouts for each in about["skipped"])
    return Summary(len(abouts), sum(len(about["crops"]) for about in abouts), skipped)


def _shards(out: Path, *names: str) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Read the description of each shard and its arrays with these names."""
    manifest = read_manifest(out)
    paths = [shard_path(out, number) for number in range(len(manifest.parts))]
    missing = sum(not path.exists() for path in paths)
    if missing:
        raise InputError(
            f"{out}: {missing} of {len(paths)} shards are missing; run the same `visir embed` "
            "again to finish them"
        )
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = parse_json(stored["about"].tobytes())
                if about["model"] != manifest.model:
                    raise ValueError("of another model")
                arrays = [stored[name] for name in names]
        except NO_ARRAYS as error:
            raise InputError(
                f"{path}: damaged ({error}); remove it and run the same `visir embed` again"
            ) from error
        yield about, arrays


def _require_same(path: Path, stored: Manifest, asked: Manifest) -> None:
    if stored.model != asked.model:
        raise InputError(
            f"{path}: was started with another model ({stored.model[:12]}, this one is "
            f"{asked.model[:12]}); {_AGAIN}"
        )
    for name in sorted({*stored.inputs} ^ {*asked.inputs}):
        side = "with" if name in stored.inputs else "without"
        raise InputError(f"{path}: was started {side} input {name}; {_AGAIN}")
    asks = {**asked.settings, "shard_size": asked.shard_size}
    for name, value in {**stored.settings, "shard_size": stored.shard_size}.items():
        if asks.get(name) != value:
            raise InputError(f"{path}: was started with {name} {value}, now {asks[name]}; {_AGAIN}")
