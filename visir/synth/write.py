"""Write a whole data set of synthetic people in the folder structure of a public data set."""

from __future__ import annotations

import io
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from visir.core.bounds import require_within_bounds
from visir.core.config import apply, parse_pairs
from visir.core.device import resolve_device
from visir.core.progress import bar
from visir.core.run import sweep, write_image, write_json, write_text
from visir.core.types import InputError, Modality
from visir.core.untrusted import parse_json
from visir.data.images import parse_size
from visir.data.registry import SYNTHETIC
from visir.synth.cameras import SYSU_INFRARED, Shot, World, camera
from visir.synth.layouts import Layout, Spec, as_parameters, lay_out
from visir.synth.render import render_shots

MARKER = SYNTHETIC
_SIZES = {"sysu": "288x144", "regdb": "128x64", "llcm": "288x144", "pool": "128x64"}
_CHUNK = 32  # images rendered together
_MIN_FOR_POOL = 64  # images; with fewer, starting processes costs more time than it saves


def synthesise(
    out: Path,
    *,
    layout: str = "sysu",
    twin: str | None = None,
    ids: int = 24,
    images: int = 4,
    train_ids: int | None = None,
    size: str | None = None,
    unpaired: float = 0.0,
    physics: tuple[str, ...] = (),
    seed: int = 0,
    workers: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> None:
    """Render a data set of synthetic people. Repeat the command to finish an interrupted one.

    Arguments are those of `visir.commands.synth.synth`, whose `set` is `physics` here; `progress`
    shows a progress bar.
    Scripts that use several workers need the usual `if __name__ == "__main__":` guard.

    Raises:
        InputError: a number is out of range, the device is missing, or `out` holds other files.
    """
    device = str(resolve_device(device))
    if workers < 0:
        raise InputError(f"workers: must be 0 (one per core) or more, got {workers}")
    spec = Spec(
        layout=twin or layout,
        twin=twin,
        ids=ids,
        images=images,
        train_ids=train_ids,
        unpaired=unpaired,
        seed=seed,
    )
    if twin and layout not in ("sysu", twin):
        raise InputError(
            f"layout {layout!r}: a twin of {twin} has the layout {twin}; omit the layout"
        )
    whole = lay_out(spec)
    world = _world(spec, physics)
    worlds = whole.worlds or (world,)
    pixels = _pixels(size or _SIZES[spec.layout])
    _claim(out, spec, whole, world, pixels)
    todo = [
        (chunk, worlds[chunk[0].world])
        for chunk in _chunks(whole.shots)
        if not _present(out, chunk)
    ]
    _render_all(out, todo, size=pixels, workers=workers, device=device, progress=progress)
    for name, text in whole.lists.items():
        write_text(out / name, text)


def _world(spec: Spec, physics: tuple[str, ...]) -> World:
    """The world of a data set with its own physics.

    Raises:
        InputError: an unknown name, a value out of range, or physics for a pool, which draws them.
    """
    if physics and spec.layout == "pool":
        raise InputError("layout pool: every world draws its physics; omit --set")
    for name in ("seed", "layout"):
        if name in parse_pairs(physics):
            raise InputError(f"--set {name}: is not physics; use --{name}")
    world = apply(World(seed=spec.seed, layout=spec.layout), physics)
    require_within_bounds(world)
    return world


def _pixels(text: str) -> tuple[int, int]:
    height, width = parse_size(text)
    if min(height, width) < 16 or max(height, width) > 1024:
        raise InputError(f"size {text!r}: height and width must be 16 to 1024 pixels")
    return height, width


def _claim(out: Path, spec: Spec, whole: Layout, world: World, size: tuple[int, int]) -> None:
    """Mark `out` as the folder of this data set, or check that it is already marked so."""
    parameters = as_parameters(spec) | {"size": "{}x{}".format(*size), "world": asdict(world)}
    marker = out / MARKER
    if marker.exists():
        try:
            known = parse_json(marker.read_text(encoding="utf-8"))["parameters"]
            known["world"] = asdict(World(**known["world"]))  # older files lack some factors
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{marker}: the file is damaged; remove {out} and run again") from None
        differing = sorted(k for k in parameters | known if parameters.get(k) != known.get(k))
        if differing:
            was = ", ".join(f"{k} {known.get(k)!r} not {parameters.get(k)!r}" for k in differing)
            raise InputError(f"{out}: was made with {was}; use the same settings or another folder")
        sweep(out)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out}: the folder is not empty and was not made by visir synth; name a new folder"
        )
    write_json(marker, {"parameters": parameters, "counts": whole.counts()})


def _chunks(shots: Sequence[Shot]) -> Iterator[tuple[Shot, ...]]:
    """Split the shots into fixed groups of at most `_CHUNK` shots of one camera."""
    for _, group in groupby(shots, key=lambda shot: (shot.world, shot.modality, shot.cam)):
        row = tuple(group)
        yield from (row[i : i + _CHUNK] for i in range(0, len(row), _CHUNK))


def _present(out: Path, chunk: Sequence[Shot]) -> bool:
    try:
        return all((out / shot.path).stat().st_size for shot in chunk)
    except OSError:
        return False


def _render_all(
    out: Path,
    todo: Sequence[tuple[Sequence[Shot], World]],
    size: tuple[int, int],
    workers: int,
    device: str,
    progress: bool,
) -> None:
    total = sum(len(chunk) for chunk, _ in todo)
    workers = workers or os.cpu_count() or 1
    with bar(None, "rendering people", total, unit="images", show=progress) as shown:
        if workers == 1 or device != "cpu" or total < _MIN_FOR_POOL:
            with _one_thread():
                for chunk, world in todo:
                    shown.update(_render_chunk(out, chunk, world, size, device))
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as pool:
            jobs = [
                pool.submit(_render_chunk, out, chunk, world, size, device) for chunk, world in todo
            ]
            try:
                for job in as_completed(jobs):
                    shown.update(job.result())
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch with one thread, as every worker does, so that rounding is the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _render_chunk(
    out: Path, chunk: Sequence[Shot], world: World, size: tuple[int, int], device: str
) -> int:
    """Render and write one chunk; return its number of images."""
    quality = camera(world, chunk[0].cam, chunk[0].modality).quality
    pictures = render_shots(chunk, world, size, device)
    for shot, picture in zip(chunk, pictures, strict=True):
        path = out / shot.path
        encoded = io.BytesIO()
        image = Image.fromarray(picture)
        if path.suffix == ".jpg":
            image.save(encoded, "JPEG", quality=quality)
        else:
            image.save(encoded, "BMP")
        write_image(path, encoded.getbuffer())
    return len(chunk)


def contact_sheet(
    ids: Sequence[int] = tuple(range(1, 13)),
    cams: Sequence[int] = (1, 2, 3, 4, 5, 6),
    size: tuple[int, int] = (288, 144),
    seed: int = 0,
) -> Image.Image:
    """Draw people side by side, one row per camera of the sysu layout, without writing a data set.

    Args:
        ids: one column per identity.
        cams: one row per camera.
        size: (height, width) of an image in pixels.
        seed: as for `synthesise`.
    """
    world = World(seed=seed)
    rows = []
    for cam in cams:
        modality = Modality.INFRARED if cam in SYSU_INFRARED else Modality.VISIBLE
        shots = [Shot(PurePosixPath(f"{pid}"), pid, cam, modality, 1) for pid in ids]
        rows.append(np.concatenate(render_shots(shots, world, size), axis=1))
    return Image.fromarray(np.concatenate(rows))
