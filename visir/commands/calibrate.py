"""`visir calibrate`: fit the confidences of a run's scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from visir.evaluation.confidence import Calibration


def calibrate(
    run: Path,
    /,
    *,
    data: Path,
    layout: str | None = None,
    split: int = 1,
    part: Literal["train", "test"] = "train",
    no_labels: bool = False,
    false_alarms: float = 0.1,
    device: str = "auto",
) -> Calibration:
    """Fit score confidences and a no-match threshold for a run.

    Writes calibration.json into the run folder, which every search with the run then uses.

    Args:
        run: run folder.
        data: data set, or folder of your own crops, of both modalities.
        layout: folder structure; detected if omitted.
        split: of the data set.
        part: the images to use: those the data set reserves for training, or for test.
        no_labels: use clusters even if identities are known.
        false_alarms: share of queries about absent people that may pass the threshold.
        device: where the network runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.
    """
    from visir.evaluation import calibrate as fit
    from visir.nets.shipped import as_run

    run = as_run(run)
    return fit.calibrate(
        run,
        data,
        layout=layout,
        split=split,
        part=part,
        labels=not no_labels,
        false_alarms=false_alarms,
        device=device,
        progress=True,
    )
