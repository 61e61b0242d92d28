"""A run made up for tests: drawn people on disk, an embedder that only averages pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from visir.core.types import FloatArray, Modality, Record
from visir.data.ranges import NONE
from visir.embedding.base import chunks_of_pixels

SIZE = (48, 24)
PROTOCOL = "SYSU-MM01 all-search single-shot, seeded gallery"


class PixelEmbedder:
    """ImageEmbedder an image as its own coarse pixels; counts the images it was given."""

    size = SIZE
    method = "adca"
    dataset = None
    split = None
    flip = True
    fingerprint = "f" * 64
    width = 216
    ranges = NONE

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, images: Sequence[Any], modality: Modality, progress: bool = False):
        self.embedded += len(images)
        (pixels,) = chunks_of_pixels(images, (12, 6))
        rows = pixels.astype(np.float32)
        flat = np.stack([row.reshape(-1) - row.mean() + 1e-3 for row in rows])
        return flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def embed_records(self, records: Sequence[Record], progress: bool = False) -> FloatArray:
        return np.concatenate([self.embed([r], r.modality) for r in records])


def draw_person(path: Path, pid: int, infrared: bool, view: int) -> None:
    """A body of three colours; in infrared grey, with other brightness."""
    rng = np.random.default_rng([pid, view, infrared])
    clothes = np.random.default_rng(pid).integers(30, 230, (2, 3))
    picture = Image.new("RGB", SIZE[::-1], tuple(rng.integers(90, 150, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    left = int(rng.integers(5, 9))
    for top, bottom, colour in ((12, 28, clothes[0]), (28, 46, clothes[1])):
        draw.rectangle((left, top, left + 10, bottom), fill=tuple(colour.tolist()))
    draw.ellipse((left + 2, 3, left + 8, 11), fill=(200, 160, 140))
    noise = rng.normal(0, 8, (*SIZE, 3))
    pixels = np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
    if infrared:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_sysu(root: Path, train_ids: int = 3, test_ids: int = 6, images: int = 2) -> Path:
    """A data set in SYSU-MM01's layout; identity 2 is missing from camera 6."""
    ids = list(range(1, train_ids + test_ids + 1))
    for pid in ids:
        for cam in range(1, 7):
            if (pid, cam) == (2, 6):
                continue
            for view in range(1, images + 1):
                path = root / f"cam{cam}" / f"{pid:04d}" / f"{view:04d}.jpg"
                draw_person(path, pid, cam in (3, 6), 10 * cam + view)
    lists = {"train": ids[: train_ids - 1], "val": ids[train_ids - 1 : train_ids]}
    lists["test"] = ids[train_ids:]
    (root / "exp").mkdir()
    for name, members in lists.items():
        (root / "exp" / f"{name}_id.txt").write_text(",".join(map(str, members)) + "\n")
    return root


def make_run(folder: Path, data: Path, epochs: int = 8, scored: bool = True) -> Path:
    """A run folder with settings, weights that are no weights, and made-up metrics."""
    folder.mkdir(parents=True)
    config = {"method": "adca", "preset": "tiny", "seed": 0, "data": str(data)}
    config |= {"layout": None, "split": 1, "start": None, "settings": {"eps": 0.5}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "model.safetensors").write_bytes(b"weights")
    lines = [_metrics(epoch, epochs, scored) for epoch in range(-1, epochs)]
    text = "".join(json.dumps(line) + "\n" for group in lines for line in group)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def _metrics(epoch: int, epochs: int, scored: bool) -> list[dict[str, Any]]:
    done = (epoch + 1) / epochs
    stage = "warm-up" if done < 0.3 else "stage 1" if done < 0.7 else "stage 2"
    label = "random start" if epoch < 0 else stage
    lines: list[dict[str, Any]] = []
    if epoch >= 0 and stage != "warm-up":
        plan: dict[str, Any] = {"kind": "plan", "epoch": epoch, "stage": stage}
        for side, shift in (("visible", 0.0), ("infrared", 0.1)):
            plan[f"clusters_{side}"] = round(20 + 40 * done - 30 * shift)
            plan[f"outliers_{side}"] = 0.5 - 0.4 * done + shift
            plan[f"purity_{side}"] = 0.5 + 0.4 * done - shift
            if epoch > 2:
                plan[f"agreement_{side}"] = 0.2 + 0.7 * done - shift
        if stage == "stage 2":
            plan |= {"pairs_matched": round(30 * done), "pairs_correct": 0.3 + 0.5 * done}
            plan |= {"none_precision": 0.4 * done, "none_recall": 0.9 - 0.3 * done}
            plan |= {"image_pairs_precision": 0.6 * done, "image_pairs_recall": 0.4 * done}
        plan |= {"ari": 0.5 * done, "ari_clustered": 0.7 * done}
        plan["warnings"] = _warnings(plan)
        lines.append(plan)
    if epoch >= 0:
        terms = {"visible": 3 - done, "infrared": 3.2 - 1.5 * done}
        if stage == "warm-up":
            terms = {"contrast": 2.5 - 2 * done}
        line = {"kind": "epoch", "epoch": epoch, "stage": stage, "loss": sum(terms.values())}
        lines.append({**line, "losses": terms, "lr": 1e-3, "seconds": 12.5})
    if scored and (epoch < 0 or epoch % 2 == 1):
        line = {"kind": "scores", "epoch": epoch, "label": label, "protocol": PROTOCOL}
        scores = {"rank1": 0.05 + 0.5 * done, "mAP": 0.07 + 0.4 * done, "mINP": 0.05}
        lines.append({**line, **scores, "chance_mAP": 0.068})
    return lines


def _warnings(plan: dict[str, Any]) -> list[str]:
    """What goes wrong in the epochs counted 3, 4, 5 and 8."""
    said = []
    if plan["epoch"] in (2, 3, 4, 7):
        left = plan["outliers_infrared"]
        said.append(f"infrared: {left:.0%} of the images are outliers: raise eps, lower k1")
    if plan["epoch"] == 4:
        said.append("60 clusters of visible images against 9 of infrared ones: <look> at k1")
    return said


def save_micro_run(folder: Path) -> Path:
    """The weights of a micro transformer that has learnt nothing, as a run folder."""
    import torch

    from visir.nets.vit import Vit
    from visir.nets.weights import save_weights

    torch.manual_seed(0)
    about = {
        "net": {"size": "micro", "image_size": [32, 16], "class_tokens": 2},
        "method": "adca", "precision": "fp32",
    }  # fmt: skip
    save_weights(folder / "model.safetensors", Vit("micro", (32, 16), 2), about)
    return folder
