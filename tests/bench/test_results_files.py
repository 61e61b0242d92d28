"""A results.json stands for the folder it was collected in, also where it is stored in the docs."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from declared import write_grid, write_results

from visir import cli
from visir.bench.build import Build
from visir.bench.grid import profile_names, read_grid
from visir.bench.jobs import jobs_of
from visir.bench.render import render
from visir.bench.store import read_results
from visir.bench.stored import check
from visir.bench.tables import Shown, rows_of
from visir.commands import bench
from visir.core.types import InputError

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "docs" / "tables"
PAIRS = sorted(
    path.name for path in TABLES.glob("*.json") if path.with_stem(f"{path.stem}-results").exists()
)
MEANS = {"control": [0.20, 0.24, 0.22], "adca": [0.30, 0.31, 0.35], "warm": [0.1, 0.1, 0.1]}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Drawing takes half a second."""
    monkeypatch.setattr("visir.bench.render.draw", lambda grid, results, path: path.touch())


@pytest.fixture
def grid(tmp_path):
    return write_grid(tmp_path, seeds=[0, 1, 2])


@pytest.fixture
def file(grid, tmp_path):
    """The collected results, away from their folder."""
    store, read = write_results(tmp_path / "out", grid, MEANS), read_grid(grid)
    store.collect(read, jobs_of(read), Build("0.1.0", "c" * 40, "s" * 12))
    return store.results.rename(tmp_path / "small-results.json")


def test_a_table_is_checked_with_the_file_as_with_the_folder(file, tmp_path, capsys):
    table = render(tmp_path / "out").table
    by_folder, by_file = (check(table, of) for of in (tmp_path / "out", file))
    assert by_folder.cells == by_file.cells and not by_file.wrong
    whole = json.loads(file.read_text())
    whole["results"] = [of for of in whole["results"] if of["job"]["seed"] != 2]
    file.write_text(json.dumps(whole))
    assert cli.main(["bench", "check", str(table), "--results", str(file)]) == 1
    assert "people: adca: seeds: stored 3.0000, found 2.0000" in capsys.readouterr().out


def test_a_table_is_rendered_from_the_file_as_from_the_folder(file, grid, tmp_path, monkeypatch):
    folder = render(tmp_path / "out")
    with pytest.raises(InputError, match=r"grid 'small', which does not come .* with --grid"):
        render(file)
    found = render(file, grid=grid)
    assert found.table == tmp_path / "table.json"
    assert found.text == folder.text and found.table.read_text() == folder.table.read_text()
    monkeypatch.setattr("visir.bench.render.profile_names", lambda: ["small"])
    monkeypatch.setattr("visir.bench.render.read_grid", lambda name: read_grid(grid))
    assert render(file, tmp_path / "again").text == folder.text
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"is the grid 'smoke', and .* holds results of 'small'"):
        render(file, grid="smoke")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda whole: whole.pop("grid"), r"key 'grid' is missing; collect it anew"),
        (lambda whole: whole.update(results={}), r"key 'results' is not a list; collect it anew"),
        (lambda whole: whole["results"].append(1), r"result 10: key 'job' is missing; collect"),
        (lambda whole: whole["results"][1].pop("job"), r"result 2: key 'job' is missing; collect"),
        (lambda whole: whole["results"][1]["job"].pop("seed"), r"result 2: key 'job' is damaged"),
        (lambda whole: whole["results"][1].pop("minutes"), r"result 2: key 'minutes' is missing"),
        (lambda whole: whole["results"][1].update(scores=[]), r"result 2: key 'scores' is damaged"),
        (lambda whole: whole.update(grid="other"), r"of the grid 'other', and .* is of 'small'"),
    ],
)  # fmt: skip
def test_damage_to_the_file_is_named(damage, said, file, tmp_path):
    table = render(tmp_path / "out").table
    whole = json.loads(file.read_text())
    damage(whole)
    file.write_text(json.dumps(whole))
    with pytest.raises(InputError, match=said) as caught:
        check(table, file)
    assert str(caught.value).startswith(str(file))


def test_the_help_and_the_docs_name_every_packaged_grid():
    listed = " ".join(str(bench.run.__doc__).split()).partition("comes with visir: ")[2]
    assert listed.partition(".")[0].split(", ") == profile_names()
    page = (ROOT / "docs" / "bench.md").read_text("utf-8")
    rows = page.partition("| grid | what it compares |")[2].partition("\n\n")[0].splitlines()[2:]
    assert sorted(row.split("`")[1] for row in rows) == profile_names()


def test_some_stored_tables_have_their_results():
    assert {"cpu.json", "adapt.json", "parts.json"} <= {*PAIRS}


@pytest.mark.parametrize("name", PAIRS)
def test_every_number_of_a_stored_table_follows_from_its_results(name):
    """Means, intervals, deviations and counts, and no row more or less."""
    stored = json.loads((TABLES / name).read_text("utf-8"))
    path = TABLES / name.replace(".json", "-results.json")
    grid, found = read_results(path)
    assert grid == stored["grid"] and not check(TABLES / name, path).wrong
    shown = Shown(**{**stored["shown"], "columns": tuple(stored["shown"]["columns"])})
    assert {*stored["tables"]} == {data for data, _, _ in found}
    for data, rows in stored["tables"].items():
        again = rows_of(found, data, shown)
        assert {*rows} == {*again}
        for row, numbers in rows.items():
            expected = {number: asdict(of) for number, of in again[row].items()}
            assert {*numbers} == {*expected}, f"{data}: {row}"
            for number, of in numbers.items():
                assert of == pytest.approx(expected[number]), f"{data}: {row}: {number}"
