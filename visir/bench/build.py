"""Which build of visir made a result, and on which processor."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

import visir


@dataclass(frozen=True)
class Build:
    """A build of visir.

    version: as `visir --version` prints it; commit: of the git checkout it is imported from, None
    elsewhere; source: 12 digits of the SHA-256 of its Python files, which tells changed files too.
    """

    version: str
    commit: str | None
    source: str

    def __str__(self) -> str:
        commit = f"commit {self.commit[:12]}" if self.commit else "no git checkout"
        return f"visir {self.version} ({commit}, source {self.source})"

    def same_as(self, other: Build) -> bool:
        """Whether both have the same Python files, whatever else a commit changed."""
        return (self.version, self.source) == (other.version, other.source)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a result."""
        return asdict(self)


@cache
def this_build() -> Build:
    """The build that is running."""
    package = Path(visir.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return Build(visir.__version__, _commit(package), digest.hexdigest()[:12])


def _commit(package: Path) -> str | None:
    """The commit of the checkout that tracks the package."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=package, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "HEAD") or None if git("ls-files", "__init__.py") else None
    except OSError:  # git is not installed
        return None


def processor(device: str) -> dict[str, Any]:
    """The processor a job ran on.

    Args:
        device: cpu, cuda or cuda:<n>.

    Returns:
        Its name, PyTorch's vector instructions, the cores and threads; the GPU's name if it was
        used.
    """
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "name": _cpu_name(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    place = torch.device(device)
    if place.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(place)
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
