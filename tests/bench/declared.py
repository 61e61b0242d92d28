"""Grids, results and launchers made up for tests."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from visir.bench.grid import read_grid
from visir.bench.jobs import jobs_of
from visir.bench.store import SCHEMA, Store
from visir.bench.work import work

PROTOCOL = "all-single-seeded"
BUILD = {"version": "0.1.0", "commit": "c" * 40, "source": "s" * 12}
SMALL = {
    "data": {"people": {"ids": 10, "train_ids": 6, "images": 2, "size": "32x16", "workers": 1}},
    "starts": {"warm": {"method": "simclr", "preset": "smoke"}},
    "start": "warm",
    "arms": {
        "control": {"method": "adca", "preset": "smoke", "settings": {"stage_epochs": [2, 0]}},
        "adca": {"method": "adca", "preset": "smoke", "label": "ADCA"},
    },
    "seeds": [0, 1],
    "protocols": [PROTOCOL],
    "table": {"control": "control", "columns": ["rank1", "mAP", "difference", "purity"]},
}

ADCA = {"method": "adca", "preset": "smoke"}
POOL = {"pool": {"layout": "pool", "ids": 4, "images": 1, "size": "32x16", "seed": 0}}
IDENTITY = {
    "method": "identity",
    "preset": "smoke",
    "settings": {"network": "micro"},
    "data": "pool",
}


def with_pool(**changes):
    """A grid whose start learns from a pool, and two data sets on which it is scored."""
    people = SMALL["data"]["people"]
    return {
        "data": {**POOL, "people": people, "thermal": {**people, "layout": "regdb"}},
        "starts": {"other": IDENTITY},
        "start": "other",
        "arms": {"as-it-is": {"label": "the start as it is"}, "adca": ADCA},
        "protocols": ["all-single-seeded", "visible-to-infrared"],
        "table": {"columns": ["mAP", "minutes"]},
        **changes,
    }


def write_grid(folder: Path, name: str = "small", **changes: object) -> str:
    """A grid file; `changes` replace its keys."""
    path = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False))
    return str(path)


class Ended:
    """A process that has ended."""

    def __init__(self, code: int) -> None:
        self.code = code

    def poll(self) -> int:
        return self.code

    def stop(self) -> None:
        pass


def here(out: Path):
    """A launcher that does a job at once, in this process."""

    def launch(job, device):
        work(out, job.key, device)
        return Ended(0)

    return launch


def trials(mean: float, count: int = 3) -> list[dict[str, float]]:
    """Trials around a mean mAP (a fraction)."""
    values = [mean + 0.01 * (row - (count - 1) / 2) for row in range(count)]
    other = dict.fromkeys(("rank5", "rank10", "rank20", "mINP", "chance_mAP"), 0.5)
    return [{"rank1": of / 2, "mAP": of, **other, "queries": 7} for of in values]


def scores(mean: float, count: int = 3) -> dict:
    """The scores of one protocol, as a result holds them."""
    of = trials(mean, count)
    means = {name: sum(one[name] for one in of) / count for name in of[0] if name != "queries"}
    return {PROTOCOL: {"protocol": "drawn", "mean": means, "spread": None, "trials": of}}


def write_result(store: Store, key: str, job: dict, spec: dict, mean: float) -> None:
    """A finished training."""
    about = {"schema": SCHEMA, "job": job, "spec": spec, "build": BUILD}
    found = {**about, "torch": "2", "device": "cpu", "minutes": 2.0, "epochs": 3}
    found |= {"processor": {"cores": 2, "machine": "x86_64"}, "scores": scores(mean)}
    found["labels"] = {"purity_visible": 0.5, "purity_infrared": 0.25, "pairs_correct": mean}
    store.result(key).parent.mkdir(parents=True, exist_ok=True)
    store.result(key).write_text(json.dumps(found))
    store.job(key).write_text(json.dumps(about))


def write_results(out: Path, grid: str, means: dict[str, list[float]]) -> Store:
    """Results of a grid's arms, seed by seed, as if it had run."""
    store, read = Store(out), read_grid(grid)
    store.claim(read)
    for job in jobs_of(read):
        if job.name in means and job.seed in read.seeds[: len(means[job.name])]:
            mean = means[job.name][read.seeds.index(job.seed)]
            write_result(store, job.key, job.as_json(), dict(job.spec), mean)
    return store
