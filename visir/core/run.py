"""The run folder, and atomic writing of files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from visir.core.types import InputError
from visir.core.untrusted import parse_json


class DamageWarning(UserWarning):
    """A file is damaged; what it held is made again, or taken from an older file."""


@contextmanager
def atomic_write(path: Path, new: bool = False) -> Iterator[IO[bytes]]:
    """Open a binary file that gets the name `path` only when it is complete and on disk.

    Args:
        path: the file's name in the end.
        new: never replace a file of that name.

    Raises:
        InputError: the disk is full or the folder cannot be written, or there is a file of that
            name and it must be new; `path` is then unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed and renamed below
            dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False
        )
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    temporary = Path(handle.name)
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        if new:
            os.link(temporary, path)
        else:
            temporary.replace(path)
        sync(path.parent)
    except FileExistsError as error:
        raise InputError(f"{path}: exists already; name another file, or remove it") from error
    except OSError as error:
        raise InputError(
            f"{path}: writing failed ({error.strerror or error}), and no incomplete file was left; "
            "free space and run the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_image(path: Path, content: bytes | memoryview) -> None:
    """Write a file that gets its name only when it is complete; not forced to disk.

    For images, which are many and are made again if a crash of the machine loses one.

    Raises:
        InputError: the disk is full or the folder cannot be written; no incomplete file is left.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"{path}: writing failed ({error.strerror or error}); free space or check the "
            "permissions, and run the same command again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON to `path` atomically."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep(folder: Path, below: bool = True) -> None:
    """Remove incomplete files of a killed process in `folder`, and in its subfolders if `below`."""
    for stray in folder.rglob(".*.part") if below else folder.glob(".*.part"):
        stray.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file's content, or the names in a folder, on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class Run:
    """A training run on disk: settings, metrics, the resume file, the weights, scores, report."""

    folder: Path

    @property
    def config(self) -> Path:
        """The settings of the run (YAML)."""
        return self.folder / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per line: {"kind": "plan" | "epoch" | "scores", "epoch": int, ...}."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to resume training: network, optimiser, method."""
        return self.folder / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last one, which is used if the last one is damaged."""
        return self.folder / "previous.ckpt"

    @property
    def within(self) -> Path:
        """The state inside an epoch, if a training saves it every so many batches."""
        return self.folder / "within.ckpt"

    @property
    def images(self) -> Path:
        """The training images: one JSON array a line, in the order of the rows."""
        return self.folder / "images.jsonl"

    @property
    def bad_batch(self) -> Path:
        """The batch whose loss was not a number: rows, files, labels, terms."""
        return self.folder / "bad-batch.json"

    @property
    def begun(self) -> bool:
        """Whether there is something to resume from."""
        return any(path.exists() for path in (self.checkpoint, self.previous, self.within))

    @property
    def pretrained(self) -> Path:
        """A backbone to start from, in the form of TransReID-SSL's files."""
        return self.folder / "pretrained.pth"

    @property
    def stage_best(self) -> Path:
        """The network of a stage's best-scored epoch, if the settings request it."""
        return self.folder / "stage-best.safetensors"

    @property
    def weights(self) -> Path:
        """The network only, with its settings as metadata."""
        return self.folder / "model.safetensors"

    @property
    def scores(self) -> Path:
        """The last results of `visir eval`."""
        return self.folder / "scores.json"

    @property
    def report(self) -> Path:
        """The HTML page of `visir report`."""
        return self.folder / "report.html"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to the metrics; half a line at their end, left by a kill, is dropped."""
        with self.metrics.open("ab+") as file:
            size = file.tell()
            file.seek(max(size - 1, 0))
            if size and file.read(1) != b"\n":
                file.truncate(self.metrics.read_bytes().rfind(b"\n") + 1)
            file.write(json.dumps(record).encode() + b"\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All metrics so far, oldest first.

        Half a line at the end, left by a kill, is skipped with a warning.

        Raises:
            InputError: another line is damaged.
        """
        if not self.metrics.exists():
            return []
        *whole, rest = self.metrics.read_bytes().split(b"\n")
        if rest:
            warnings.warn(
                f"{self.metrics}: half a line at the end is left out (line {len(whole) + 1}); the "
                "process that wrote it was ended",
                DamageWarning,
                stacklevel=2,
            )
        return [self._metric(number, line) for number, line in enumerate(whole, start=1)]

    def _metric(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            found = parse_json(line)
        except ValueError:
            found = None
        if not (
            isinstance(found, dict)
            and isinstance(found.get("kind"), str)
            and type(found.get("epoch")) is int
        ):
            raise InputError(
                f"{self.metrics}: line {number} is damaged (not an object with 'kind' and "
                "'epoch'); restore the file, or remove the line"
            )
        return found
