"""A pool: people of many worlds, to pre-train on; none of them is in any other data set.

Every world has its own people, cameras and sensors, drawn anew: what is learned on one world holds
there only. Seeds of a pool's worlds are larger than any seed that other data sets accept, so their
people, clothes and cameras cannot be the same.
"""

from __future__ import annotations

from itertools import product
from pathlib import PurePosixPath

import numpy as np

from visir.core.types import InputError, Modality
from visir.synth.cameras import Shot, World

FIRST_SEED = 2**40
"""Worlds of pools have seeds from here on; other data sets' seeds are smaller."""
MOST_WORLDS = 2**16  # of one pool
PEOPLE_OF_A_WORLD = 50
_PHYSICS = 7  # the use of a random stream
_CAMERAS = {  # of a world by its style: visible, infrared, and factor of the images of each
    "sysu": ((1, 2, 4, 5), (3, 6), 1),
    "llcm": ((1, 2, 3, 4), (5, 6), 1),
    "regdb": ((1,), (2,), 3),
}
_STYLES = ("sysu", "regdb", "llcm", "sysu", "regdb")


def world_seeds(seed: int, worlds: int) -> range:
    """The seeds of a pool's worlds."""
    first = FIRST_SEED + seed * MOST_WORLDS
    return range(first, first + worlds)


def draw_world(seed: int) -> World:
    """A world with physics of its own, from its seed alone; two of five are thermal."""
    rng = np.random.default_rng([seed, _PHYSICS])

    def factor(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    return World(
        seed=seed,
        layout=_STYLES[seed % len(_STYLES)],
        nir_follows=float(rng.uniform(0.3, 1.0)),
        sway=factor(0.7, 1.8),
        bias=factor(0.5, 2.5),
        crop=factor(0.7, 2.0),
        noise=factor(0.5, 2.0),
        blur=factor(0.6, 1.8),
        gamma=factor(0.7, 1.5),
        warmth=factor(0.6, 1.8),
    )


def shots_of(seed: int, ids: int, images: int) -> tuple[tuple[World, ...], list[Shot], str]:
    """The worlds of a pool, its images, and its `labels.csv`.

    Args:
        seed: of the pool.
        ids: number of people; every world has `PEOPLE_OF_A_WORLD` of them, the last one the rest.
        images: of each person in each camera, three times as many in a world of two cameras.

    Raises:
        InputError: more people than the worlds of one pool hold.
    """
    count = -(-ids // PEOPLE_OF_A_WORLD)
    if count > MOST_WORLDS:
        raise InputError(
            f"ids {ids}: a pool holds at most {MOST_WORLDS * PEOPLE_OF_A_WORLD} people; make "
            "several pools with different seeds"
        )
    worlds = tuple(draw_world(one) for one in world_seeds(seed, count))
    shots = []
    for pid in range(1, ids + 1):
        number = (pid - 1) // PEOPLE_OF_A_WORLD
        visible, infrared, factor = _CAMERAS[worlds[number].layout]
        for modality, cams in zip(Modality, (visible, infrared), strict=True):
            for cam, frame in product(cams, range(1, factor * images + 1)):
                folder = PurePosixPath(modality.value, f"world{number + 1:05d}-camera{cam}")
                path = folder / f"{pid:07d}-{frame:03d}.jpg"
                shots.append(Shot(path, pid, cam, modality, frame=frame, world=number))
    rows = "".join(f"{shot.path},{shot.pid},train\n" for shot in shots)
    return worlds, shots, f"path,pid,split\n{rows}"
