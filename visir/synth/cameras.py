"""Virtual cameras (position, sensor) and the random pose, framing and light of each image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from visir.core.bounds import CountFrom0, Positive, Share
from visir.core.types import FloatArray, Modality
from visir.synth.people import CAMERA, IMAGE

Sensor = Literal["visible", "near", "thermal"]

REGDB_VISIBLE = 1  # the infrared camera beside it is 2
POSE = (
    "yaw",
    "phase",
    "stride",
    "lean",
    "turn",
    "distance",
    "hidden",
    "bar_kind",
    "bar_at",
    "bar_size",
)


class Shot(NamedTuple):
    """One image to render: its path in the data set, identity, camera, modality and number.

    world: row of the data set's worlds; only pools have more than one.
    """

    path: PurePosixPath
    pid: int
    cam: int
    modality: Modality
    frame: int
    world: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """The constants of a data set; those from `nir_follows` on are the physics of its sensors.

    Factors multiply what the default world has; at 1 an image is the default world's.
    """

    seed: CountFrom0 = 0
    layout: str = "sysu"
    nir_follows: Share = 0.9  # share of near-infrared brightness that follows visible brightness
    sway: float = 1.0  # factor of the changes of light, exposure and framing between images
    bias: float = 1.0  # factor of the differences between cameras: colour cast, lamp, exposure
    crop: float = 1.0  # factor of the error of the boxes around people
    noise: float = 1.0  # factor of the noise
    blur: float = 1.0  # factor of the blur
    gamma: Positive = 1.0  # exponent of the infrared display curve; above 1: darker shades
    warmth: float = 1.0  # factor of the differences in temperature between clothes


@dataclass(frozen=True, slots=True)
class Camera:
    """A mounted camera; angles in radians, distances in heights of a person."""

    number: int
    sensor: Sensor
    room: int
    outdoor: bool
    pitch: float
    distance: float
    light: (
        FloatArray  # (3,) direction to the light in the body frame of a person who faces the camera
    )
    lamp: FloatArray  # (3,) colour of that light
    ambient: FloatArray  # (3,) colour of the ambient light
    cast: FloatArray  # (3,) white-balance error
    exposure: float
    horizon: float  # row where the wall meets the floor, divided by the image height
    blur: float  # standard deviation, pixels at a height of 288
    noise: float
    gamma: float  # exponent of the display curve
    quality: int  # JPEG
    occlusion: float  # probability that something hides a part of the person
    facing: float  # preferred direction of walking
    preference: float  # strength of that preference; 0: none


SYSU_INFRARED = (3, 6)
_SYSU_ROOMS = {1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 5}  # cameras 2 and 3 share a room


@lru_cache(maxsize=256)
def camera(world: World, cam: int, modality: Modality) -> Camera:
    """Make the camera `cam` of the world for `modality`."""
    infrared = modality is Modality.INFRARED
    sensor: Sensor = "visible"
    if infrared:
        sensor = "thermal" if world.layout == "regdb" else "near"
    room = _SYSU_ROOMS[cam] if world.layout == "sysu" else cam
    outdoor = room >= 3 if world.layout == "sysu" else cam % 2 == 0
    stand = REGDB_VISIBLE if world.layout == "regdb" else cam
    where = np.random.default_rng([world.seed, CAMERA, stand])
    how = np.random.default_rng([world.seed, CAMERA, cam, 1 + infrared])
    side, hard = where.uniform(-1.2, 1.2), 1.0 if outdoor else 0.55
    light = np.array([np.sin(side), where.uniform(0.6, 1.6), np.cos(side)])
    warm = how.normal(0, 0.12) * world.bias + (0.0 if outdoor else 0.08)
    return Camera(
        number=cam,
        sensor=sensor,
        room=room,
        outdoor=outdoor,
        pitch=float(where.uniform(0.03, 0.36)),
        distance=float(where.uniform(3.5, 8.0)),
        light=(light / np.linalg.norm(light)).astype(np.float32),
        lamp=np.array([1 + warm, 1.0, 1 - warm], np.float32) * hard,
        ambient=np.array([1 - warm / 2, 1.0, 1 + warm], np.float32) * (1.25 - 0.7 * hard),
        cast=np.exp(how.normal(0, 0.10, 3) * world.bias).astype(np.float32),
        exposure=float(np.exp(how.normal(0, 0.12) * world.bias)),
        horizon=float(where.uniform(0.42, 0.68)),
        blur=(float(how.uniform(0.4, 1.1)) + 0.5 * (sensor == "thermal")) * world.blur,
        noise=float(how.uniform(0.008, 0.022)) * (1.6 if infrared else 1.0) * world.noise,
        gamma=world.gamma if infrared else 1.0,
        quality=int(how.integers(72, 94)),
        occlusion=float(where.uniform(0.04, 0.22)),
        facing=float(where.uniform(0, 2 * np.pi)),
        preference=0.35,
    )


def moment(world: World, shot: Shot) -> dict[str, float]:
    """Draw the pose, framing, light and sensor values of one image from its own random stream.

    RegDB's two cameras are side by side and take images at the same time: an infrared image has
    the pose of the visible image of the same number.
    """
    drawn = _drawn(world, shot)
    if world.layout == "regdb" and shot.modality is Modality.INFRARED:
        beside = _drawn(world, shot._replace(modality=Modality.VISIBLE, cam=REGDB_VISIBLE))
        drawn |= {name: beside[name] for name in POSE}
    return drawn


def _drawn(world: World, shot: Shot) -> dict[str, float]:
    view = camera(world, shot.cam, shot.modality)
    infrared = int(shot.modality is Modality.INFRARED)
    rng = np.random.default_rng([world.seed, IMAGE, shot.cam, shot.pid, shot.frame, infrared])
    preferred = rng.random() < view.preference
    yaw = rng.vonmises(0, 3.0) + view.facing if preferred else rng.uniform(0, 2 * np.pi)
    hidden = rng.random() < view.occlusion
    sway, crop = world.sway, world.sway * world.crop
    return {
        "yaw": float(yaw),
        "phase": rng.uniform(0, 2 * np.pi),
        "stride": float(np.clip(rng.normal(0.8, 0.3), 0.05, 1.25)),
        "lean": rng.normal(0.05, 0.04),
        "pitch": view.pitch + rng.normal(0, 0.03),
        "roll": rng.normal(0, 0.025) * sway,
        "distance": view.distance * float(np.exp(rng.normal(0, 0.12))),
        "fill": float(np.clip(rng.normal(0.93, 0.035 * crop), 0.78, 1.04)),
        "shift_x": rng.normal(0, 0.035 * crop),
        "shift_y": rng.normal(0, 0.014 * crop),
        "exposure": view.exposure * float(np.exp(rng.normal(0, 0.24 * sway))),
        "warm": rng.normal(0, 0.04 * sway),
        "tint": rng.normal(0, 0.03 * sway),
        "turn": rng.normal(0, 0.3),
        "spot_x": rng.uniform(0.3, 0.7),
        "spot_y": rng.uniform(0.25, 0.6),
        "blur": view.blur * float(np.exp(rng.normal(0, 0.25))),
        "gain": float(np.exp(rng.normal(0, 0.1 * sway))),
        "scene_x": rng.uniform(0, 1),
        "scene_zoom": float(np.exp(rng.uniform(-0.25, 0.3))),
        "scene_flip": float(rng.random() < 0.5),
        "horizon": view.horizon + rng.normal(0, 0.06),
        "hidden": float(hidden),
        "bar_kind": float(rng.integers(3)),
        "bar_at": rng.uniform(0, 1),
        "bar_size": rng.uniform(0.12, 0.34),
        "bar_red": rng.uniform(0.03, 0.6),
        "bar_green": rng.uniform(0.03, 0.6),
        "bar_blue": rng.uniform(0.03, 0.6),
        "bar_near": rng.uniform(0.03, 0.6),
        "bar_warm": rng.uniform(0.0, 0.3),
        "noise_seed": float(rng.integers(2**31)),
    }
