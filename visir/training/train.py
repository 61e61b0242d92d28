"""The one training loop, for every method.

An epoch is the unit of everything: it is planned, trained, scored, logged and saved as a whole.
All randomness is drawn from (seed, epoch, step, row), so a run that was stopped anywhere continues
from its last complete epoch to the same weights as one that was not.
"""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from visir.core.config import dump_yaml, to_mapping
from visir.core.device import autocast, resolve_device
from visir.core.run import Run, atomic_write, quiet, sweep, write_text
from visir.core.types import Batch, Benchmark, InputError, Modality
from visir.data.check import missing_in_training
from visir.data.dataset import TrainingSet, open_training_set, shared_identities
from visir.data.ranges import as_json, from_json
from visir.data.registry import open_benchmark
from visir.data.rng import key
from visir.data.tree import excluded, is_excluded
from visir.embedding.pytorch import Embedder
from visir.methods import METHODS
from visir.methods.contract import Method, Plan
from visir.nets.imagenet import imagenet_file
from visir.nets.shipped import card_of, start_file
from visir.nets.weights import read_about, save_weights, start_from
from visir.training.progress import Progress
from visir.training.settings import DataPlace, RunSettings, new_settings, stored_settings
from visir.training.settings import find_preset as find_preset

OnEpoch = Callable[[int, Plan | None, Embedder], float | None]
BEFORE_TRAINING = -1
"""The epoch number of what is reported before the first epoch."""
TINY = "preset: tiny, for a first try on a CPU; --preset sysu or regdb has the published settings"


def train(
    method: str,
    data: Path,
    out: Path,
    *,
    preset: str = "tiny",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    split: int = 1,
    layout: str | None = None,
    start: Path | None = None,
    exclude: Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> Run:
    """Train a method on a data set, or on a folder of unlabelled crops.

    Arguments are those of `visir.commands.train.train`, with `settings` to replace as a mapping
    (`{"eps": "0.5"}`). `on_epoch` is called before the first epoch (with `BEFORE_TRAINING` as its
    number and no plan) and after each one, and may return the network's score. `progress` shows a
    bar and one line an epoch on standard error.

    Returns:
        The finished run.

    Raises:
        InputError: unusable settings or data, or a run folder in the way.
    """
    run = Run(out)
    if resume:
        setting = stored_settings(run, method, settings or {})
    else:
        where = DataPlace(data, layout, split, exclude)
        setting = new_settings(
            run, method, preset, settings or {}, seed=seed, data=where, start=start
        )
    loop = _prepared(run, setting, resume, device=device, on_epoch=on_epoch, progress=progress)
    loop.go(resume)
    return run


def _prepared(
    run: Run,
    setting: RunSettings,
    resume: bool,
    device: str,
    on_epoch: OnEpoch | None,
    progress: bool,
) -> _Loop:
    """Open the data set, build the method, and write the settings of a new run."""
    place = resolve_device(device)
    benchmark = _open(setting)
    sweep(run.folder, below=False)  # folders inside may hold files of others
    torch.manual_seed(key(setting.seed))
    data = _training_set(setting, benchmark, run, progress)
    method = METHODS.find(setting.method)(setting.settings, data, place, setting.seed)
    if setting.start and not (resume and run.checkpoint.exists()):
        _start(method, Path(setting.start), progress)
    if not resume:
        _keep(run, setting, benchmark, progress)
    return _Loop(
        run,
        setting,
        benchmark=benchmark,
        data=data,
        method=method,
        device=place,
        on_epoch=on_epoch,
        progress=progress,
    )


def _keep(run: Run, setting: RunSettings, benchmark: Benchmark, progress: bool) -> None:
    """Write what determines the run; say so if real people are trained on with a small preset."""
    setting = replace(setting, ranges=as_json(benchmark.ranges) or None)
    write_text(run.config, dump_yaml(to_mapping(setting)))
    if progress and setting.preset == "tiny" and not benchmark.name.startswith("synthetic"):
        tqdm.write(TINY, file=sys.stderr)


def _training_set(
    setting: RunSettings, benchmark: Benchmark, run: Run, progress: bool
) -> TrainingSet:
    """The images; identities only for methods that learn from labels."""
    method, identities = METHODS.find(setting.method), None
    if method.learns_from_labels:
        identities = shared_identities(benchmark.train, both=method.needs_both_modalities)
    size = setting.settings.size
    training = open_training_set(benchmark.train, size, run.folder / "cache", progress)
    return training._replace(identities=identities)


def _start(method: Method, named: Path, progress: bool) -> None:
    """Load the weights that a training starts from; say what shipped ones have not seen."""
    shipped, path = None, named
    if named == Path("imagenet") and not named.exists():
        path = imagenet_file(method.model)
    elif not named.exists():
        shipped = start_file(str(named), str(method.model.described["size"]))
        path = shipped or named
    loaded = start_from(method.model, Run(path).weights if path.is_dir() else path)
    if progress:
        tqdm.write(f"start: {named if shipped else path}: {loaded}", file=sys.stderr)
        card = card_of(read_about(shipped)) if shipped else None
        if card is not None:
            tqdm.write(f"start: {card.warning(method.config.size)}", file=sys.stderr)


class _Loop:
    """The state of a running training: model, optimiser, epoch."""

    def __init__(
        self,
        run: Run,
        setting: RunSettings,
        benchmark: Benchmark,
        data: TrainingSet,
        method: Method,
        device: torch.device,
        on_epoch: OnEpoch | None,
        progress: bool,
    ) -> None:
        self.run, self.setting, self.config = run, setting, setting.settings
        self.benchmark, self.data, self.method, self.device = benchmark, data, method, device
        self.on_epoch = on_epoch
        self.progress = Progress(run, benchmark, data, method.epochs, progress)
        self.optimizer = method.optimizer()
        self.best = (-math.inf, -1)  # score and epoch of the best in the stage, if one is kept
        self.about = {
            "net": {**method.model.described, "image_size": list(self.config.size)},
            "method": setting.method,
            "dataset": benchmark.name,
            "split": benchmark.split,
            "precision": self.config.precision,
            "ranges": as_json(benchmark.ranges),
        }

    def go(self, resume: bool) -> None:
        """Train from the last complete epoch to the end."""
        first = self._load() if resume else 0
        self._forget_from(first)
        if first == 0:
            self._report(BEFORE_TRAINING, None)
        for epoch in range(first, self.method.epochs):
            # Drop path is the only draw from torch's own generator; seed it by the epoch.
            torch.manual_seed(key(self.setting.seed, epoch))
            began = time.perf_counter()
            said = self._begin_stage(epoch) if epoch in self.method.stage_starts else ()
            plan = self.method.plan(epoch)
            plan = replace(plan, warnings=(*said, *plan.warnings))
            if plan.fresh_optimizer:
                self.optimizer = self.method.optimizer()
            log = self._epoch(epoch, plan)
            log["seconds"] = round(time.perf_counter() - began, 3)
            self.progress.log(epoch, plan, log)
            self._report(epoch, plan)
            self._save(epoch)

    def _epoch(self, epoch: int, plan: Plan) -> dict[str, Any]:
        """Train on every batch of the plan; return mean losses and speed."""
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr * group.get("lr_scale", 1.0)
        sums: dict[str, float] = {}
        views, began = 0, time.perf_counter()
        self.method.model.train()
        bar = tqdm(
            enumerate(plan.batches),
            f"{plan.stage}, epoch {epoch + 1}/{self.method.epochs}",
            plan.steps,
            unit="batch",
            leave=False,
            disable=quiet(self.progress.show),
        )
        for step, parts in bar:
            stream = key(self.setting.seed, epoch, step)
            batch = self.data.batch(parts, stream, self.config.pad, self.device)
            terms = self._step(batch, f"epoch {epoch + 1}, batch {step + 1}")
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value / plan.steps
            views += len(batch.rows)
        return {
            "loss": round(sum(sums.values()), 5),
            "losses": {name: round(value, 5) for name, value in sums.items()},
            "lr": plan.lr,
            "views_per_second": round(views / (time.perf_counter() - began), 1),
        }

    def _step(self, batch: Batch, where: str) -> dict[str, float]:
        with autocast(self.device, self.config.precision):
            outputs = self.method.model(batch.images, batch.infrared)
        terms = self.method.loss(batch, outputs)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise InputError(
                f"{self.run.folder}: the loss is no longer a number in {where}; lower lr "
                "(--set lr=...) or try --set precision=fp32; the last complete epoch is saved"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        self.optimizer.step()
        self.method.after_step(batch, outputs)
        return {name: float(value.detach()) for name, value in terms.items()}

    def _report(self, epoch: int, plan: Plan | None) -> None:
        """Call `on_epoch`; keep a stage's best-scored weights if the settings say so."""
        score = None
        if self.on_epoch is not None:
            embedder = Embedder(self.method.model, self.about, str(self.device))
            score = self.on_epoch(epoch, plan, embedder)
        if plan is None or not self._by_test or epoch >= max(self.method.stage_starts, default=0):
            return
        if score is None:
            raise InputError(
                "stage_start=test-best needs the score of every epoch; add --eval-every 1, or set "
                "stage_start=last"
            )
        if score > self.best[0]:
            self.best = (score, epoch)
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
        # Weights first: if the process is killed between the two, a resumed run repeats this epoch.
        save_weights(self.run.weights, self.method.model, self.about)
        state = {
            "epoch": epoch,
            "model": self.method.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state(),
            "labels": self.progress.state(),
            "best": self.best,
        }
        buffer = io.BytesIO()  # torch's own writer reports a full disk as a RuntimeError
        torch.save(state, buffer)
        with atomic_write(self.run.checkpoint) as file:
            file.write(buffer.getbuffer())

    def _load(self) -> int:
        """Restore the state of the last complete epoch; return the number of the next one."""
        if not self.run.checkpoint.exists():
            return 0
        state = torch.load(self.run.checkpoint, map_location=self.device, weights_only=True)
        self.method.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        try:
            self.method.load_state(state["method"])
        except RuntimeError as error:  # tensors of another shape
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"{self.run.checkpoint}: does not fit the training set any more ({reason}); use "
                "the images and labels it was started with, or start a new run with another --out"
            ) from error
        self.progress.load_state(state.get("labels"))
        self.best = state.get("best", self.best)
        return int(state["epoch"]) + 1

    def _forget_from(self, epoch: int) -> None:
        """Drop metrics of an epoch that was interrupted; it is trained again."""
        first = epoch or BEFORE_TRAINING  # earlier lines are from others, such as `visir demo`
        kept = [line for line in self.run.read_metrics() if line["epoch"] < first]
        write_text(self.run.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def _open(setting: RunSettings) -> Benchmark:
    """The data set, if it can be trained on; prints a warning if images are missing."""
    data, layout = Path(setting.data), setting.layout
    both = METHODS.find(setting.method).needs_both_modalities
    known = from_json(setting.ranges or {}, "config.yaml: ranges")
    benchmark = open_benchmark(data, layout, setting.split, known)
    if setting.exclude is not None:
        names = excluded(Path(setting.exclude))
        kept = (one for one in benchmark.train if not is_excluded(one.path, benchmark.root, names))
        benchmark = replace(benchmark, train=tuple(kept))
    for modality in Modality:
        count = sum(record.modality is modality for record in benchmark.train)
        if count < 2 and both:
            raise InputError(
                f"{benchmark.root}: training needs at least two {modality.value} images, found "
                f"{count}; add images of that modality"
            )
    _warn_of_missing(benchmark, layout)
    return benchmark


def _warn_of_missing(benchmark: Benchmark, layout: str | None) -> None:
    """Warn of an incomplete copy of a public data set."""
    for line in missing_in_training(benchmark, layout):
        tqdm.write(f"warning: {benchmark.root}: {line} (see `visir check`)", file=sys.stderr)
