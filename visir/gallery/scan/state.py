"""What the folder of a scan says of itself: `state.json`, with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.run import write_json
from visir.core.untrusted import parse_json
from visir.gallery.scan.blocks import DamagedError

FORMAT = 2
STATE = "state.json"


class Mark(NamedTuple):
    """A change of the gallery's database: its number, and what tells it from others of it."""

    version: int
    stamp: str


def fresh(width: int, generation: int = 0) -> dict[str, Any]:
    """The state of empty arrays, for vectors of `width` numbers."""
    return {"format": FORMAT, "width": width, "generation": generation, "rows": 0, "sorted": 0,
            "dead": 0, "lead": 0, "coarse": 0, "last": 0, "removed": 0, "version": 0, "stamp": "",
            "erasing": {}, "sums": {}}  # fmt: skip


def read(folder: Path, width: int) -> dict[str, Any]:
    """The state of a folder; of an empty one if it says nothing.

    Raises:
        DamagedError: it cannot be read, does not have its checksum, or is of other vectors.
    """
    try:
        state = parse_json((folder / STATE).read_bytes())
    except FileNotFoundError:
        return fresh(width)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{STATE} cannot be read") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DamagedError(f"{STATE} is of another version of visir")
    if state.pop("digest", None) != _digest(state):
        raise DamagedError(f"{STATE} does not have its checksum")
    if state["width"] != width:
        raise DamagedError(f"{STATE} is of another model")
    return {"coarse": 0, **state}  # states of former versions do not say it


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace the state of a folder.

    Raises:
        InputError: it cannot be written.
    """
    write_json(folder / STATE, {**state, "digest": _digest(state)})


def packed(sums: npt.NDArray[np.uint64]) -> str:
    """Checksums of blocks, as the state has them."""
    return sums.tobytes().hex()


def unpacked(sums: str) -> npt.NDArray[np.uint64]:
    """The inverse of `packed`."""
    return np.frombuffer(bytes.fromhex(sums), np.uint64)


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
