"""List the images and text files of a synthetic data set, for each layout and for the twins.

A twin has exactly the identities and image counts of the real data set. Nothing is rendered here,
so the counts of a whole data set can be checked quickly.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from itertools import product
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from visir.core.types import InputError, Modality
from visir.data.protocols import published_counts
from visir.data.table import LABELS
from visir.synth.cameras import SYSU_INFRARED, Shot, World
from visir.synth.people import LAYOUT
from visir.synth.pool import FIRST_SEED, shots_of

VISIBLE, INFRARED = Modality.VISIBLE, Modality.INFRARED
REGDB_IDS, REGDB_IMAGES, REGDB_SPLITS = 412, 10, 10
_LLCM_NIR = (1, 2, 4, 5, 6, 7, 8, 9)
_VALIDATION_SHARE = 99 / 395  # of SYSU-MM01's training identities
_MISSING = 0.1  # probability that a camera never saw an identity


@dataclass(frozen=True, slots=True)
class Spec:
    """The data set to make. With a `twin`, `ids`, `images` and `train_ids` are ignored."""

    layout: str
    twin: str | None = None
    ids: int = 24
    images: int = 4
    train_ids: int | None = None
    unpaired: float = 0.0
    seed: int = 0

    @property
    def training(self) -> int:
        """Number of training identities."""
        return self.ids - self.ids // 2 if self.train_ids is None else self.train_ids


class Layout(NamedTuple):
    """All images of a data set, sorted by world, modality, camera, identity and number.

    lists: its text files; worlds: of a pool, one for each value of `Shot.world`; empty otherwise.
    """

    shots: tuple[Shot, ...]
    lists: Mapping[str, str]
    worlds: tuple[World, ...] = ()

    def counts(self) -> dict[str, int]:
        """Number of images in each folder of identities, such as {"cam1": 24}."""
        tally = Counter(str(shot.path.parent.parent) for shot in self.shots)
        return dict(sorted(tally.items()))


def lay_out(spec: Spec) -> Layout:
    """List all images and text files of a data set.

    Raises:
        InputError: the layout or twin is unknown, or a number is out of range.
    """
    layouts = {"sysu": _sysu, "regdb": _regdb, "llcm": _llcm, "pool": _pool}
    _check(spec, layouts)
    return layouts[spec.layout](spec)


def _check(spec: Spec, layouts: Collection[str]) -> None:
    if spec.layout not in layouts:
        raise InputError(f"layout {spec.layout!r}: choose one of {', '.join(layouts)}")
    if spec.twin not in (None, "sysu", "regdb"):
        raise InputError(f"twin {spec.twin!r}: choose sysu or regdb")
    if spec.twin not in (None, spec.layout):
        raise InputError(f"twin {spec.twin!r}: a twin of {spec.twin} needs the layout {spec.twin}")
    if not 0 <= spec.unpaired <= 1:
        raise InputError(f"unpaired {spec.unpaired:g}: must be a share of identities from 0 to 1")
    if not 0 <= spec.seed < FIRST_SEED:
        raise InputError(f"seed {spec.seed}: must be 0 to {FIRST_SEED - 1}")
    if spec.layout == "pool":
        _check_pool(spec)
        return
    if spec.twin is None and (spec.ids < 2 or spec.images < 1):
        raise InputError(
            f"ids {spec.ids}, images {spec.images}: must be at least 2 identities and 1 image"
        )
    if spec.twin is None and not 0 < spec.training < spec.ids:
        raise InputError(
            f"train_ids {spec.training}: must be 1 to {spec.ids - 1}, so that both training and "
            "test have identities"
        )


def _check_pool(spec: Spec) -> None:
    if spec.ids < 2 or spec.images < 1:
        raise InputError(
            f"ids {spec.ids}, images {spec.images}: must be at least 2 identities and 1 image"
        )
    if spec.train_ids is not None or spec.unpaired:
        raise InputError("layout pool: everybody is for training; omit train_ids and unpaired")


class Facts(NamedTuple):
    """SYSU-MM01's numbers: images per (camera, identity), and the identities of each list."""

    counts: dict[tuple[int, int], int]
    train: list[int]
    val: list[int]
    test: list[int]


def facts() -> Facts:
    """Read SYSU-MM01's numbers from the package."""
    known = json.loads(files("visir.synth").joinpath("sysu_ids.json").read_text(encoding="utf-8"))
    counts = {(cam, pid): number for (pid, cam), number in published_counts().items()}
    return Facts(dict(sorted(counts.items())), known["train"], known["val"], known["test"])


def one_modality_only(spec: Spec, train: Iterable[int], draw: int = 0) -> dict[int, Modality]:
    """Draw the training identities that only one modality sees: half of them for each modality."""
    train = sorted(train)
    chosen = np.random.default_rng([spec.seed, LAYOUT, 1, draw]).permutation(train)
    chosen = chosen[: round(spec.unpaired * len(train))]
    half = (len(chosen) + 1) // 2
    return {int(pid): VISIBLE if i < half else INFRARED for i, pid in enumerate(chosen)}


def _split(spec: Spec, draw: int = 0) -> tuple[list[int], list[int]]:
    """Divide the identities 1..ids at random into training and test."""
    mixed = np.random.default_rng([spec.seed, LAYOUT, 0, draw]).permutation(spec.ids) + 1
    return sorted(mixed[: spec.training].tolist()), sorted(mixed[spec.training :].tolist())


def _seen_by(seed: int, pid: int, cams: Sequence[int]) -> set[int]:
    """Draw the cameras of one modality that saw an identity, at least one."""
    rng = np.random.default_rng([seed, LAYOUT, 2, pid, *cams])
    missed, kept = rng.random(len(cams)) < _MISSING, int(rng.integers(len(cams)))
    return {cam for i, cam in enumerate(cams) if not missed[i] or i == kept}


def _line(ids: Iterable[int]) -> str:
    return ",".join(str(pid) for pid in sorted(ids)) + "\n"


def _layout(shots: Iterable[Shot], lists: Mapping[str, str]) -> Layout:
    modality_order = {VISIBLE: 0, INFRARED: 1}
    ordered = sorted(
        shots, key=lambda s: (s.world, modality_order[s.modality], s.cam, s.pid, s.frame)
    )
    return Layout(tuple(ordered), lists)


def _sysu(spec: Spec) -> Layout:
    if spec.twin:
        counts, train, val, test = facts()
    else:
        both, test = _split(spec)
        kept = round(_VALIDATION_SHARE * len(both)) if len(both) >= 4 else 0
        train, val = both[: len(both) - kept], both[len(both) - kept :]
        counts = _sysu_counts(spec, both, test)
    single = one_modality_only(spec, [*train, *val])
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
    return _layout(shots, {f"exp/{name}_id.txt": _line(ids) for name, ids in sides.items()})


def _sysu_counts(
    spec: Spec, train: Iterable[int], test: Iterable[int]
) -> dict[tuple[int, int], int]:
    """Images per (camera, identity); only camera 3 may have missed test identities."""
    seen = {
        pid: _seen_by(spec.seed, pid, (1, 2, 4, 5)) | _seen_by(spec.seed, pid, SYSU_INFRARED)
        for pid in train
    }
    seen |= {pid: {1, 2, 4, 5, 6} | _seen_by(spec.seed, pid, SYSU_INFRARED) for pid in test}
    return {(cam, pid): spec.images for pid in sorted(seen) for cam in sorted(seen[pid])}


def _regdb(spec: Spec) -> Layout:
    if spec.twin:
        spec = replace(spec, ids=REGDB_IDS, images=REGDB_IMAGES, train_ids=None)
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
                for number in range((pid - 1) * spec.images + 1, pid * spec.images + 1)
            ]
            for pid in range(1, spec.ids + 1)
        }
    lists = {}
    for split in range(1, REGDB_SPLITS + 1):
        train, test = _split(spec, split)
        single = one_modality_only(spec, train, split)
        for modality, (_, word, _) in words.items():
            for side, ids in (("train", train), ("test", test)):
                lists[f"idx/{side}_{word}_{split}.txt"] = "".join(
                    f"{shot.path} {label}\n"
                    for label, pid in enumerate(ids)
                    if side == "test" or single.get(pid, modality) is modality
                    for shot in paths[modality][pid]
                )
    return _layout((s for rows in paths.values() for row in rows.values() for s in row), lists)


def _llcm(spec: Spec) -> Layout:
    train, test = _split(spec)
    single = one_modality_only(spec, train)
    shots: list[Shot] = []
    words = {VISIBLE: ("vis", tuple(range(1, 10))), INFRARED: ("nir", _LLCM_NIR)}
    lines: dict[str, list[str]] = {"vis": [], "nir": []}
    for modality, pid in product(words, range(1, spec.ids + 1)):
        if single.get(pid, modality) is not modality:
            continue
        word, cams = words[modality]
        for cam in sorted(_seen_by(spec.seed, pid, cams)):
            folder = PurePosixPath(word) if pid in train else _llcm_test(word, cam)
            row = [
                _llcm_shot(folder, pid, cam=cam, modality=modality, word=word, number=n)
                for n in range(spec.images)
            ]
            shots += row
            if pid in train:
                lines[word] += [f"{shot.path} {train.index(pid)}\n" for shot in row]
    lists = {f"idx/train_{word}.txt": "".join(rows) for word, rows in lines.items()}
    return _layout(shots, lists | {"idx/test_id.txt": _line(test)})


def _llcm_test(word: str, cam: int) -> PurePosixPath:
    return PurePosixPath(f"test_{word}", f"cam{cam}")


def _llcm_shot(
    folder: PurePosixPath, pid: int, cam: int, modality: Modality, word: str, number: int
) -> Shot:
    name = f"{pid:04d}_c{cam:02d}_s{180000 + 10 * pid + cam}_f{number + 1}_{word}.jpg"
    return Shot(folder / f"{pid:04d}" / name, pid, cam, modality, number + 1)


def _pool(spec: Spec) -> Layout:
    worlds, shots, labels = shots_of(spec.seed, spec.ids, spec.images)
    return _layout(shots, {LABELS: labels})._replace(worlds=worlds)


def as_parameters(spec: Spec) -> dict[str, object]:
    """Return the spec as plain values; None for what its twin decides."""
    values = asdict(spec)
    if spec.twin:
        values |= {"ids": None, "images": None, "train_ids": None}
    return values
