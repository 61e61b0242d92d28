"""Rendering: comparison with a slow ray-caster, and the physics of each sensor."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from visir.core.types import Modality
from visir.synth import rays, render, sensors
from visir.synth.body import build
from visir.synth.cameras import Shot, World, camera, moment
from visir.synth.people import DYE, Material, person
from visir.synth.write import contact_sheet

pytestmark = pytest.mark.slow

VIS, IR = Modality.VISIBLE, Modality.INFRARED
SIZE = (48, 24)


def shots(cam: int, modality: Modality, count: int = 6, frame: int = 1) -> list[Shot]:
    return [Shot(PurePosixPath("x"), pid, cam, modality, frame) for pid in range(1, count + 1)]


def setting(cam: int = 1, count: int = 3):
    row = shots(cam, VIS, count)
    people = [person(0, shot.pid, 0.75) for shot in row]
    shape = {k: np.array([p.shape[k] for p in people]) for k in people[0].shape}
    draws = [moment(World(), shot) for shot in row]
    now = {k: np.array([draw[k] for draw in draws]) for k in draws[0]}
    solids = build(shape, now)
    return solids, render._views(shape, now, SIZE)


def slow_nearest(solids, views, image: int, x: float, y: float) -> tuple[float, int]:
    """The nearest solid behind one pixel, by plain algebra in the body's own frame."""
    rotation, origin = views.rotation[image], views.origin[image]
    focal, distance = views.focal[image], views.distance[image]
    ray = rotation.T @ np.array([(x - origin[0]) / focal, (y - origin[1]) / focal, 1.0])
    eye = np.array([0, 0.5, 0]) - rotation.T @ np.array([0, 0, distance])
    best = (np.inf, -1)
    for k in range(len(solids.material)):
        if not solids.on[image, k]:
            continue
        axes = solids.axes[image, k]
        d, o = axes @ ray, axes @ (eye - solids.centre[image, k])
        m, slope = solids.squares[image, k], solids.slope[image, k]
        a, b = (m * d * d).sum(), (m * d * o).sum() + slope * d[2]
        c = (m * o * o).sum() + 2 * slope * o[2] - 1
        if b * b - a * c <= 0:
            continue
        t = c / (np.sqrt(b * b - a * c) - b)
        z = o[2] + t * d[2]
        if t > 0 and solids.clip[image, k, 0] < z < solids.clip[image, k, 1]:
            best = min(best, (t, k))
    return best


def disagreement(solids, views, placed) -> float:
    """Share of the people's pixels where `rays.nearest` and the slow ray caster differ."""
    depth = rays.nearest(placed, views, SIZE)
    far = (depth & ~rays.INDEX_MASK).view(np.float32)
    wrong = total = 0
    for image, y, x in np.ndindex(depth.shape):
        t, solid = slow_nearest(solids, views, image, x + 0.5, y + 0.5)
        there = depth[image, y, x] != rays.EMPTY
        same = there == np.isfinite(t) and (not there or abs(far[image, y, x] - t) < 1e-4)
        wrong += not same or (there and depth[image, y, x] & rays.INDEX_MASK != solid)
        total += np.isfinite(t) or there
    return wrong / total


def test_rays_agree_with_a_slow_ray_caster():
    solids, views = setting()
    assert disagreement(solids, views, rays.place(solids, views, SIZE)) < 0.002


def test_a_broken_ray_caster_is_noticed():
    solids, views = setting()
    placed = rays.place(solids, views, SIZE)
    assert disagreement(solids, views, placed._replace(slope=-placed.slope)) > 0.03
    box = placed.box - (0, 1, 0, 0)  # one column too few
    assert disagreement(solids, views, placed._replace(box=box)) > 0.01


def mixture() -> list[Shot]:
    return [*shots(1, VIS, 3), *shots(3, IR, 3)]


def test_a_picture_depends_on_its_shot_only(monkeypatch):
    row = mixture()
    together = render.render_shots(row, World(), SIZE)
    backwards = render.render_shots(row[::-1], World(), SIZE)[::-1]
    alone = [render.render_shots([shot], World(), SIZE)[0] for shot in row]
    monkeypatch.setattr(sensors, "_AT_ONCE", 1)
    in_parts = render.render_shots(row, World(), SIZE)
    for pictures in (backwards, alone, in_parts):
        assert all((a == b).all() for a, b in zip(together, pictures, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("layout", "cam"), [("sysu", 1), ("sysu", 3), ("regdb", 2)])
def test_a_gpu_draws_the_same(layout, cam):
    row, world = shots(cam, VIS if cam == 1 else IR), World(layout=layout)
    expected = np.stack(render.render_shots(row, world, SIZE)).astype(int)
    found = np.stack(render.render_shots(row, world, SIZE, "cuda"))
    assert np.abs(expected - found).max() <= 1


def test_infrared_has_no_hue_and_visible_has():
    near = np.stack(render.render_shots(shots(3, IR), World(), SIZE))
    visible = np.stack(render.render_shots(shots(2, VIS), World(), SIZE))
    assert (near[..., 0] == near[..., 1]).all() and (near[..., 0] == near[..., 2]).all()
    assert np.ptp(visible.astype(int), axis=-1).mean() > 10


def test_another_seed_has_other_people():
    first, second = person(0, 1, 0.75), person(1, 1, 0.75)
    assert first.shape != second.shape
    assert not np.allclose(first.materials, second.materials)
    assert person(0, 1, 0.75).shape == first.shape


def test_clothes_change_brightness_between_sensors_only_in_part():
    table = np.stack([person(0, pid, 0.75).materials for pid in range(1, 200)])
    cloth = table[:, [Material.UPPER, Material.LOWER]]
    seen = np.sqrt(cloth[..., :3] @ np.array([0.2126, 0.7152, 0.0722]))
    correlation = np.corrcoef(seen.ravel(), np.sqrt(cloth[..., 3]).ravel())[0, 1]
    assert 0.6 < correlation < 0.95
    table = np.stack([person(0, pid, 0.0).materials for pid in range(1, 200)])
    cloth = table[:, [Material.UPPER, Material.LOWER]]
    independent = np.corrcoef(seen.ravel(), np.sqrt(cloth[..., 3]).ravel())[0, 1]
    assert abs(independent) < 0.2


def test_thermal_skin_is_hotter_than_cloth_and_cloth_than_bags():
    warmth = np.stack([person(0, pid, 0.75).materials[:, DYE - 1] for pid in range(1, 100)])
    assert (warmth[:, Material.SKIN] > warmth[:, Material.UPPER]).mean() > 0.99
    assert (warmth[:, Material.UPPER] > warmth[:, Material.BAG]).mean() > 0.9


def test_thermal_people_stand_out_of_a_cold_room():
    row = shots(2, IR, 8)
    images = np.stack(render.render_shots(row, World(layout="regdb"), (64, 32)))[..., 0]
    assert camera(World(layout="regdb"), 2, IR).sensor == "thermal"
    assert images[:, 12:50, 12:20].mean() > images[:, :, :3].mean() + 40


def test_frame_numbers_say_nothing_about_direction():
    yaws = [moment(World(), shots(1, VIS, 1, frame)[0])["yaw"] for frame in range(1, 101)]
    cosines = np.cos(yaws)
    assert abs(np.corrcoef(np.arange(100), cosines)[0, 1]) < 0.3
    assert cosines.min() < -0.9 and cosines.max() > 0.9


def test_cameras_2_and_3_share_a_room():
    second, third = camera(World(), 2, VIS), camera(World(), 3, IR)
    assert second.room == third.room and second.sensor == "visible" and third.sensor == "near"
    assert len({camera(World(), cam, VIS).room for cam in (1, 2, 4, 5)}) == 4


def test_contact_sheet_has_a_column_per_person_and_a_row_per_camera():
    assert contact_sheet((1, 2, 3), (1, 3), SIZE).size == (3 * SIZE[1], 2 * SIZE[0])
