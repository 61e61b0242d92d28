"""Tables, their check, and comparisons, on results made up for it."""

import json
import re

import pytest
from declared import PROTOCOL, SMALL, scores, write_grid, write_results
from matplotlib.figure import Figure
from scipy import stats

from visir import cli
from visir.bench.compare import compare
from visir.bench.grid import read_grid
from visir.bench.plots import _intervals
from visir.bench.render import render
from visir.bench.stored import check
from visir.bench.tables import Shown
from visir.core.types import InputError

MEANS = {"control": [0.20, 0.24, 0.22], "adca": [0.30, 0.31, 0.35], "warm": [0.1, 0.1, 0.1]}
COLUMNS = [
    "rank1",
    "mAP",
    "difference",
    "pairs_correct",
    "purity",
    "labels.purity_visible",
    "minutes",
]


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Drawing takes half a second; one test does it."""
    if request.function is not test_a_table_shows_what_the_grid_declares:
        monkeypatch.setattr("visir.bench.render.draw", lambda grid, results, path: None)


@pytest.fixture
def grid(tmp_path):
    table = {"control": "control", "columns": COLUMNS, "titles": {"people": "Ten people"}}
    return write_grid(tmp_path, seeds=[0, 1, 2], table={**table, "caption": "Made up."})


@pytest.fixture
def store(grid, tmp_path):
    return write_results(tmp_path / "out", grid, MEANS)


def arm(store, name):
    return store.out / "arms" / "people" / name


def test_a_table_shows_what_the_grid_declares(store, tmp_path):
    done = render(store.out, tmp_path / "docs" / "mine")
    lines = done.markdown.read_text().splitlines()
    assert lines[0].startswith(
        "| Ten people | rank-1, % | mAP, % | mAP less the control's | right p"
    )
    interval = stats.ttest_1samp([10, 7, 13], 0).confidence_interval()
    difference = f"+10.0 [{interval.low:.1f}, {interval.high:.1f}]"
    assert lines[2].startswith("| control | 11.0 ± 1.0 | 22.0 ± 2.0 | - | 22.0 | 50 + 25 | 0.500 |")
    assert lines[3].startswith(
        f"| ADCA | 16.0 ± 1.3 | 32.0 ± 2.6 | {difference} | 32.0 | 50 + 25 |"
    )
    assert len(lines) == 6  # a start without a label has no row
    assert "over 3 seeds (0, 1, 2)" in lines[5] and "Made up." in lines[5]
    assert done.picture.read_bytes().startswith(b"\x89PNG")


def test_the_plot_shows_differences_seed_by_seed_where_rows_are_paired(store, grid, tmp_path):
    def drawn(grid, store):
        axes = Figure().subplots()
        declared = read_grid(grid)
        _intervals(axes, store.trained(declared), "people", Shown.of(declared))
        seeds = [of.get_offsets()[:, 0].tolist() for of in axes.collections]
        return seeds, axes.get_xlabel()

    (control, adca), label = drawn(grid, store)
    assert control == [0, 0, 0]
    assert adca == pytest.approx([10, 7, 13])
    assert "“control”" in label
    apart = write_grid(tmp_path, "apart", seeds=[0, 1, 2], paired=False)
    (control, adca), label = drawn(apart, write_results(tmp_path / "apart", apart, MEANS))
    assert control == pytest.approx([20, 24, 22])
    assert label.startswith("mAP, %")


def test_minutes_are_the_median_of_the_seeds(tmp_path):
    grid = write_grid(tmp_path, seeds=[0, 1, 2], table={"columns": ["mAP", "minutes"]})
    store = write_results(tmp_path / "out", grid, MEANS)
    for seed, minutes in enumerate((100.0, 7.0, 8.0)):
        path = store.result(f"arms/people/adca/{seed}")
        path.write_text(json.dumps({**json.loads(path.read_text()), "minutes": minutes}))
    text = render(store.out).text
    assert "minutes, median" in text and re.search(r"\| ADCA \| [^|]+ \| 8\.0 \|", text)


def test_missing_trainings_are_said_and_pairs_are_those_that_both_have(store, grid):
    store.result("arms/people/adca/1").unlink()
    store.result("arms/people/control/2").unlink()
    text = render(store.out).text
    assert "| ADCA | 16.2 ± 1.8 | 32.5 ± 3.5 | +10.0 (one seed) |" in text
    assert "2 trainings are not finished." in text


def test_one_seed_has_no_interval(tmp_path):
    grid = write_grid(tmp_path, seeds=[0], table={"control": "control", "columns": COLUMNS})
    text = render(write_results(tmp_path, grid, MEANS).out).text
    assert "+10.0 (one seed)" in text and 'The control is "control".' in text
    assert "interval" not in text


def test_independent_seeds_are_compared_by_welch(tmp_path):
    grid = write_grid(tmp_path, seeds=[0, 1, 2], paired=False)
    text = render(write_results(tmp_path / "out", grid, MEANS).out).text
    expected = stats.ttest_ind([30, 31, 35], [20, 24, 22], equal_var=False).confidence_interval()
    assert f"+10.0 [{expected.low:.1f}, {expected.high:.1f}]" in text and "Welch" in text


def test_a_control_without_results_is_refused(store):
    for seed in range(3):
        store.result(f"arms/people/control/{seed}").unlink()
    with pytest.raises(InputError, match=r"control: arm 'control' has no result on .* 'people'"):
        render(store.out)
    with pytest.raises(InputError, match=r"holds no results of a grid"):
        render(store.out / "arms")


def test_labels_of_a_later_grid_file_are_used(store, tmp_path):
    arms = {**SMALL["arms"], "adca": {**SMALL["arms"]["adca"], "label": "Renamed"}}
    later = write_grid(tmp_path / "later", arms=arms, seeds=[0, 1, 2])
    assert "| Renamed | 16.0" in render(store.out, grid=later).text
    with pytest.raises(InputError, match=r"is the grid 'other', and .* holds results of 'small'"):
        render(store.out, grid=write_grid(tmp_path, "other"))


def test_a_stored_table_that_does_not_match_is_told_cell_by_cell(store, capsys):
    table = render(store.out).table
    words = ["bench", "check", str(table), "--results", str(store.out)]
    assert cli.main(words) == 0
    path = store.result("arms/people/adca/1")
    path.write_text(path.read_text().replace('"mAP": 0.31', '"mAP": 0.33'))
    result = json.loads(path.read_text())
    result["scores"][PROTOCOL] = scores(0.34)[PROTOCOL]
    path.write_text(json.dumps(result))
    capsys.readouterr()
    assert cli.main(words) == 1
    said = capsys.readouterr().out
    assert "people: adca: mAP: stored 32.0000, found 33.0000, tolerance 0.05" in said
    assert "people: adca: difference: stored 10.0000, found 11.0000" in said
    assert "people: control" not in said and "3 of 15 numbers differ" in said
    wide = ["--tolerance", "mAP=1.1", "adca/difference=2", "rank1=0.6"]
    assert cli.main([*words, *wide]) == 0
    store.result("arms/people/adca/2").unlink()
    assert "people: adca: seeds: stored 3.0000, found 2.0000, tolerance 0" in str(
        check(table, store.out)
    )


@pytest.mark.parametrize(
    ("tolerance", "said"),
    [("map=1", "no column 'map'"), ("adc/mAP=1", "no row 'adc'"), ("mAP=x", "must be a number"),
     ("mAP=-1", "must be 0 or more")],
)  # fmt: skip
def test_a_wrong_tolerance_is_named(tolerance, said, store, capsys):
    table = render(store.out).table
    words = ["bench", "check", str(table), "--results", str(store.out), "--tolerance", tolerance]
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_stored_table_and_one_of_another_grid_are_refused(store, tmp_path):
    table = render(store.out).table
    stored = json.loads(table.read_text())
    for broken, said in ((stored | {"grid": "x"}, "is of 'x'"), (stored | {"shown": {}}, "is dam"),
                         (stored | {"tables": {}}, "no number")):  # fmt: skip
        table.write_text(json.dumps(broken))
        with pytest.raises(InputError, match=said):
            check(table, store.out)
    table.write_text("{")
    with pytest.raises(InputError, match=r"table.json: cannot be read .* render"):
        check(table, store.out)


def test_two_arms_are_compared_seed_by_seed(store):
    (of,) = compare(arm(store, "adca"), arm(store, "control"), effect=1.0).arms
    expected = stats.ttest_1samp([10, 7, 13], 0).confidence_interval()
    assert (of.difference.low, of.difference.high) == pytest.approx(tuple(expected))
    assert (of.seeds, of.trials, of.difference.sd) == ((0, 1, 2), 3, pytest.approx(3))
    assert (of.needed, of.at_effect) == (3, 73)
    text = str(of)
    assert "3 seeds (0, 1, 2) of 3 trials, paired over seeds and trials" in text
    assert "seeds needed for 80 % power at the observed difference: 3" in text
    assert "at a difference of 1: 73" in text


def test_one_seed_is_compared_over_trials_and_says_what_that_is(store):
    path = store.result("arms/people/adca/0")
    result = json.loads(path.read_text())
    for row, trial in enumerate(result["scores"][PROTOCOL]["trials"]):
        trial["mAP"] += 0.02 * row
    path.write_text(json.dumps(result))
    (of,) = compare(arm(store, "adca") / "0", arm(store, "control") / "0").arms
    assert of.difference.mean == pytest.approx(12) and of.difference.sd == pytest.approx(2)
    assert "covers the drawn galleries, not the randomness of training" in str(of)
    assert "cannot be said from one seed" in str(of) and of.needed is None


def test_two_builds_are_compared_arm_by_arm(store, grid, tmp_path):
    better = {name: [of + 0.01 for of in values] for name, values in MEANS.items()}
    other = write_results(tmp_path / "other", grid, better)
    found = compare(other.out, store.out).arms
    assert [of.first.split("(")[1] for of in found] == ["people/adca)", "people/control)"]
    assert [of.difference.mean for of in found] == pytest.approx([1, 1])
    for of in (store, other):
        whole = [json.loads(path.read_text()) for path in sorted(of.out.rglob("result.json"))]
        of.results.write_text(json.dumps({"schema": 1, "results": whole}))
    assert [
        of.difference.mean for of in compare(other.results, store.results).arms
    ] == pytest.approx([1, 1])


def test_runs_that_no_grid_made_are_compared_too(tmp_path):
    for name, mean in (("a", 0.3), ("b", 0.2)):
        for seed in (0, 1):
            folder = tmp_path / name / str(seed)
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(f"data: people\nseed: {seed}\n")
            (folder / "scores.json").write_text(json.dumps({"protocols": scores(mean + seed / 10)}))
    (of,) = compare(tmp_path / "a", tmp_path / "b", measure="rank1").arms
    assert of.difference.mean == pytest.approx(5) and of.seeds == (0, 1)
    (tmp_path / "a" / "1" / "config.yaml").write_text("data: people\nseed: 0\n")
    with pytest.raises(InputError, match="have seed 0 twice"):
        compare(tmp_path / "a", tmp_path / "b")


def test_results_that_do_not_belong_together_are_refused(store, tmp_path):
    first, second = arm(store, "adca"), arm(store, "control")
    for options, said in (({"measure": "rank2"}, "unknown measure 'rank2'; did you mean"),
                          ({"protocol": "all"}, "protocol 'all' is not in all results"),
                          ({"effect": 0.0}, "effect must be above 0")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            compare(first, second, **options)
    with pytest.raises(InputError, match=r"nowhere: holds no results; name the --out folder"):
        compare(tmp_path / "nowhere", second)
    with pytest.raises(InputError, match=r"seeds 0, .* 1, none in common; compare .* --unpaired"):
        compare(first / "0", second / "1")
    assert compare(first / "0", second / "1", paired=False).arms[0].difference.low is None
    path = store.result("arms/people/adca/0")
    result = json.loads(path.read_text())
    result["scores"] = scores(0.3, count=5)
    path.write_text(json.dumps(result))
    with pytest.raises(InputError, match=r"seed 0 has 5 trials in .*, 3 in "):
        compare(first, second)
