"""The training loop itself, epoch by epoch and batch by batch.

An epoch is planned, trained, scored, logged and saved as a whole; if asked, the state is also saved
every so many batches. All randomness is drawn from (seed, epoch, step, row), so a run that was
stopped anywhere continues from what was saved to the same weights as one that was not. With several
processes (`visir.training.processes`) each runs this loop, and the first one writes.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

from visir.core import ranks
from visir.core.progress import bar, beating, in_words, say
from visir.core.run import DamageWarning, Run, write_json, write_text
from visir.core.timing import Timing, each, part, timing
from visir.core.types import Benchmark, InputError
from visir.data.dataset import TrainingSet
from visir.data.ranges import as_json
from visir.data.rng import key
from visir.embedding.pytorch import Embedder
from visir.methods.contract import Method, Plan
from visir.nets.weights import save_weights, start_from
from visir.training.checkpoint import Saved, State, save, save_within
from visir.training.passes import (
    Loaded,
    Passes,
    generator_states,
    naming_memory,
    set_generators,
)
from visir.training.processes import digest, require_alike
from visir.training.progress import Progress
from visir.training.remaining import FIRST, Remaining
from visir.training.settings import Division, RunSettings
from visir.training.step import train_step

OnEpoch = Callable[[int, Plan | None, Embedder], float | None]
BEFORE_TRAINING = -1
"""The epoch number of what is reported before the first epoch."""
NEEDS_SCORES = (
    "stage_start=test-best needs the score of every epoch; add --eval-every 1, or set "
    "stage_start=last"
)


@dataclass
class _Done:
    """What is done of an epoch: batches, sums of the terms, views, and seconds they took."""

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    views: int = 0
    seconds: float = 0.0


class Loop:
    """The state of a running training: model, optimiser, epoch.

    Args:
        run: where it is written.
        setting: what determines it.
        benchmark: the data set.
        data: its training images.
        method: what is trained.
        device: of the network.
        division: how batches are divided.
        origin: what checkpoints keep of settings and images.
        save_every: batches after which the state inside an epoch is saved; 0 for never.
        on_epoch: as for `visir.training.train.train`.
        timed: log which share of an epoch's time each part takes.
        progress: show a bar and a line an epoch.
    """

    def __init__(
        self,
        run: Run,
        setting: RunSettings,
        benchmark: Benchmark,
        data: TrainingSet,
        method: Method,
        device: torch.device,
        division: Division,
        origin: Mapping[str, Any],
        save_every: int,
        on_epoch: OnEpoch | None,
        timed: bool,
        progress: bool,
    ) -> None:
        self.run, self.setting, self.config = run, setting, setting.settings
        self.benchmark, self.data, self.method, self.device = benchmark, data, method, device
        self.origin, self.save_every, self.on_epoch = origin, save_every, on_epoch
        self.timed = timed
        self.passes = Passes(method, data, device, division)
        self.writes = ranks.rank() == 0
        self.show = progress and self.writes
        self.progress = (
            Progress(run, benchmark, data, method.epochs, self.show) if self.writes else None
        )
        self.optimizer = method.optimizer()
        self.left = Remaining([method.steps(epoch) for epoch in range(method.epochs)])
        self.best = (-math.inf, -1)  # score and epoch of the best in the stage, if one is kept
        self.about = {
            "net": {**method.model.described, "image_size": list(self.config.size)},
            "method": setting.method,
            "dataset": benchmark.name,
            "split": benchmark.split,
            "precision": self.config.precision,
            "ranges": as_json(benchmark.ranges),
        }

    def go(self, saved: Saved) -> None:
        """Train from what was saved to the end."""
        first = saved.first
        if saved.last is not None:
            self._restore(saved.last)
        saved.last = None  # as large as network and optimiser
        if ranks.count() > 1:
            at = "no saved batch" if saved.within is None else f"batch {saved.within['step']}"
            weights = digest(self.method.model.state_dict())
            require_alike(
                {"a training at": f"epoch {first + 1}, {at}", "weights with the digest": weights},
                "put the run folder and the file of --start on a disk that all machines share",
            )
        if self.writes:
            self._forget_from(first)
        if first == 0:
            self._report(BEFORE_TRAINING, None)
        for epoch in range(first, self.method.epochs):
            # Drop path is the only draw from torch's own generator; seed it by the epoch.
            torch.manual_seed(key(self.setting.seed, epoch))
            began, times = time.perf_counter(), Timing(self.device) if self.timed else None
            said = self._begin_stage(epoch) if epoch in self.method.stage_starts else ()
            with timing(times):
                plan = self._planned(epoch)
            if not plan.trains:
                plan = replace(plan, batches=(), steps=0)
            self.left.planned(plan.steps, time.perf_counter() - began)
            plan = replace(plan, warnings=(*said, *plan.warnings))
            if plan.fresh_optimizer:
                self.optimizer = self.method.optimizer()
            done = _Done()
            if saved.within is not None and epoch == first:
                done = self._restore_within(saved.within, epoch, plan)
                saved.within = None
            with self._naming_memory(epoch), timing(times):
                log = self._epoch(epoch, plan, done, first)
            seconds = time.perf_counter() - began
            log["seconds"] = round(seconds, 3)
            if times is not None:
                log["shares"] = {name: round(of, 4) for name, of in times.shares(seconds).items()}
            left = self.left.seconds(epoch, plan.steps)
            if self.progress is not None:
                self.progress.log(epoch, plan, log, left)
            self._report(epoch, plan)
            self._save(epoch)
            self.left.finished(time.perf_counter() - began - self.left.batch * plan.steps)

    def _planned(self, epoch: int) -> Plan:
        """The plan of an epoch, the same in all processes."""
        said = f"epoch {epoch + 1}/{self.method.epochs}: embedding and clustering"
        with beating(said, self.show), self._naming_memory(epoch), part("clustering"):
            plan = self.method.plan(epoch)
        require_alike(
            {f"a plan of epoch {epoch + 1} with the digest": _digest(plan)},
            "use the same kind of processor and the same versions of libraries for all",
        )
        return plan

    def _naming_memory(self, epoch: int) -> AbstractContextManager[None]:
        """Turn a lack of memory into one sentence."""
        return naming_memory(f"{self.run.folder}: epoch {epoch + 1}", self.passes.division)

    def _epoch(self, epoch: int, plan: Plan, done: _Done, first: int) -> dict[str, Any]:
        """Train on every batch of the plan that is not done; return mean losses and speed.

        In the first epoch of this process the time of the training is estimated.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr * group.get("lr_scale", 1.0)
        began = time.perf_counter() - done.seconds
        self.method.model.train()
        shown = bar(
            each(islice(plan.batches, done.step, None), "loading"),
            f"{plan.stage}, epoch {epoch + 1}/{self.method.epochs}",
            plan.steps,
            initial=done.step,
            unit="batches",
            leave=False,
            show=self.show,
        )
        start, timed = done.step, time.perf_counter()
        for parts in shown:
            stream = key(self.setting.seed, epoch, done.step)
            with part("loading"):
                loaded = self.passes.load(parts, stream)
            terms = self._step(loaded, epoch, done.step)
            for name, value in terms.items():
                done.sums[name] = done.sums.get(name, 0.0) + value / plan.steps
            done.views += len(loaded.batch.rows)
            done.step += 1
            self.left.trained(done.step - start, time.perf_counter() - timed)
            left = in_words(self.left.seconds(epoch, done.step))
            shown.set_postfix_str(f"about {left} left", refresh=False)
            if epoch == first and done.step - start == FIRST and self.show:
                said = f"about {left} left for {self.method.epochs - epoch} epochs"
                say(f"{said}, estimated from {FIRST} batches")
            if self.save_every and done.step % self.save_every == 0 and done.step < plan.steps:
                done.seconds = time.perf_counter() - began
                self._save_within(epoch, plan, done)
        if self.passes.division.batch_norm == "own":  # as everywhere, those of the first are kept
            ranks.copy_first(list(self.method.model.buffers()))
        return {
            "loss": round(sum(done.sums.values()), 5),
            "losses": {name: round(value, 5) for name, value in done.sums.items()},
            "lr": plan.lr,
            "views_per_second": round(done.views / (time.perf_counter() - began), 1),
        }

    def _step(self, loaded: Loaded, epoch: int, step: int) -> dict[str, float]:
        refused = partial(self._not_a_number, loaded, epoch, step)
        return train_step(self.passes, self.optimizer, loaded, refused)

    def _not_a_number(
        self, loaded: Loaded, epoch: int, step: int, values: Mapping[str, float]
    ) -> InputError:
        """Save the batch for looking at; the error that names its file and the terms."""
        batch, finite = loaded.batch, self.passes.finite_images(loaded)
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        rows = batch.host.rows.tolist()
        about = {
            "epoch": epoch + 1,
            "batch": step + 1,
            "lr": [group["lr"] for group in self.optimizer.param_groups],
            "terms": {name: _as_json(value) for name, value in values.items()},
            "rows": rows,
            "files": [str(self.benchmark.train[row].path) for row in rows],
            "infrared": batch.host.infrared.tolist(),
            "labels": batch.host.labels.tolist(),
            "finite_images": finite,
        }
        if self.writes:
            write_json(self.run.bad_batch, about)
        ranks.told(None)  # no process ends before it is written
        return InputError(
            f"{self.run.folder}: the loss is no longer a number in epoch {epoch + 1}, batch "
            f"{step + 1} ({', '.join(wrong) or 'the sum of the terms overflows'}); its images and "
            f"terms are in {self.run.bad_batch}; start another run with a lower lr (--set lr=...) "
            "or --set precision=fp32; the last complete epoch is saved"
        )

    def _report(self, epoch: int, plan: Plan | None) -> None:
        """Call `on_epoch`; keep a stage's best-scored weights if the settings say so."""
        score = None
        if self.on_epoch is not None and self.writes:
            embedder = Embedder(self.method.model, self.about, str(self.device))
            score = self.on_epoch(epoch, plan, embedder)
        score = ranks.told(score)
        if plan is None or not self._by_test or epoch >= max(self.method.stage_starts, default=0):
            return
        if score is None:
            raise InputError(NEEDS_SCORES)
        if score > self.best[0]:
            self.best = (score, epoch)
            if self.writes:
                save_weights(self.run.stage_best, self.method.model, self.about)

    @property
    def _by_test(self) -> bool:
        return self.method.stage_start == "test-best"

    def _begin_stage(self, epoch: int) -> tuple[str, ...]:
        """Restore the best-scored epoch of the stage before, if the settings say so."""
        if not self._by_test or not epoch:
            return ()
        start_from(self.method.model, self.run.stage_best)
        score, chosen = self.best
        self.best = (-math.inf, -1)
        return (
            f"this stage starts from epoch {chosen + 1}, chosen by its score of {score:.1%} on "
            "the test identities",
        )

    def _save(self, epoch: int) -> None:
        weights = self.method.model.state_dict()
        if not torch.stack([of.isfinite().all() for of in weights.values()]).all():
            raise InputError(
                f"{self.run.folder}: weights of the network are no longer numbers after epoch "
                f"{epoch + 1}; start another run with a lower lr (--set lr=...) or --set "
                "precision=fp32; the epoch before it is saved"
            )
        if self.progress is not None:
            # Weights first: if it is killed between the two, a resumed run repeats this epoch.
            save_weights(self.run.weights, self.method.model, self.about)
            labels = self.progress.state()
            save(self.run, {**self._state(epoch), "labels": labels, "best": self.best})
        ranks.told(None)  # the others read what the first has written

    def _state(self, epoch: int) -> State:
        return {
            "epoch": epoch,
            "epochs": self.method.epochs,
            "origin": dict(self.origin),
            "model": self.method.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state(),
        }

    def _save_within(self, epoch: int, plan: Plan, done: _Done) -> None:
        if not self.writes:
            return
        draws, *on_device = generator_states(self.device)
        state = {
            **self._state(epoch),
            "step": done.step,
            "steps": plan.steps,
            "done": vars(done),
            "changing": self.method.step_state(),
            "plan": _digest(plan),
            "draws": draws,
        }
        if on_device:
            state["draws_cuda"] = on_device[0]
        save_within(self.run, state)

    def _restore(self, state: State) -> None:
        """Restore the state after an epoch, or what of the state inside one is of the same kind."""
        try:
            self.method.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.method.load_state(state["method"])
        except (RuntimeError, KeyError, ValueError) as error:  # tensors of another shape
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"{self.run.checkpoint}: does not fit the training set any more ({reason}); use "
                "the images and labels it was started with, or start a new run with another --out"
            ) from error
        if "labels" in state:
            if self.progress is not None:
                self.progress.load_state(state["labels"])
            self.best = state.get("best", self.best)

    def _restore_within(self, state: State, epoch: int, plan: Plan) -> _Done:
        """Restore the state inside an epoch that has just been planned again."""
        if state["plan"] != _digest(plan):
            warnings.warn(
                f"{self.run.within}: epoch {epoch + 1} is planned differently now (another device, "
                "or another version of a library), so it is repeated from its start",
                DamageWarning,
                stacklevel=3,
            )
            return _Done()
        self._restore(state)
        self.method.load_step_state(state["changing"])
        on_device = [state["draws_cuda"]] if "draws_cuda" in state else []
        set_generators([state["draws"], *on_device], self.device)
        return _Done(**state["done"])

    def _forget_from(self, epoch: int) -> None:
        """Drop metrics of an epoch that was interrupted; it is trained again."""
        first = epoch or BEFORE_TRAINING  # earlier lines are from others, such as `visir demo`
        kept = [line for line in self.run.read_metrics() if line["epoch"] < first]
        write_text(self.run.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _as_json(value: float) -> float | str:
    """A number, or the name of what is none: JSON has no NaN."""
    return value if math.isfinite(value) else str(value)


def _digest(plan: Plan) -> str:
    """Identifies what an epoch trains on: a resumed one must not mix labels of two plans."""
    found = hashlib.sha256(f"{plan.stage}|{plan.steps}|{plan.lr}".encode())
    for labels in (plan.labels, plan.partners):
        found.update(b"-" if labels is None else labels.tobytes())
    return found.hexdigest()
