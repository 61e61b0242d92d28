"""An older build of visir beside this one: its package at a commit, and the names it has."""

from __future__ import annotations

import subprocess
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

ROOT = Path(__file__).parent.parent
# What the builds until commit 1684c8a called it.
FORMER = {
    "visir.core.types:Modality": "visir.types:Modality",
    "visir.gallery.open:open_gallery": "visir.gallery.store:open_gallery",
    "visir.gallery.store:Filter": "visir.gallery.entries:Where",
    "visir.gallery.store:ModelId": "visir.gallery.entries:Model",
    "visir.sources.crop:Entry": "visir.gallery.entries:Entry",
}


def checked_out(commit: str, to: Path) -> Path:
    """The package as it was at a commit, in a folder that is made."""
    to.mkdir()
    packed = subprocess.run(
        ["git", "archive", commit, "visir"], cwd=ROOT, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(to)], input=packed.stdout, check=True)
    return to


def named(place: str) -> Any:
    """A class or function of the build that is imported, by its place in this one."""
    try:
        return resolve_name(place)
    except (ModuleNotFoundError, AttributeError):
        return resolve_name(FORMER[place])
