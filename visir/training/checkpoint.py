"""Checkpoints: written whole, checked when read, and the one before the last is kept.

A checkpoint is a file of torch.save, which is a zip archive. The SHA-256 of everything before it is
the archive's comment, so that torch.load reads the file as any other.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import torch

from visir.core.run import DamageWarning, Run, atomic_write
from visir.core.types import InputError

State: TypeAlias = dict[str, Any]
_NEEDED = {
    "epoch": int, "epochs": int, "origin": dict, "model": dict, "optimizer": dict, "method": dict,
}  # fmt: skip
_WITHIN = {**_NEEDED, "step": int, "steps": int, "changing": dict, "plan": str}
_DIGITS = 64  # of a SHA-256
_ANEW = "start another run with another --out"


class DamagedError(Exception):
    """A checkpoint cannot be used; the message is the reason."""


@dataclass
class Saved:
    """What a run continues from.

    Attributes:
        last: the state after an epoch; None if no epoch was completed.
        within: the state inside the epoch after it, if one was saved.
    """

    last: State | None
    within: State | None

    @property
    def first(self) -> int:
        """Number of the epoch to continue with."""
        return 0 if self.last is None else self.last["epoch"] + 1

    @property
    def origin(self) -> State | None:
        """What the state keeps of settings and images; None if nothing was saved."""
        state = self.last or self.within
        return None if state is None else state["origin"]


def save(run: Run, state: State) -> None:
    """Replace the last checkpoint, which becomes the one before.

    A process killed between the two renames leaves only the one before; one epoch is repeated.
    """
    with atomic_write(run.checkpoint) as file:
        file.write(packed(state))
        file.flush()
        os.fsync(file.fileno())
        if run.checkpoint.exists():
            run.checkpoint.replace(run.previous)
    run.within.unlink(missing_ok=True)


def save_within(run: Run, state: State) -> None:
    """Replace the state inside an epoch."""
    with atomic_write(run.within) as file:
        file.write(packed(state))


def newest(run: Run) -> Saved:
    """What the run continues from; of damaged files the one before is used, with a warning.

    Raises:
        InputError: all checkpoints are damaged.
    """
    last = _last(run)
    found = Saved(last, None)
    if run.within.exists():
        try:
            within = read(run.within, _WITHIN)
        except DamagedError as error:
            _warn(f"{run.within}: is damaged ({error}); the epoch is repeated from its start")
        else:
            found.within = within if within["epoch"] == found.first else None
    return found


def complete(run: Run) -> State:
    """The state after the last epoch of a finished run.

    Raises:
        InputError: the checkpoint is damaged.
    """
    try:
        return read(run.checkpoint)
    except DamagedError as error:
        raise InputError(
            f"{run.checkpoint}: is damaged ({error}); run the same command with --resume"
        ) from error


def _last(run: Run) -> State | None:
    reasons = []
    for path in (run.checkpoint, run.previous):
        if not path.exists():
            continue
        try:
            state = read(path)
        except DamagedError as error:
            reasons.append(f"{path}: is damaged ({error})")
            continue
        if path == run.previous:
            why = reasons[0] if reasons else f"{run.checkpoint}: is missing"
            _warn(f"{why}; continued from {path}, after epoch {state['epoch'] + 1}")
        return state
    if reasons:
        other = "" if len(reasons) > 1 else " and there is no earlier one"
        raise InputError(f"{'; '.join(reasons)}{other}; restore it from a backup, or {_ANEW}")
    return None


def read(path: Path, needed: dict[str, type] | None = None) -> State:
    """The state in a checkpoint, in the memory of the CPU, if the file is sound.

    Each part of a training moves its own tensors. Of an optimiser the numbers of its steps stay
    where they are: on a GPU, every step of a resumed training would wait for each of them.

    Raises:
        DamagedError: the checksum is wrong, a part is missing, or a number is impossible.
    """
    _require_sound(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise DamagedError(str(error).partition("\n")[0].rstrip(".")) from error
    if not isinstance(state, dict):
        raise DamagedError("it holds no state")
    for name, kind in (needed or _NEEDED).items():
        if not isinstance(state.get(name), kind):
            raise DamagedError(f"{name!r} is missing or of a wrong kind")
    if not 0 <= state["epoch"] < state["epochs"]:
        raise DamagedError(f"epoch {state['epoch'] + 1} of {state['epochs']} is impossible")
    if needed is _WITHIN and not 0 < state["step"] < state["steps"]:
        raise DamagedError(f"batch {state['step']} of {state['steps']} is impossible")
    return state


def _require_sound(path: Path) -> None:
    """Compare a file with its checksum, which is the last thing in it."""
    try:
        with path.open("rb") as file:
            left, digest = path.stat().st_size - _DIGITS, hashlib.sha256()
            while left > 0 and (part := file.read(min(left, 1 << 20))):
                digest.update(part)
                left -= len(part)
            stored = file.read(_DIGITS)
    except OSError as error:
        raise DamagedError(error.strerror or str(error)) from error
    if stored != digest.hexdigest().encode():
        raise DamagedError("its checksum is wrong")


def packed(state: State) -> memoryview:
    """The content of a checkpoint."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as a RuntimeError
    torch.save(state, buffer)
    # An archive ends with the length of its comment, two bytes, and the comment.
    buffer.seek(-2, io.SEEK_END)
    buffer.write(_DIGITS.to_bytes(2, "little"))
    buffer.write(hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    return buffer.getbuffer()


def _warn(text: str) -> None:
    warnings.warn(text, DamageWarning, stacklevel=4)
