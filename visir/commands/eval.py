"""`visir eval`: scores of runs, or of embeddings made elsewhere, on test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visir.evaluation.results import Evaluation


@dataclass(frozen=True)
class Evaluated:
    """The scores of each run (or features file), and of all together if there are several."""

    runs: dict[Path, Evaluation]
    together: Evaluation | None = None

    def __str__(self) -> str:
        blocks = [f"{run}\n\n{found.table()}" for run, found in self.runs.items()]
        if self.together is not None:
            blocks.append(f"all {len(self.runs)} runs\n\n{self.together.table()}")
        return "\n\n".join(blocks)


def evaluate(
    runs: tuple[Path, ...] = (),
    /,
    *,
    data: Path | None = None,
    layout: str | None = None,
    split: tuple[int, ...] = (),
    protocols: tuple[str, ...] = (),
    rerank: str = "none",
    no_flip: bool = False,
    features: Path | None = None,
    device: str = "auto",
) -> Evaluated:
    """Score runs on test images, write scores.json beside each and print a table.

    Several runs (one for each RegDB split, or for each seed) are averaged as well. With --features
    embeddings made elsewhere are scored, and no run is named.

    Args:
        runs: run folders, weights files in them, or checkpoints that `visir convert` reads.
        data: folder of the data set; the one the run was trained on if omitted.
        layout: folder structure; detected if omitted.
        split: split of the data set, one for all runs or one for each; the run's own if omitted.
        protocols: keys of protocols, such as all-single-seeded; all of the data set's if omitted.
        rerank: re-ranking of the ranked lists; the table names it.
        no_flip: embed images only, not the mean of image and mirror image, as AGW, HCT and MRA
            were tested.
        features: .npy or .npz file with an embedding for each test image; needs --data.
        device: where the network runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.

    Returns:
        The scores.

    Raises:
        InputError: no run was named, or one cannot be scored on the data.
    """
    from visir.core.types import InputError

    options = {"layout": layout, "protocols": protocols or None, "rerank": rerank}
    if features is not None:
        if runs or data is None:
            raise InputError(
                f"eval: --features {features} needs --data and no run; give the data set's folder "
                "and leave out the runs"
            )
        return _of_features(features, data, split, **options)
    return _of_runs(runs, data, split, flip=not no_flip, device=device, **options)


def _of_runs(
    runs: tuple[Path, ...],
    data: Path | None,
    split: tuple[int, ...],
    **options: Any,  # noqa: ANN401 - those of `evaluate_run`
) -> Evaluated:
    from visir.core.types import InputError
    from visir.evaluation import evaluate as evaluation
    from visir.nets.shipped import as_run

    if not runs:
        raise InputError("eval: no run was given; name at least one run folder")
    splits = split * len(runs) if len(split) == 1 else split or (None,) * len(runs)
    if len(splits) != len(runs):
        raise InputError(f"eval: {len(split)} splits for {len(runs)} runs; give one, or one each")
    found = [
        evaluation.evaluate_run(as_run(run), data, split=own, progress=True, **options)
        for run, own in zip(runs, splits, strict=True)
    ]
    together = evaluation.merge(found) if len(runs) > 1 else None
    return Evaluated(dict(zip(runs, found, strict=True)), together)


def _of_features(
    features: Path,
    data: Path,
    split: tuple[int, ...],
    **options: Any,  # noqa: ANN401 - those of `evaluate_features`
) -> Evaluated:
    from visir.core.types import InputError
    from visir.evaluation.features import evaluate_features

    if len(split) > 1:
        raise InputError(f"eval: {len(split)} splits for one features file; give one")
    found = evaluate_features(features, data, split=split[0] if split else 1, **options)
    return Evaluated({features: found})
