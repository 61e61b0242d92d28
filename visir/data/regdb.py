"""RegDB: `Visible/`, `Thermal/` and ten fixed splits `idx/{train,test}_{visible,thermal}_<n>.txt`.

Each line of a list is `relative/path label`. Labels number the identities of one list from 0, so
the same label means another person in training and in test: they are opaque.
"""

from __future__ import annotations

from pathlib import Path

from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.contract import DataSet, Facts
from visir.data.index_files import read_list
from visir.data.protocols import two_directions

SPLITS = 10
CAMS = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
_WORDS = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}


def load(root: Path, split: int = 1) -> Benchmark:
    """Read one of RegDB's ten splits (1..10): 206 identities to train on, 206 to test.

    Raises:
        InputError: no such split, a list is missing or malformed, or a listed image is missing.
    """
    if not 1 <= split <= SPLITS:
        raise InputError(f"split {split}: RegDB has splits 1 to {SPLITS}")
    train = split_records(root, "train", split)
    test = split_records(root, "test", split)
    return Benchmark(
        name="RegDB",
        root=root,
        train=train,
        test=test,
        protocols=two_directions(root, test, "RegDB", "full gallery"),
        cameras={CAMS[modality]: word for modality, word in _WORDS.items()},
        split=str(split),
    )


def split_records(root: Path, part: str, split: int) -> tuple[Record, ...]:
    """Both modalities of one part (train or test) of a split, sorted by path."""
    return tuple(
        sorted(
            Record(path, label, CAMS[modality], modality)
            for modality in Modality
            for path, label in read_list(root, list_path(root, part, modality, split))
        )
    )


def list_path(root: Path, part: str, modality: Modality, split: int) -> Path:
    """Path of the list of one part (train or test) and modality of a split."""
    return root / "idx" / f"{part}_{_WORDS[modality]}_{split}.txt"


DATASET = DataSet(
    load,
    marks=("idx/train_visible_1.txt", "idx/train_thermal_1.txt", "Thermal/1"),
    splits=SPLITS,
    facts=Facts(
        folders={"Visible": 4120, "Thermal": 4120},
        train_images=(2060, 2060),
        test_images=(2060, 2060),
        train_ids=206,
        test_ids=206,
    ),
)
