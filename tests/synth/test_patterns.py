"""Patterns, light, backgrounds and noise: comparison with plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visir.core.types import Modality
from visir.synth import patterns, scenes, sensors
from visir.synth.body import BodyPart
from visir.synth.cameras import World, camera
from visir.synth.people import DYE, FIELDS, PATTERN, Material, Pattern

pytestmark = pytest.mark.slow

COUNT = 4000


def spots(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "part": rng.integers(0, 3, COUNT),
        "x": rng.uniform(-0.12, 0.12, COUNT),
        "y": rng.uniform(-0.1, 0.1, COUNT),
        "side": rng.uniform(-np.pi, np.pi, COUNT),
        "level": rng.uniform(0.4, 0.85, COUNT),
        "radius": rng.uniform(0.03, 0.12, COUNT),
    }


def second(pattern: Pattern, own: np.ndarray, part, x, y, side, level, radius) -> np.ndarray:
    """(N,) the rules of the patterns, for all points at once."""
    period, share, phase = own[PATTERN + 1 : PATTERN + 4].astype(float)
    u, v = side * radius / period + phase, level / period + phase
    wave = np.sin(6.3 * u + 2 * np.sin(4.1 * v)) + np.sin(5.1 * v + 2 * np.sin(3.7 * u))
    emblem = (x / 0.055) ** 2 + ((level - 0.7) / 0.045) ** 2 < 0.6 + share
    return {
        Pattern.PLAIN: np.zeros(COUNT, bool),
        Pattern.HORIZONTAL: v % 1 < share,
        Pattern.VERTICAL: u % 1 < share,
        Pattern.CHECKS: (u % 1 < share) ^ (v % 1 < share),
        Pattern.HALVES: level > 0.6 + 0.18 * phase,
        Pattern.CHEST_BAND: np.abs(level - 0.66 - 0.08 * phase) < 0.02 + 0.05 * share,
        Pattern.LOGO: (part == BodyPart.TORSO) & ((phase < 0.35) ^ (y > 0)) & emblem,
        Pattern.DOTS: (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.3 * share,
        Pattern.CAMOUFLAGE: wave > 0.2,
        Pattern.SLEEVES: part == BodyPart.SLEEVE,
        Pattern.SIDE_STRIPE: (np.abs(x) > 0.8 * radius) & (np.abs(y) < 0.5 * radius),
    }[pattern]


@pytest.mark.parametrize("pattern", list(Pattern))
def test_each_pattern_follows_its_rule(pattern):
    rng = np.random.default_rng(int(pattern))
    points = spots(rng)
    own = np.zeros(FIELDS, np.float32)
    own[PATTERN:] = (pattern, rng.uniform(0.04, 0.1), 0.45, rng.uniform(), 0)
    rows = zip(*points.values(), strict=True)
    found = np.array([patterns._second(patterns._Spot(*row), own) for row in rows])
    assert (found != second(pattern, own, **points)).mean() < 0.001
    if pattern is not Pattern.PLAIN:
        other = Pattern(int(pattern) % 10 + 1)
        assert (found != second(other, own, **points)).mean() > 0.01


@pytest.mark.parametrize("carried", ["nothing", "backpack", "sling"])
def test_straps_and_open_jackets(carried):
    points = spots(np.random.default_rng(1))
    x, level, front = points["x"], points["level"], points["y"] > 0
    worn = np.array([carried == "backpack", carried == "sling", 1.0, 0.05], float)
    pair = front & (np.abs(np.abs(x) - 0.062) < 0.011) & (level > 0.62)
    across = (np.abs(x + (level - 0.665) * 0.72) < 0.011) & (level > 0.5)
    strap = pair if carried == "backpack" else across & (carried == "sling")
    expected = np.where(front & (np.abs(x) < 0.05), Material.INNER, Material.UPPER)
    expected = np.where(strap, Material.BAG, expected)
    expected = np.where(points["part"] == BodyPart.TORSO, expected, Material.UPPER)
    rows = zip(*points.values(), strict=True)
    upper = int(Material.UPPER)
    found = [patterns._worn_over(patterns._Spot(*row), upper, worn) for row in rows]
    assert (np.array(found) == expected).all()


def moments(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        "scene_x": rng.uniform(0, 1, count),
        "scene_zoom": np.exp(rng.uniform(-0.25, 0.3, count)),
        "scene_flip": np.arange(count) % 2.0,
        "horizon": rng.uniform(0.4, 0.7, count),
    }


def test_a_background_is_a_piece_of_the_room_with_a_shadow():
    height, width, now = 32, 16, moments(4)
    wide = scenes.panorama(0, 1, True, height)[:3]
    feet = np.array([[8.0, 30.0]] * 4)
    gain = np.array([[1.0, 0.5], [0.8, 0.5], [0.7, 0.0]], np.float32)
    found = scenes.background(wide, gain, now, feet, (height, width))
    for b in range(4):
        zoom = now["scene_zoom"][b]
        left = now["scene_x"][b] * (wide.shape[2] - width * zoom - 2)
        top = scenes.FLOOR * wide.shape[1] - now["horizon"][b] * height * zoom
        top = np.clip(top, 0, wide.shape[1] - height * zoom - 2)
        for y, x in np.ndindex(height, width):
            across = width - x - 0.5 if now["scene_flip"][b] else x + 0.5
            at = (slice(None), int(top + zoom * (y + 0.5)), int(left + zoom * across))
            away = ((y - 30) / (0.035 * height)) ** 2 + ((x - 8) / (0.15 * height)) ** 2
            expected = wide[at] * gain[:, 0] * (1 - gain[:, 1] * np.exp(-away))
            assert np.allclose(found[b, :, y, x], expected, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_added_before_rounding(channels):
    rng = np.random.default_rng(3)
    image = rng.uniform(-0.1, 1.1, (2, channels, 10, 7)).astype(np.float32)
    noise = sensors._noise(np.array([4.0, 5.0]), 10, 7)
    assert (noise[1] == np.random.default_rng(5).standard_normal((14, 11), np.float32)).all()
    found = np.empty((2, 10, 7, 3), np.uint8)
    sensors._finish(image, noise, np.float32(0.02), found)
    for c in range(3):
        k = min(c, channels - 1)
        noisy = image[:, k] + 0.02 * noise[:, 2 * k : 2 * k + 10, 2 * k : 2 * k + 7]
        expected = np.clip(np.round(noisy * 255), 0, 255)
        assert np.abs(found[..., c] - expected).max() <= 1
        assert (found[..., c] != expected).mean() < 0.01
    assert (found[..., 0] == found[..., 2]).all() == (channels == 1)


def test_the_glow_sums_nine_by_nine():
    image = torch.rand(2, 1, 12, 9, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.avg_pool2d(image, 9, 1, 4) * 81
    assert torch.allclose(sensors._box(sensors._box(image.clone(), 2), 3), expected, atol=1e-4)
    assert not torch.allclose(sensors._box(image.clone(), 2), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("layout", "cam", "modality"),
    [
        ("sysu", 1, Modality.VISIBLE),
        ("sysu", 3, Modality.INFRARED),
        ("regdb", 2, Modality.INFRARED),
    ],
)
def test_a_response_has_weights_for_each_channel_it_sees(layout, cam, modality):
    response = sensors.response(camera(World(layout=layout), cam, modality))
    seen = len(np.arange(DYE)[response.dye])
    assert response.weights.shape == (4, seen) and response.room.shape == (seen, 2)
    assert response.weights.dtype == response.room.dtype == np.float32
