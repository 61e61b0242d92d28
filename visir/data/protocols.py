"""Which gallery images a trial holds: pure functions of how many images there are.

SYSU-MM01's two samplings and LLCM's depend only on the number of images of each identity in each
camera, so they can be drawn, and checked, without a single image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.types import Exclusion, InputError, IntArray, Modality, Protocol, Record, Trial

TRIALS = 10
MULTI_SHOTS = 10
_NOTHING = Exclusion()

Counts = Mapping[tuple[int, int], int]
"""(identity, camera) -> number of images, only if there is at least one."""


class Pick(NamedTuple):
    """One gallery image: the `position`-th (from 0) of that identity's files in that camera."""

    pid: int
    cam: int
    position: int


def seeded_gallery(counts: Counts, cams: Sequence[int], trial: int, shots: int) -> list[Pick]:
    """Draw a gallery with Python's Mersenne Twister seeded by the trial number.

    Identities ascend in the outer loop, `cams` run in the order given in the inner one. One shot
    is `choice` (what the public Python evaluations do); several are `sample` (defined here, the
    public code has no such case), all images if there are fewer.

    Args:
        counts: images per (identity, camera).
        cams: gallery cameras.
        trial: 0-based; the seed.
        shots: images per identity and camera.
    """
    rng = random.Random(trial)
    picks: list[Pick] = []
    for pid in sorted({pid for pid, _ in counts}):
        for cam in cams:
            n = counts.get((pid, cam), 0)
            if n == 0:
                continue
            rows = [rng.choice(range(n))] if shots == 1 else rng.sample(range(n), min(shots, n))
            picks += [Pick(pid, cam, row) for row in rows]
    return picks


def official_gallery(cams: Sequence[int], trial: int, shots: int) -> list[Pick]:
    """The gallery of SYSU-MM01's official evaluation code.

    Args:
        cams: gallery cameras, of 1, 2, 4, 5.
        trial: 0-based.
        shots: 1 (single-shot) to 10 (multi-shot): that many first entries of the permutation.
    """
    facts, counts = _sysu_facts(), official_counts()
    column = {cam: row for row, cam in enumerate(facts["cams"].tolist())}
    return [
        Pick(pid, cam, position - 1)
        for row, pid in enumerate(facts["pids"].tolist())
        for cam in cams
        if (pid, cam) in counts
        for position in facts["picks"][row, column[cam], trial, :shots].tolist()
    ]


def official_counts() -> dict[tuple[int, int], int]:
    """Images per (test identity, visible camera) that the official permutations were made for."""
    facts = _sysu_facts()
    pids, cams = set(facts["pids"].tolist()), set(facts["cams"].tolist())
    return {(p, c): n for (p, c), n in published_counts().items() if p in pids and c in cams}


def published_counts() -> dict[tuple[int, int], int]:
    """Images per (identity, camera) of the whole SYSU-MM01: 45,863 images.

    They show 513 identities: the 491 of the lists in `exp/` and 22 that no list names.
    """
    facts = _sysu_facts()
    return {
        (pid, cam): n
        for pid, row in zip(facts["identities"].tolist(), facts["images"].tolist(), strict=True)
        for cam, n in enumerate(row, start=1)
        if n
    }


@cache
def _sysu_facts() -> dict[str, npt.NDArray[np.integer[Any]]]:
    """Read `sysu_official.npz`.

    Its facts are those of `rand_perm_cam.mat`, published with SYSU-MM01's official evaluation
    code: for each camera and identity ten permutations of 1..n, n the number of images. Kept are

    - `identities` (513,) and `images` (513, 6): n for each identity and camera, 0 where absent;
    - `pids` (96,), `cams` (4,), `picks` (96, 4, 10, 10): for the test identities, ascending, and
      the visible cameras 1, 2, 4, 5 the first ten entries (from 1) of each of the ten trials.
    """
    with (files("visir.data") / "sysu_official.npz").open("rb") as file, np.load(file) as facts:
        return dict(facts)


class Rows:
    """Row numbers of records by identity and camera, in the records' own order."""

    def __init__(self, records: Sequence[Record], rows: Iterable[int]) -> None:
        self._rows: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            pid = records[row].pid
            if pid is not None:
                self._rows.setdefault((pid, records[row].cam), []).append(row)

    @property
    def counts(self) -> dict[tuple[int, int], int]:
        """Images per (identity, camera)."""
        return {key: len(rows) for key, rows in self._rows.items()}

    def of(self, picks: Iterable[Pick]) -> IntArray:
        """(n,) the row numbers of `picks`."""
        rows = [self._rows[pick.pid, pick.cam][pick.position] for pick in picks]
        return np.array(rows, dtype=np.int64)


def require_shared_identity(
    root: Path, records: Sequence[Record], query: IntArray, gallery: IntArray
) -> None:
    """Refuse a test in which no query could ever be found.

    Raises:
        InputError: no identity is in both.
    """
    if {records[row].pid for row in query}.isdisjoint(records[row].pid for row in gallery):
        raise InputError(
            f"{root}: no test identity has both a visible and an infrared image, so nothing can "
            "be scored; add the missing images or correct the labels"
        )


def two_directions(
    root: Path,
    test: tuple[Record, ...],
    name: str,
    rule: str,
    draw: Callable[[IntArray], Sequence[IntArray]] = lambda gallery: [gallery],
    exclusion: Exclusion = _NOTHING,
    unique_identities: bool = False,
) -> dict[str, Protocol]:
    """The protocols "visible-to-infrared" and "infrared-to-visible".

    Args:
        root: the data set, for messages.
        test: the test records; none gives no protocols.
        name: what the protocols' printed names begin with, the data set.
        rule: what they end with.
        draw: from all gallery rows of the modality to each trial's; all of them in one trial
            unless given.
        exclusion: which gallery images a query is not compared with.
        unique_identities: a rank of the CMC is an identity.

    Raises:
        InputError: no identity was seen in both modalities.
    """
    if not test:
        return {}
    rows = {
        modality: np.array([i for i, r in enumerate(test) if r.modality is modality], np.int64)
        for modality in Modality
    }
    require_shared_identity(root, test, rows[Modality.VISIBLE], rows[Modality.INFRARED])
    directions = {f"{modality.value}-to-{modality.other.value}": modality for modality in Modality}
    return {
        key: Protocol(
            name=f"{name} {key}, {rule}",
            trials=tuple(Trial(rows[modality], drawn) for drawn in draw(rows[modality.other])),
            exclusion=exclusion,
            unique_identities=unique_identities,
        )
        for key, modality in directions.items()
    }
