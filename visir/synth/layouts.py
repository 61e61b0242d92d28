"""What is to be rendered, as data: the shots and lists of every layout, and of the twins.

A twin has exactly the identities and image counts of the real data set. Nothing is rendered here,
so the counts of a whole data set can be checked in a moment.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import product
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from visir.core.types import InputError, Modality
from visir.data.protocols import published_counts
from visir.synth.cameras import SYSU_INFRARED, Shot
from visir.synth.people import PLAN

VISIBLE, INFRARED = Modality.VISIBLE, Modality.INFRARED
REGDB_IDS, REGDB_IMAGES, REGDB_SPLITS = 412, 10, 10
_LLCM_NIR = (1, 2, 4, 5, 6, 7, 8, 9)
_VALIDATION_SHARE = 99 / 395  # of SYSU-MM01's training identities
_MISSING = 0.1  # chance that an identity was never seen by a camera


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted; `ids`, `images` and `train_ids` do not count where `twin` is named."""

    layout: str
    twin: str | None = None
    ids: int = 24
    images: int = 4
    train_ids: int | None = None
    unpaired: float = 0.0
    seed: int = 0

    @property
    def training(self) -> int:
        """How many identities are for training."""
        return self.ids - self.ids // 2 if self.train_ids is None else self.train_ids


class Plan(NamedTuple):
    """All images of a data set, by modality, camera, identity and number, and its text files."""

    shots: tuple[Shot, ...]
    lists: Mapping[str, str]

    def counts(self) -> dict[str, int]:
        """How many images each folder of identities holds, such as {"cam1": 24}."""
        tally = Counter(str(shot.path.parent.parent) for shot in self.shots)
        return dict(sorted(tally.items()))


def plan(order: Order) -> Plan:
    """Lay a data set out.

    Raises:
        InputError: an unknown layout or twin, or numbers that cannot be.
    """
    layouts = {"sysu": _sysu, "regdb": _regdb, "llcm": _llcm}
    _check(order, layouts)
    return layouts[order.layout](order)


def _check(order: Order, layouts: Collection[str]) -> None:
    if order.layout not in layouts:
        raise InputError(f"layout {order.layout!r}: choose one of {', '.join(layouts)}")
    if order.twin not in (None, "sysu", "regdb"):
        raise InputError(f"twin {order.twin!r}: choose sysu or regdb")
    if order.twin not in (None, order.layout):
        raise InputError(f"twin {order.twin!r}: its layout is {order.twin}, not {order.layout}")
    if not 0 <= order.unpaired <= 1:
        raise InputError(f"unpaired {order.unpaired:g}: give a share of identities from 0 to 1")
    if order.seed < 0:
        raise InputError(f"seed {order.seed}: give a number from 0 up")
    if order.twin is None and (order.ids < 2 or order.images < 1):
        raise InputError(
            f"ids {order.ids}, images {order.images}: give at least 2 identities of 1 image"
        )
    if order.twin is None and not 0 < order.training < order.ids:
        raise InputError(
            f"train_ids {order.training}: give a number from 1 to {order.ids - 1}, so that both "
            "training and test have identities"
        )


class Facts(NamedTuple):
    """SYSU-MM01's own numbers: images per (camera, identity), and who is in which list."""

    counts: dict[tuple[int, int], int]
    train: list[int]
    val: list[int]
    test: list[int]


def facts() -> Facts:
    """Read SYSU-MM01's numbers from the package."""
    known = json.loads(files("visir.synth").joinpath("sysu_ids.json").read_text(encoding="utf-8"))
    counts = {(cam, pid): number for (pid, cam), number in published_counts().items()}
    return Facts(dict(sorted(counts.items())), known["train"], known["val"], known["test"])


def one_modality_only(order: Order, train: Iterable[int], draw: int = 0) -> dict[int, Modality]:
    """Training identities that only one modality ever sees: half of them each, by seed."""
    train = sorted(train)
    chosen = np.random.default_rng([order.seed, PLAN, 1, draw]).permutation(train)
    chosen = chosen[: round(order.unpaired * len(train))]
    half = (len(chosen) + 1) // 2
    return {int(pid): VISIBLE if i < half else INFRARED for i, pid in enumerate(chosen)}


def _split(order: Order, draw: int = 0) -> tuple[list[int], list[int]]:
    """Identities 1..ids, drawn into training and test."""
    mixed = np.random.default_rng([order.seed, PLAN, 0, draw]).permutation(order.ids) + 1
    return sorted(mixed[: order.training].tolist()), sorted(mixed[order.training :].tolist())


def _seen_by(seed: int, pid: int, cams: Sequence[int]) -> set[int]:
    """The cameras of one modality that saw an identity, at least one of them."""
    rng = np.random.default_rng([seed, PLAN, 2, pid, *cams])
    missed, kept = rng.random(len(cams)) < _MISSING, int(rng.integers(len(cams)))
    return {cam for i, cam in enumerate(cams) if not missed[i] or i == kept}


def _line(ids: Iterable[int]) -> str:
    return ",".join(str(pid) for pid in sorted(ids)) + "\n"


def _plan(shots: Iterable[Shot], lists: Mapping[str, str]) -> Plan:
    order = {VISIBLE: 0, INFRARED: 1}
    ordered = sorted(shots, key=lambda s: (order[s.modality], s.cam, s.pid, s.frame))
    return Plan(tuple(ordered), lists)


def _sysu(order: Order) -> Plan:
    if order.twin:
        counts, train, val, test = facts()
    else:
        both, test = _split(order)
        kept = round(_VALIDATION_SHARE * len(both)) if len(both) >= 4 else 0
        train, val = both[: len(both) - kept], both[len(both) - kept :]
        counts = _sysu_counts(order, both, test)
    single = one_modality_only(order, [*train, *val])
    shots = []
    for (cam, pid), number in counts.items():
        modality = INFRARED if cam in SYSU_INFRARED else VISIBLE
        if single.get(pid, modality) is not modality:
            continue
        folder = PurePosixPath(f"cam{cam}", f"{pid:04d}")
        shots += [
            Shot(folder / f"{frame:04d}.jpg", pid, cam, modality, frame)
            for frame in range(1, number + 1)
        ]
    available = {shot.pid for shot in shots}
    sides = {"train": train, "val": val, "test": test, "available": available}
    return _plan(shots, {f"exp/{name}_id.txt": _line(ids) for name, ids in sides.items()})


def _sysu_counts(
    order: Order, train: Iterable[int], test: Iterable[int]
) -> dict[tuple[int, int], int]:
    """Images per (camera, identity); of test identities, only camera 3 may have missed some."""
    seen = {
        pid: _seen_by(order.seed, pid, (1, 2, 4, 5)) | _seen_by(order.seed, pid, SYSU_INFRARED)
        for pid in train
    }
    seen |= {pid: {1, 2, 4, 5, 6} | _seen_by(order.seed, pid, SYSU_INFRARED) for pid in test}
    return {(cam, pid): order.images for pid in sorted(seen) for cam in sorted(seen[pid])}


def _regdb(order: Order) -> Plan:
    if order.twin:
        order = Order("regdb", "regdb", REGDB_IDS, REGDB_IMAGES, None, order.unpaired, order.seed)
    words = {VISIBLE: ("Visible", "visible", 1), INFRARED: ("Thermal", "thermal", 2)}
    paths: dict[Modality, dict[int, list[Shot]]] = {}
    for modality, (folder, word, cam) in words.items():
        paths[modality] = {
            pid: [
                Shot(
                    PurePosixPath(folder, f"{pid}", f"person_{word[0]}_{number:05d}_{pid}.bmp"),
                    pid,
                    cam,
                    modality,
                    number,
                )
                for number in range((pid - 1) * order.images + 1, pid * order.images + 1)
            ]
            for pid in range(1, order.ids + 1)
        }
    lists = {}
    for split in range(1, REGDB_SPLITS + 1):
        train, test = _split(order, split)
        single = one_modality_only(order, train, split)
        for modality, (_, word, _) in words.items():
            for side, ids in (("train", train), ("test", test)):
                lists[f"idx/{side}_{word}_{split}.txt"] = "".join(
                    f"{shot.path} {label}\n"
                    for label, pid in enumerate(ids)
                    if side == "test" or single.get(pid, modality) is modality
                    for shot in paths[modality][pid]
                )
    return _plan((s for rows in paths.values() for row in rows.values() for s in row), lists)


def _llcm(order: Order) -> Plan:
    train, test = _split(order)
    single = one_modality_only(order, train)
    shots: list[Shot] = []
    words = {VISIBLE: ("vis", tuple(range(1, 10))), INFRARED: ("nir", _LLCM_NIR)}
    lines: dict[str, list[str]] = {"vis": [], "nir": []}
    for modality, pid in product(words, range(1, order.ids + 1)):
        if single.get(pid, modality) is not modality:
            continue
        word, cams = words[modality]
        for cam in sorted(_seen_by(order.seed, pid, cams)):
            folder = PurePosixPath(word) if pid in train else _llcm_test(word, cam)
            row = [_llcm_shot(folder, pid, cam, modality, word, n) for n in range(order.images)]
            shots += row
            if pid in train:
                lines[word] += [f"{shot.path} {train.index(pid)}\n" for shot in row]
    lists = {f"idx/train_{word}.txt": "".join(rows) for word, rows in lines.items()}
    return _plan(shots, lists | {"idx/test_id.txt": _line(test)})


def _llcm_test(word: str, cam: int) -> PurePosixPath:
    return PurePosixPath(f"test_{word}", f"cam{cam}")


def _llcm_shot(
    folder: PurePosixPath, pid: int, cam: int, modality: Modality, word: str, number: int
) -> Shot:
    name = f"{pid:04d}_c{cam:02d}_s{180000 + 10 * pid + cam}_f{number + 1}_{word}.jpg"
    return Shot(folder / f"{pid:04d}" / name, pid, cam, modality, number + 1)


def as_parameters(order: Order) -> dict[str, object]:
    """The order as plain values, without what its twin decides."""
    values = asdict(order)
    if order.twin:
        values |= {"ids": None, "images": None, "train_ids": None}
    return values
