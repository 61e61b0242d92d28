"""Small trees in each layout, a few real image files each."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(
    path: Path, seed: int = 0, size: tuple[int, int] = (24, 48), grey: bool = False
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise[:, :, 0] if grey else noise).save(path)
    return path


@pytest.fixture
def make_image():
    return write_image


@pytest.fixture
def sysu(tmp_path: Path) -> Path:
    """Identities 1, 2 train, 3 val, 4, 12 test; 3 images each; 12 has no camera 1 and no 3."""
    root = tmp_path / "sysu"
    for name, ids in (("train", "1,2"), ("val", "3"), ("test", "4,12"), ("available", "1,2")):
        (root / "exp").mkdir(parents=True, exist_ok=True)
        (root / "exp" / f"{name}_id.txt").write_text(ids + "\n")
    for cam in range(1, 7):
        for pid in (1, 2, 3, 4, 12):
            if pid == 12 and cam in (1, 3):
                continue
            for number in range(1, 4):
                path = root / f"cam{cam}" / f"{pid:04d}" / f"{number:04d}.jpg"
                write_image(path, seed=cam * 1000 + pid * 10 + number, grey=cam in (3, 6))
    return root


@pytest.fixture
def regdb(tmp_path: Path) -> Path:
    """Four people, 6 images each and modality; in every split two to train on, two to test."""
    root = tmp_path / "regdb"
    (root / "idx").mkdir(parents=True)
    for top, word in (("Visible", "visible"), ("Thermal", "thermal")):
        names = {
            person: [f"{top}/{person}/man_{word[0]}_{n:05d}_{person}.bmp" for n in range(6)]
            for person in (1, 2, 3, 4)
        }
        for person, paths in names.items():
            for number, name in enumerate(paths):
                write_image(root / name, seed=person * 100 + number + (top == "Thermal") * 10000)
        for split in range(1, 11):
            parts = (
                {"train": (1, 2), "test": (3, 4)}
                if split % 2
                else {"train": (3, 4), "test": (1, 2)}
            )
            for part, people in parts.items():
                lines = [f"{p} {label}" for label, who in enumerate(people) for p in names[who]]
                (root / "idx" / f"{part}_{word}_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def llcm(tmp_path: Path) -> Path:
    """Identity 1 to train on, 3 and 4 to test, in cameras 1, 2, 3 (no infrared camera 3)."""
    root = tmp_path / "llcm"
    (root / "idx").mkdir(parents=True)
    (root / "idx" / "test_id.txt").write_text("3,4")
    for word, cams in (("vis", (1, 2, 3)), ("nir", (1, 2))):
        lines = []
        for cam in cams:
            name = f"{word}/0001/0001_c{cam:02d}_s185535_f7010_{word}.jpg"
            write_image(root / name, seed=cam + 100 * (word == "nir"))
            lines.append(f"{name} 0")
            for pid in (3, 4):
                for frame in range(4):
                    name = f"{pid:04d}_c{cam:02d}_s1_f{frame}_{word}.jpg"
                    seed = 1000 * cam + 100 * pid + 10 * frame + (word == "nir")
                    write_image(root / f"test_{word}" / f"cam{cam}" / f"{pid:04d}" / name, seed)
        (root / "idx" / f"train_{word}.txt").write_text("\n".join(lines))
    return root


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A plain folder: cameras door and hall (door in both modalities), two people, unlabelled."""
    root = tmp_path / "crops"
    for seed, name in enumerate(
        ("RGB/door/a1.png", "RGB/door/b1.png", "RGB/hall/a2.png", "ir/door/a3.png", "ir/b2.png")
    ):
        write_image(root / name, seed, grey=name.startswith("ir"))
    return root
