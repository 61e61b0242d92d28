"""Grids: profiles load, jobs follow from them, and what is wrong is named before anything runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from declared import ADCA, IDENTITY, POOL, SMALL, with_pool, write_grid

from visir.bench.grid import profile_names, read_grid
from visir.bench.jobs import jobs_of
from visir.bench.usable import require_usable
from visir.core.run import sha256
from visir.core.types import InputError
from visir.data.dataset import TrainingSet
from visir.methods import METHODS
from visir.nets.shipped import FOLDER, STARTS, start_file
from visir.nets.weights import start_from

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_can_be_run(name):
    grid = read_grid(name)
    jobs = jobs_of(grid)
    kinds = [job.kind for job in jobs]
    assert kinds.count("arms") == len(grid.scored) * len(grid.arms) * len(grid.seeds)
    assert len({job.key for job in jobs}) == len(jobs)
    done = set()
    for job in jobs:
        assert done.issuperset(job.needs)
        done.add(job.key)


@pytest.mark.parametrize("name", [*profile_names(), *sorted(map(str, BENCHMARKS.glob("*.yaml")))])
def test_every_shipped_start_fits_the_networks_that_begin_from_it(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    grid = read_grid(name)
    rows = np.arange(1024)  # CMAG's queue needs many
    people = TrainingSet(np.zeros((1024, 2, 1, 3), np.uint8), rows % 2 == 1, rows % 4, rows // 8)
    for key, config in require_usable(grid).settings.items():
        start = grid.start_of(key)
        if start in STARTS:
            made = METHODS.find(grid.trainings[key].method)(config, people, torch.device("cpu"), 0)
            start_from(made.model, start_file(start, made.model.described["size"]))


def test_the_grid_of_the_documentation_can_be_run(tmp_path):
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.M)
    (tmp_path / "mine.yaml").write_text(text)
    assert len(jobs_of(read_grid(str(tmp_path / "mine.yaml")))) > 4


def test_a_job_says_all_that_determines_its_result(tmp_path):
    arms = {**SMALL["arms"], "further": {**ADCA, "start": "adca", "settings": {"eps": 0.5}},
            "bare": {**ADCA, "start": "none"}}  # fmt: skip
    jobs = {job.key: job for job in jobs_of(read_grid(write_grid(tmp_path, arms=arms)))}
    further = jobs["arms/people/further/1"]
    assert further.needs == ("data/people/1", "arms/people/adca/1")
    assert further.spec["start"] == {"job": "arms/people/adca/1"}
    assert further.spec["settings"] == {"eps": "0.5"}
    assert further.spec["resolved"]["eps"] == 0.5
    assert jobs["arms/people/control/0"].spec["settings"] == {"stage_epochs": "2,0"}
    assert jobs["arms/people/bare/0"].needs == ("data/people/0",)
    assert jobs["data/people/1"].spec["synth"]["seed"] == 1
    assert list(jobs).index("arms/people/bare/0") < list(jobs).index("data/people/1")


def test_a_start_with_data_of_its_own_is_trained_once_and_scored_nowhere(tmp_path):
    jobs = {job.key: job for job in jobs_of(read_grid(write_grid(tmp_path, **with_pool())))}
    assert [key for key in jobs if key.startswith("starts/")] == [
        "starts/pool/other/0",
        "starts/pool/other/1",
    ]
    assert jobs["starts/pool/other/1"].spec["protocols"] == []
    assert jobs["starts/pool/other/1"].needs == ("data/pool/0",)
    bare = jobs["arms/thermal/as-it-is/1"]
    assert (bare.spec["method"], bare.spec["resolved"]) == ("", {})
    assert bare.needs == ("data/thermal/1", "starts/pool/other/1")
    assert bare.spec["protocols"] == ["visible-to-infrared"]
    assert jobs["arms/people/adca/0"].spec["protocols"] == ["all-single-seeded"]


def test_a_data_set_with_a_seed_of_its_own_is_rendered_once(tmp_path):
    data = {"people": {**SMALL["data"]["people"], "seed": 7}}
    keys = [job.key for job in jobs_of(read_grid(write_grid(tmp_path, data=data)))]
    assert [key for key in keys if key.startswith("data/")] == ["data/people/7"]


def test_a_start_from_a_file_is_part_of_the_job(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    grid = read_grid(write_grid(tmp_path, start=str(path), starts={}))
    before = jobs_of(grid)[1].spec["start"]
    path.write_bytes(b"two")
    after = jobs_of(grid)[1].spec["start"]
    assert before["file"] == after["file"] and before["sha256"] != after["sha256"]


def test_a_named_start_is_part_of_the_job_with_its_file(tmp_path):
    settings = {"network": "hybrid-micro", "size": [32, 16]}
    arms = {"named": {**ADCA, "start": "person", "settings": settings},
            "bare": {"start": "person-hybrid-micro"}, "ready": {"start": "builtin"}}  # fmt: skip
    grid = write_grid(tmp_path, arms=arms, starts={}, start="none", table={"columns": ["mAP"]})
    jobs = {job.name: job.spec["start"] for job in jobs_of(read_grid(grid)) if job.name}
    files = {"named": "person-hybrid-micro", "bare": "person-hybrid-micro", "ready": "builtin"}
    for name, file in files.items():
        assert jobs[name]["sha256"] == sha256(FOLDER / f"{file}.safetensors")
    assert jobs["named"]["file"] == "person"


def arm(**changes):
    return {"arms": {**SMALL["arms"], "adca": {**ADCA, **changes}}}


def table(**changes):
    return {"table": {**SMALL["table"], **changes}}


BAD = {
    "a method": (arm(method="adcaa"), r"arms: adca: method 'adcaa' is unknown; did you mean"),
    "a preset": (arm(preset="smok"), r"arms: adca: preset 'smok' of adca .* did you mean 'smoke'"),
    "a switch": (arm(settings={"epss": 1}), r"arms: adca: settings: unknown key 'epss'; did you"),
    "a value": (arm(settings={"eps": "x"}), r"arms: adca: settings: eps must be a number"),
    "a bound": (arm(settings={"eps": 2}), r"arms: adca: setting eps: must be <= 1, got 2"),
    "a key of an arm": (arm(presett="x"), r"adca: unknown key 'presett'; did you mean 'preset'"),
    "pretrain": (arm(command="pretrain"), r"arms: adca: command: pretrain makes backbones"),
    "a protocol": ({"protocols": ["all-single-seeder"]},
                   r"protocols: 'all-single-seeder' is none of data set 'people'; did you mean"),
    "an argument of synth": ({"data": {"people": {"idss": 9}}}, r"people: unknown key 'idss'"),
    "a type of synth": ({"data": {"people": {"ids": "9"}}}, r"data: people: ids must be a whole"),
    "a number of synth": ({"data": {"people": {"ids": 9, "train_ids": 9}}}, r"people: train_ids"),
    "a start that is not there": (arm(start="wram"), r"start of 'adca': 'wram' .* mean 'warm'"),
    "a circle": (arm(start="adca"), r"adca -> adca: each starts from the next"),
    "a larger circle": ({"starts": {"warm": {"method": "simclr", "start": "adca"}}},
                        r"warm -> adca -> warm: each starts from the next"),
    "one key twice": ({"starts": {"warm": {"method": "simclr"}, "adca": ADCA}},
                      r"'adca' names a start and an arm"),
    "no seeds": ({"seeds": []}, r"seeds is empty"),
    "a negative seed": ({"seeds": [0, -1]}, r"seeds: -1 is negative"),
    "a seed twice": ({"seeds": [2, 2]}, r"seeds: 2 is given twice"),
    "no arms": ({"arms": {}}, r"arms is empty"),
    "a key that is no folder": ({"arms": {"a/b": ADCA}}, r"arms: key 'a/b' cannot name a folder"),
    "a control": (table(control="contrl"), r"there is no arm 'contrl'; did you mean 'control'"),
    "no control": (table(control=None), r"column 'difference' needs a control"),
    "a column": (table(columns=["minute"]), r"column 'minute' is unknown; did you mean 'minutes'"),
    "a protocol that is shown": (table(protocol="x"), r"protocol: 'x' is not scored"),
    "a title": (table(titles={"peple": "x"}), r"no data set 'peple'; did you mean 'people'"),
    "a tolerance": (table(tolerance={"mAP": -1}), r"tolerance: mAP must be a number >= 0"),
    "a row of a tolerance": (table(tolerance={"adc/mAP": 1}), r"no start or arm 'adc'; did"),
    "data of a start": (with_pool(starts={"other": {**IDENTITY, "data": "pol"}}),
                        r"other: data: there is no data set 'pol'; did you mean 'pool'"),
    "data of an arm": (with_pool(arms={"adca": {**ADCA, "data": "pool"}}),
                       r"adca: data: only a start without a label"),
    "data of a row": (with_pool(starts={"other": {**IDENTITY, "label": "x"}}),
                      r"other: data: only a start without a label"),
    "nothing to score": (with_pool(data=POOL), r"data: starts learn from all of them"),
    "a start without a method": (with_pool(starts={"other": {"data": "pool"}}),
                                 r"other: key 'method' is missing"),
    "a start that is no network": (with_pool(arms={"bare": {"start": "person"}}),
                                   r"bare: start: person can be trained from, not scored"),
    "settings of no training": (with_pool(arms={"bare": {"settings": {"eps": 1}}}),
                                r"bare: preset, settings and command are for a training"),
    "nothing to score it by": (with_pool(protocols=["all-single-seeded"]),
                               r"none of them is of data set 'thermal', which has visible-to"),
    "a key of the file": ({"seedz": [1]}, r"unknown key 'seedz'; did you mean 'seeds'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_in_a_grid_is_named(fault, tmp_path):
    changes, said = BAD[fault]
    path = write_grid(tmp_path, **changes)
    with pytest.raises(InputError, match=said) as caught:
        jobs_of(read_grid(path))
    assert str(caught.value).startswith(path)


def test_two_arms_of_one_key_are_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("arms:\n  adca: {method: adca}\n  adca: {method: sdcl}\n")
    with pytest.raises(InputError, match=r"twice.yaml: line 3 repeats key 'adca'"):
        read_grid(str(path))


def test_an_unknown_profile_is_answered_with_the_nearest():
    with pytest.raises(
        InputError, match=r"'smok': no such file, and no profile; did you .* 'smoke'"
    ):
        read_grid("smok")
