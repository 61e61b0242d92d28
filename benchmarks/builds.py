"""An older build of visir beside this one: its package, its names, and a process that runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# What the builds until commit 1684c8a called it.
FORMER = {
    "visir.cluster.neighbour_loss:Lists": "visir.cluster.lists:Lists",
    "visir.core.device:autocast": "visir.device:autocast",
    "visir.core.types:Modality": "visir.types:Modality",
    "visir.gallery.open:open_gallery": "visir.gallery.store:open_gallery",
    "visir.gallery.store:Filter": "visir.gallery.entries:Where",
    "visir.gallery.store:ModelId": "visir.gallery.entries:Model",
    "visir.sources.crop:Entry": "visir.gallery.entries:Entry",
    "visir.data.registry:open_benchmark": "visir.data.manifest:open_benchmark",
    "visir.embedding.pytorch:Embedder": "visir.embed:Embedder",
    "visir.methods.cmag.method:Cmag": "visir.methods.cmag:Cmag",
    "visir.methods.tokenmatcher.camera_stage:When": "visir.methods.tokenmatcher.cameras:When",
}


def checked_out(commit: str, to: Path) -> Path:
    """The package as it was at a commit, in a folder that is made."""
    to.mkdir()
    packed = subprocess.run(
        ["git", "archive", commit, "visir"], cwd=ROOT, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(to)], input=packed.stdout, check=True)
    return to


def build_of(place: str, to: Path) -> Path:
    """A checkout by its path, or the package at a commit, which is unpacked."""
    return Path(place).resolve() if Path(place, "visir").is_dir() else checked_out(place, to)


def named(place: str) -> Any:
    """A class or function of the build that is imported, by its place in this one."""
    try:
        return resolve_name(place)
    except (ModuleNotFoundError, AttributeError):
        return resolve_name(FORMER[place])


class Worker:
    """A process that runs a script with the visir of a checkout, and answers line by line.

    Args:
        words: the script and its arguments; it first prints the folder of visir's package.
        checkout: whose visir it imports.
        environment: further variables.
    """

    def __init__(
        self, words: list[str], checkout: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(environment or {}) | {"PYTHONPATH": str(checkout)},
        )
        package = Path(self._answer())
        if package != checkout.resolve() / "visir":
            raise SystemExit(f"{checkout}: has no package visir; {package} was imported instead")

    def ask(self, line: str) -> float:
        """The number that the process answers to a line."""
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout
        said = self.process.stdout.readline().strip()
        if not said:
            raise SystemExit(f"{self.process.args}: ended early")
        return said

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
