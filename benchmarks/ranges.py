"""Measure what the pixel range of a camera is worth for infrared images of more than 8 bits.

The same rendered people, twice: near-infrared cameras (SYSU-MM01's layout) and a thermal camera
(RegDB's). Their infrared images are saved as they are, as raw counts (14 bits of 16, of which a
camera uses 7000 to 9000) and as hundredths of a kelvin (19.7 to 34.3 degrees Celsius); what lies
between two 8-bit levels is random. Beside the range that visir measures for each camera there are
the two usual conversions: by the extremes of each image, and by dividing by 256.

    python benchmarks/ranges.py
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from demo import spread
from PIL import Image

from visir.core.types import Benchmark, FloatArray, Modality, Record
from visir.data.images import read_image, read_values, resized
from visir.data.ranges import benchmark_with_spans
from visir.data.registry import open_benchmark
from visir.data.table import LABELS
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.evaluate import score_features
from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "ranges.md"
CAMERAS = {"near infrared": "sysu", "thermal": "regdb"}
PROTOCOL = "infrared-to-visible"
PEOPLE, IMAGES = 40, 2
FORMS = {"raw counts": (7000, 9000), "hundredths of a kelvin": (29285, 30744)}
Values = np.ndarray


class Found(NamedTuple):
    """mAP of infrared queries in percent; mean cosine of infrared images of different people."""

    mean_ap: float
    alike: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-ranges"))
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the ready model's own caution
    embedder = load(arguments.run)
    found: dict[tuple[str, str], list[Found]] = {}
    for seed in arguments.seeds:
        for camera, layout in CAMERAS.items():
            data = rendered(arguments.out, embedder.size, layout, seed)
            for name, of in measured(arguments.out, data, embedder, seed).items():
                found.setdefault((name, camera), []).append(of)
                print(seed, camera, name, of, flush=True)
    text = table(found, len(arguments.seeds), Path(arguments.run).name)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def rendered(out: Path, size: tuple[int, int], layout: str, seed: int) -> Path:
    """A folder of labelled crops with 8-bit images, from a layout of synthetic people."""
    folder, source = out / f"{layout}-{seed}-8-bit", out / f"{layout}-{seed}"
    if (folder / LABELS).exists():
        return folder
    height, width = size
    synthesise(
        source,
        layout=layout,
        ids=PEOPLE + 2,
        train_ids=2,
        images=IMAGES,
        size=f"{height}x{width}",
        seed=seed,
        progress=False,
    )
    benchmark = open_benchmark(source)
    rows = ["path,pid"]
    for number, record in enumerate(benchmark.test):
        name = f"{record.modality.value}/{benchmark.cameras[record.cam]}/{number:05d}.png"
        write(folder / name, np.asarray(read_image(record.path).convert("L")), record)
        rows.append(f"{name},{record.pid}")
    (folder / LABELS).write_text("\n".join(rows) + "\n")
    return folder


def write(path: Path, grey: np.ndarray, record: Record) -> None:
    """Write grey values, or the picture itself if it is visible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    visible = record.modality is Modality.VISIBLE
    (read_image(record.path) if visible else Image.fromarray(grey)).save(path)


def measured(out: Path, data: Path, embedder: Embedder, seed: int) -> dict[str, Found]:
    """Accuracy by what the infrared files hold and how they are read."""
    whole = open_benchmark(data)
    clean = embedder.embed_records(whole.test)
    found = {"8 bits": scored(whole, clean)}
    for form, span in FORMS.items():
        benchmark = saved(out / f"{data.name}-{form.split()[0]}", whole, span, seed)
        ways = {
            "range of the camera, measured": embedder.embed_records(
                benchmark_with_spans(benchmark).test
            ),
            "extremes of each image": converted(embedder, benchmark, clean, by_extremes),
            "divided by 256": converted(embedder, benchmark, clean, by_256),
        }
        found |= {f"{form}: {way}": scored(benchmark, of) for way, of in ways.items()}
    return found


def saved(folder: Path, whole: Benchmark, span: tuple[int, int], seed: int) -> Benchmark:
    """The same images, the infrared ones with more than 8 bits; in the same order."""
    rng = np.random.default_rng(seed)
    low, high = span
    for record in whole.test:
        path = folder / record.path.relative_to(whole.root)
        grey = np.asarray(read_image(record.path).convert("L"))
        within = grey + rng.random(grey.shape)
        write(path, (low + within / 256 * (high - low)).astype(np.uint16), record)
    (folder / LABELS).write_bytes((whole.root / LABELS).read_bytes())
    return open_benchmark(folder)


def converted(
    embedder: Embedder, benchmark: Benchmark, clean: FloatArray, way: Callable[[Values], Values]
) -> FloatArray:
    """Features of all images, the infrared ones made 8-bit grey in a way."""
    features = clean.copy()
    rows = [n for n, record in enumerate(benchmark.test) if record.modality is Modality.INFRARED]
    images = []
    for row in rows:
        values = read_values(benchmark.test[row].path, Modality.INFRARED)
        assert values is not None
        grey = Image.fromarray(way(values.astype(np.float64)).astype(np.uint8))
        images.append(resized(grey.convert("RGB"), embedder.size))
    features[rows] = embedder.embed_pixels(np.stack(images), Modality.INFRARED)
    return features


def by_extremes(values: Values) -> Values:
    """The darkest pixel of the image is black, the brightest one white."""
    return 255 * (values - values.min()) / max(np.ptp(values), 1)


def by_256(values: Values) -> Values:
    """The upper eight of sixteen bits."""
    return values // 256


def scored(benchmark: Benchmark, features: FloatArray) -> Found:
    """Accuracy of infrared queries, and how alike their features are."""
    result = score_features(features, benchmark, [PROTOCOL]).results[PROTOCOL]
    infrared = np.array([record.modality is Modality.INFRARED for record in benchmark.test])
    pids = np.array([record.pid for record in benchmark.test])[infrared]
    cosines = features[infrared] @ features[infrared].T
    return Found(100 * result.mean.mAP, float(cosines[pids[:, None] != pids].mean()))


def table(found: dict[tuple[str, str], list[Found]], seeds: int, run: str) -> str:
    """Markdown: a row for each form and way."""
    heads = [f"{camera}, mAP % | mean cosine" for camera in CAMERAS]
    lines = [f"| infrared files | {' | '.join(heads)} |", "|---|" + "---|" * 2 * len(CAMERAS)]
    for name in dict.fromkeys(name for name, _ in found):
        cells = []
        for camera in CAMERAS:
            of = found[name, camera]
            cells.append(spread(np.array([one.mean_ap for one in of]), 1))
            cells.append(spread(np.array([one.alike for one in of]), 2))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± sample standard deviation over {seeds} seeds (people and cameras differ); "
            f"network: {run}. {PEOPLE} synthetic people, {IMAGES} images of each in a camera; "
            "infrared queries, all visible images are the gallery. Mean cosine: between infrared "
            f"images of different people. {os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
