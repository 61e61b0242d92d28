"""Running a grid: results, resumption, killed jobs, and folders that do not fit."""

import json
import os
import time
from pathlib import Path

import pytest
from declared import POOL, SMALL, here, with_pool, write_grid, write_results

from visir import cli
from visir.bench.build import this_build
from visir.bench.render import render
from visir.bench.run import listed, run
from visir.bench.schedule import in_processes
from visir.bench.store import Store
from visir.bench.stored import check
from visir.core.run import Run
from visir.core.types import InputError

STORED = Path(__file__).with_name("smoke.json")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "smoke"
    return out, run("smoke", out, devices="cpu", launch=here(out))


@pytest.mark.slow
def test_the_profile_smoke_gives_its_stored_table(smoke, tmp_path):
    out, ran = smoke
    assert (ran.exit_code, len(ran.outcome.done), ran.outcome.left) == (0, 8, [])
    found = check(STORED, out)
    assert found.wrong == () and len(found.cells) == 29
    rendered = render(out, tmp_path / "table")
    assert "| ADCA, first stage only: the control |" in rendered.text
    assert rendered.picture.read_bytes().startswith(b"\x89PNG")
    assert check(rendered.table, out).exit_code == 0


@pytest.mark.slow
def test_a_result_holds_what_made_it_and_each_trial(smoke):
    out, _ = smoke
    whole = json.loads(Store(out).results.read_text())
    assert whole["schema"] == 1 and whole["missing"] == [] and len(whole["results"]) == 6
    for result in whole["results"]:
        assert result["build"] == this_build().as_json()
        assert len(result["scores"]["all-single-seeded"]["trials"]) == 10
        assert result["minutes"] > 0 and result["processor"]["vector_instructions"]
    (adca,) = (
        of for of in whole["results"] if (of["job"]["name"], of["job"]["seed"]) == ("adca", 1)
    )
    assert adca["spec"]["resolved"]["stage_epochs"] == [1, 1]
    assert {"ari", "ari_clustered", "image_pairs_recall", "purity_visible"} <= adca["labels"].keys()


@pytest.mark.slow
def test_finished_jobs_are_not_run_again(smoke):
    out, _ = smoke

    def never(job, device):
        raise AssertionError(job.key)

    before = {path: path.read_bytes() for path in out.rglob("result.json")}
    assert len(run("smoke", out, devices="cpu", launch=never).outcome.done) == 8
    assert before == {path: path.read_bytes() for path in out.rglob("result.json")}
    assert "8 of 8 jobs are done" in str(listed("smoke", out))


@pytest.mark.slow
def test_a_start_learns_from_a_pool_and_is_scored_as_it_is_and_trained_further(tmp_path):
    out = tmp_path / "out"
    given = with_pool(seeds=[0])
    data = {key: {**of, "train_ids": 4} for key, of in given["data"].items() if key != "pool"}
    grid = write_grid(tmp_path, **given | {"data": {**POOL, **data}})
    assert run(grid, out, devices="cpu", launch=here(out)).exit_code == 0
    found = {key: json.loads(Store(out).result(key).read_text()) for key in (
        "starts/pool/other/0", "arms/people/as-it-is/0", "arms/thermal/as-it-is/0",
        "arms/people/adca/0")}  # fmt: skip
    start, bare, thermal, trained = found.values()
    assert (start["scores"], start["epochs"]) == ({}, 3)
    assert (bare["minutes"], bare["epochs"], bare["labels"]) == (0, 0, {})
    assert [*thermal["scores"]] == ["visible-to-infrared"]
    assert trained["scores"] != bare["scores"] and trained["epochs"] > 0
    text = render(out, tmp_path / "table").text
    assert text.count("| the start as it is |") == 2
    assert "RegDB visible-to-infrared" in text and "SYSU-MM01 all-search" in text


LONG = {
    "starts": {},
    "start": "none",
    "seeds": [3],
    "arms": {"long": {"method": "simclr", "preset": "smoke", "settings": {"epochs": 6}}},
    "table": {"columns": ["mAP"]},
}


def epochs(store, key):
    return [line for line in Run(store.folder(key)).read_metrics() if line["kind"] == "epoch"]


@pytest.mark.slow
def test_a_job_killed_midway_is_repaired_by_running_again(tmp_path):
    """The job ends itself with SIGKILL when its parent is gone, as if that had been killed."""
    grid, key = write_grid(tmp_path, **LONG), "arms/people/long/3"
    out = tmp_path / "out"
    store, waiting = Store(out), []

    def killed(job, device):
        if job.kind == "data":
            return here(out)(job, device)
        with (tmp_path / "lock").open("w") as lock:
            process = in_processes(store, ["cpu"], lock.fileno())(job, device)
        end = time.monotonic() + 300
        while not Run(store.folder(key)).checkpoint.exists() and time.monotonic() < end:
            assert process.poll() is None, store.log(key).read_text()
            time.sleep(0.005)
        process.child.stdin.close()
        waiting.append(process.child.wait(60))
        return process

    broken = run(grid, out, devices="cpu", launch=killed)
    assert waiting == [-9] and broken.outcome.failed == [key] and broken.exit_code == 1
    assert not store.result(key).exists() and "failed: arms/people/long/3" in str(broken)
    before = epochs(store, key)
    assert 1 <= len(before) < 6
    assert "begun arms/people/long/3" in str(listed(grid, out))
    assert run(grid, out, devices="cpu", launch=here(out)).exit_code == 0
    # The epoch that was interrupted may have been logged already: it is trained again, and equal.
    kept = [{**line, "seconds": 0, "views_per_second": 0} for line in before]
    after = [{**line, "seconds": 0, "views_per_second": 0} for line in epochs(store, key)]
    assert after[: len(kept)] == kept and len(after) == 6
    assert epochs(store, key)[0] == before[0]  # to the millisecond: it was not trained again
    assert json.loads(store.result(key).read_text())["epochs"] == 6


@pytest.fixture
def made(tmp_path):
    grid = write_grid(tmp_path / "first")
    out = tmp_path / "out"
    build = this_build().as_json()
    store = write_results(out, grid, {"warm": [0.1], "control": [0.2], "adca": [0.3]})
    for path in (*out.rglob("job.json"), *out.rglob("result.json")):
        path.write_text(json.dumps({**json.loads(path.read_text()), "build": build}))
    return grid, store


def test_results_of_another_build_are_refused_unless_allowed(made):
    grid, store = made
    path = store.job("arms/people/adca/0")
    other = {"version": "0.1.0", "commit": "ab" * 20, "source": "0" * 12}
    path.write_text(json.dumps({**json.loads(path.read_text()), "build": other}))
    with pytest.raises(
        InputError, match=r"made by visir 0.1.0 \(commit abababababab, .* and this is"
    ) as e:
        listed(grid, store.out)
    assert str(this_build()) in str(e.value) and str(path) in str(e.value)
    assert listed(grid, store.out, allow_other_build=True).done


def test_other_code_of_a_method_outside_visir_is_refused_unless_allowed(tmp_path, monkeypatch):
    """Its file is in no build of visir."""
    monkeypatch.syspath_prepend(str(tmp_path))
    code = tmp_path / "method_of_a_site.py"
    code.write_text("from visir.methods.adca import Adca\n\n\nclass Mine(Adca):\n    pass\n")
    arms = {**SMALL["arms"], "mine": {"method": "method_of_a_site:Mine", "preset": "smoke"}}
    grid = write_grid(tmp_path / "first", arms=arms)
    store = write_results(tmp_path / "out", grid, {"warm": [0.1], "mine": [0.3]})
    for path in (*store.out.rglob("job.json"), *store.out.rglob("result.json")):
        build = this_build().as_json()
        path.write_text(json.dumps({**json.loads(path.read_text()), "build": build}))
    assert "arms/people/mine/0" in listed(grid, store.out).done
    code.write_text(code.read_text() + "    epochs = 3\n")
    with pytest.raises(InputError, match=r"mine/0/job.json: .* other code of the method method_of"):
        listed(grid, store.out)
    assert listed(grid, store.out, allow_other_build=True).done


def test_changed_settings_of_a_finished_job_are_refused(made, tmp_path):
    _, store = made
    arms = {**SMALL["arms"], "adca": {**SMALL["arms"]["adca"], "settings": {"eps": 0.6}}}
    changed = write_grid(tmp_path / "second", arms=arms)
    with pytest.raises(
        InputError, match=r"adca/0/job.json: was made with .*eps 0.7 instead of 0.6"
    ):
        listed(changed, store.out)
    more = {**SMALL["arms"], "sdcl": {"method": "sdcl", "preset": "smoke", "label": "new"}}
    assert len(listed(write_grid(tmp_path / "third", arms=more), store.out).done) == 3


def test_a_folder_of_another_grid_or_of_other_files_is_refused(made, tmp_path):
    _, store = made
    with pytest.raises(InputError, match=r"holds results of the grid 'small', not of 'other'"):
        listed(write_grid(tmp_path, "other"), store.out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"mine: holds other files; name a new folder"):
        listed(write_grid(tmp_path), tmp_path / "mine")


DAMAGE = {
    "half a file": (lambda text: text[: len(text) // 2], "cannot be read"),
    "another schema": (
        lambda text: text.replace('"schema": 1', '"schema": 9'),
        "schema 9 is not 1",
    ),
    "no trials": (
        lambda text: text.replace('"trials"', '"trails"'),
        "scores of 'all-single-seeded'",
    ),
    "no labels": (lambda text: text.replace('"labels"', '"lables"'), "key 'labels' is missing"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_result_is_named_with_its_mend(how, made):
    grid, store = made
    path = store.result("arms/people/adca/0")
    broken, said = DAMAGE[how]
    path.write_text(broken(path.read_text()))
    for look in (lambda: listed(grid, store.out), lambda: render(store.out)):
        with pytest.raises(InputError, match=rf"adca/0/result.json: .*{said}.*remove the file"):
            look()


def test_a_folder_in_use_is_refused(made, monkeypatch):
    grid, store = made
    monkeypatch.setattr("visir.bench.store._PATIENCE", 0)
    with store.locked(), pytest.raises(InputError, match=r"process \d+ on .* runs a grid there"):
        run(grid, store.out, devices="cpu", launch=here(store.out))


def test_a_wrong_grid_starts_nothing(tmp_path, capsys):
    arms = {**SMALL["arms"], "last": {"method": "adca", "settings": {"epss": 1}}}
    words = ["bench", "run", write_grid(tmp_path, arms=arms), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "arms: last: settings: unknown key 'epss'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["bench", "run", write_grid(tmp_path), "--out", str(out), "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "-     arms/people/adca/1  after starts/people/warm/1" in text
    assert "0 of 8 jobs are done" in text and not out.exists()


def test_ctrl_c_says_how_to_continue(tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("visir.bench.run.run_jobs", stopped)
    out = tmp_path / "out"
    assert cli.main(["bench", "run", write_grid(tmp_path), "--out", str(out)]) == 130
    assert "stopped; run the same command again to continue" in capsys.readouterr().err
    assert len(json.loads(Store(out).results.read_text())["missing"]) == 6


@pytest.mark.parametrize("words", [["--devices", "cpu,gpu7"], ["--minutes", "0"]])
def test_impossible_devices_and_times_are_refused(words, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["bench", "run", write_grid(tmp_path), "--out", str(out), *words]) == 2
    assert ("gpu7" if "gpu7" in words[1] else "minutes") in capsys.readouterr().err
    assert not os.path.exists(out)
