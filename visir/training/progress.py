"""What is displayed and logged during a training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from visir.cluster.metrics import describe, diagnose, true_identities, without_numbers
from visir.core.progress import in_words, say
from visir.core.run import Run
from visir.core.types import Benchmark, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.contract import Plan

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Progress:
    """Measures of the pseudo-labels, one line per epoch, metrics file and TensorBoard.

    True identities, if known, are used for these measures only.

    Args:
        run: the run to log to.
        benchmark: what is trained on.
        data: its training images, without labels.
        epochs: number of epochs of the whole training.
        show: write to standard error.
    """

    def __init__(
        self, run: Run, benchmark: Benchmark, data: TrainingSet, epochs: int, show: bool
    ) -> None:
        self.run, self.data, self.epochs, self.show = run, data, epochs, show
        self.truth = true_identities(benchmark.train)
        self.before: IntArray | None = None
        self.said: set[str] = set()
        self.board = _board(run)

    def log(self, epoch: int, plan: Plan, log: dict[str, Any], left: float) -> None:
        """Log an epoch; display its line, with the seconds left, and new warnings."""
        about = {"epoch": epoch, "stage": plan.stage}
        clusters, warnings = self._measured(plan)
        if clusters or plan.log or warnings:
            self.run.log(
                {"kind": "plan", **about, **clusters, **plan.log, "warnings": list(warnings)}
            )
        self.run.log({"kind": "epoch", **about, **log})
        shares = {f"share_{name}": value for name, value in log.get("shares", {}).items()}
        for name, value in {**clusters, **plan.log, **log, **log["losses"], **shares}.items():
            if isinstance(value, (int, float)):
                self.board.add_scalar(name, value, epoch + 1)
        self.board.flush()
        self._warn(warnings)
        if self.show and (plan.trains or clusters):  # epochs after a kept start have nothing to say
            line = _line(epoch, self.epochs, plan, clusters, log)
            after = f"  about {in_words(left)} left" if epoch + 1 < self.epochs else ""
            say(line + after)
            if shares:
                parts = "  ".join(f"{name} {value:.0%}" for name, value in log["shares"].items())
                say(f"time: {parts}")

    def state(self) -> Tensor | None:
        """The last epoch's labels, for comparison with the next one's."""
        return None if self.before is None else torch.from_numpy(self.before)

    def load_state(self, state: Tensor | None) -> None:
        """Restore what `state` returned."""
        self.before = None if state is None else state.cpu().numpy()

    def _measured(self, plan: Plan) -> tuple[dict[str, float], list[str]]:
        """Measures and warnings of a plan's pseudo-labels."""
        if plan.labels is None:
            return {}, list(plan.warnings)
        labels, before = self._by_modality(plan.labels), None
        if self.before is not None:
            before = self._by_modality(self.before)
        truth = None if self.truth is None else self._by_modality(self.truth)
        self.before = plan.labels
        return (
            describe(labels, plan.partners, truth, before),
            [*plan.warnings, *diagnose(labels, before)],
        )

    def _by_modality(self, of_rows: IntArray) -> dict[str, IntArray]:
        return {modality.value: of_rows[self.data.rows(modality)] for modality in Modality}

    def _warn(self, warnings: list[str]) -> None:
        """Display each kind of warning once per run; its numbers change from epoch to epoch."""
        for line in warnings:
            kind = without_numbers(line)
            if self.show and kind not in self.said:
                say(f"warning: {line}")
            self.said.add(kind)


def _line(
    epoch: int, epochs: int, plan: Plan, clusters: Mapping[str, float], log: Mapping[str, Any]
) -> str:
    words = [f"{plan.stage}  epoch {epoch + 1:>3}/{epochs}"]
    if plan.trains:
        words.append(f"loss {log['loss']:.3f}")
    if clusters:
        words.append(f"clusters {clusters['clusters_visible']}+{clusters['clusters_infrared']}")
        words.append(
            f"outliers {clusters['outliers_visible']:.0%}+{clusters['outliers_infrared']:.0%}"
        )
    if "purity_visible" in clusters:
        words.append(
            f"true purity {clusters['purity_visible']:.0%}+{clusters['purity_infrared']:.0%}"
        )
    if "pairs_matched" in clusters:
        right = f" ({clusters['pairs_correct']:.0%} right)" if "pairs_correct" in clusters else ""
        words.append(f"pairs {clusters['pairs_matched']}{right}")
    if plan.trains:
        words.append(f"{log['views_per_second']:.0f} views/s")
    return "  ".join(words)


def _board(run: Run) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.folder / "tensorboard"))
