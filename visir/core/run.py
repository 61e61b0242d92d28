"""The run folder and every write that must never be half done."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from visir.core.types import InputError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the name `path` only once it is whole and on disk.

    Raises:
        InputError: the disk is full or the folder cannot be written; `path` is then untouched.
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
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"{path}: writing failed ({error.strerror or error}); nothing half-written was left, "
            "free space and run the same command again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quiet(progress: bool) -> bool | None:
    """Tqdm's `disable`: bars are drawn where they are wanted and somebody sits at a terminal."""
    return None if progress else True


def sweep(folder: Path, below: bool = True) -> None:
    """Remove what a killed process left half-written in `folder`, and `below` it where asked."""
    for stray in folder.rglob(".*.part") if below else folder.glob(".*.part"):
        stray.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Run:
    """A training run on disk: settings, metrics, the resume file, the weights, scores, report."""

    folder: Path

    @property
    def config(self) -> Path:
        """Settings the run was started with (YAML)."""
        return self.folder / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: {"kind": "plan" | "epoch" | "scores", "epoch": int, ...}."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Everything needed to go on training: model, optimiser, method, random states."""
        return self.folder / "last.ckpt"

    @property
    def pretrained(self) -> Path:
        """A backbone to start from, in the form of TransReID-SSL's files."""
        return self.folder / "pretrained.pth"

    @property
    def stage_best(self) -> Path:
        """The network of a stage's best-scored epoch, where the settings ask for it."""
        return self.folder / "stage-best.safetensors"

    @property
    def weights(self) -> Path:
        """The network alone, with its settings as metadata."""
        return self.folder / "model.safetensors"

    @property
    def scores(self) -> Path:
        """What `visir eval` measured last."""
        return self.folder / "scores.json"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one line to the metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All metrics so far, oldest first; a last line cut short by a kill is passed over."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        records = []
        for number, line in enumerate(lines):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                if number + 1 < len(lines):
                    raise InputError(
                        f"{self.metrics}: line {number + 1} is not JSON; "
                        "restore the file or remove the line"
                    ) from None
        return records
