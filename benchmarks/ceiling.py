"""What wrong pseudo-labels cost: the true labels, and labels that are wrong in one known way.

From three starts (none, the backbone `person`, the ready model), with 60, 200 and 400 people to
learn from and 96 others for the scores. An arm and the others of its start have the same network,
loss, batches and number of steps; only the labels differ (`ceiling_method.py`). The grid is
`ceiling.yaml`; `visir bench` runs it, so it can be stopped, resumed and run in parts.

    python benchmarks/ceiling.py                   # hours on two cores
    python benchmarks/ceiling.py --minutes 60      # begins no training after an hour
    python benchmarks/ceiling.py --stored          # goes on from docs/tables/ceiling-results.json
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from visir.bench.columns import COLUMNS
from visir.bench.grid import read_grid
from visir.bench.run import run
from visir.bench.statistics import mean_interval, paired_difference
from visir.bench.store import Store
from visir.bench.tables import Results, signed
from visir.core.run import atomic_write, write_json

HERE = Path(__file__).parent
GRID = HERE / "ceiling.yaml"
TABLE = HERE.parent / "docs" / "tables" / "ceiling.md"
STORED = TABLE.with_name("ceiling-results.json")
PROTOCOL = "all-single-seeded"
PEOPLE = (60, 200, 400)
STARTS = {
    "none": "no start",
    "person": "the backbone `person`",
    "builtin": "the ready model",
}
TRUE = "true"
ARMS = {
    "start": "the start, as it is",
    TRUE: "true identities",
    "partners-found": "true clusters, found partners",
    "clusters-found": "found clusters, true partners",
    "found": "found clusters, found partners",
    "swapped-10": "true clusters, 10 % wrong partners",
    "swapped-30": "true clusters, 30 % wrong partners",
    "swapped-50": "true clusters, 50 % wrong partners",
    "unmatched": "true clusters, no partners",
    "left-out-20": "true identities, 20 % outliers",
    "left-out-50": "true identities, 50 % outliers",
}
FOUND = ("partners-found", "clusters-found", "found")
KNOWN = ("swapped-10", "swapped-30", "swapped-50", "unmatched", "left-out-20", "left-out-50")
MEASURES = ("pairs_correct", "image_pairs_precision", "image_pairs_recall", "ari")
NOT_MEASURED = "–"
Values = Mapping[int, float]
"""A number by seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/ceiling"))
    parser.add_argument("--devices", default="auto", help="as those of visir bench run")
    parser.add_argument("--minutes", type=float, help="begin no training after this time")
    parser.add_argument("--stored", action="store_true", help=f"go on from {STORED.name}")
    parser.add_argument("--render", action="store_true", help="write the table, train nothing")
    arguments = parser.parse_args()
    store = Store(arguments.out)
    if arguments.stored:
        unpack(json.loads(STORED.read_text("utf-8")), store)
    if not arguments.render:
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *([others] if others else [])])
        print(run(str(GRID), arguments.out, devices=arguments.devices, minutes=arguments.minutes,
                  allow_other_build=arguments.stored))  # fmt: skip
    write(store)


def unpack(stored: Mapping[str, Any], store: Store) -> None:
    """Put stored results where `visir bench run` finds them; those that are there stay."""
    store.out.mkdir(parents=True, exist_ok=True)
    grid = read_grid(str(GRID))
    store.claim(grid)
    for result in stored["results"]:
        about = result["job"]
        key = grid.key_of(about["data"], about["name"], about["seed"])
        if not store.result(key).exists():
            store.folder(key).mkdir(parents=True, exist_ok=True)
            write_json(store.job(key), {name: result[name] for name in
                                        ("schema", "job", "spec", "build")})  # fmt: skip
            write_json(store.result(key), result)


def write(store: Store) -> None:
    """Write the tables, the picture, and the results, without indents as they are many."""
    results = store.trained(read_grid(str(GRID)))
    text = tables(results)
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    with atomic_write(TABLE.with_suffix(".png")) as file:
        file.write(picture(results))
    whole = {"schema": 1, "grid": "ceiling", "results": list(results.values())}
    STORED.write_text(json.dumps(whole, separators=(",", ":")) + "\n", encoding="utf-8")


def values(results: Results, start: str, arm: str, people: int, measure: str = "mAP") -> Values:
    """A number of one arm by seed; empty if none was measured."""
    pick = COLUMNS[measure].picks[measure]
    found = {
        seed: pick(result, PROTOCOL)
        for (data, name, seed), result in results.items()
        if (data, name) == (f"people-{people}", f"{start}-{arm}")
    }
    return {seed: value for seed, value in found.items() if value is not None}


def tables(results: Results) -> str:
    """Accuracy by start, then the labels, then what was measured."""
    blocks = [*(accuracy(results, start) for start in STARTS), labels(results), legend(results)]
    return "\n\n".join(blocks) + "\n"


def accuracy(results: Results, start: str) -> str:
    """The mAP of every arm, and what it lacks to that of the true identities."""
    heads = [f"mAP, %: {PEOPLE[0]} people", *map(str, PEOPLE[1:])]
    heads += [f"less true identities: {PEOPLE[0]}", *map(str, PEOPLE[1:])]
    lines = [f"| {STARTS[start]} | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
    for arm, title in ARMS.items():
        if (start, arm) == ("none", "start"):
            continue
        cells = [score(values(results, start, arm, people)) for people in PEOPLE]
        cells += [lack(results, start, arm, people) for people in PEOPLE]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def score(of: Values) -> str:
    if not of:
        return NOT_MEASURED
    found = mean_interval([*of.values()])
    return f"{found.mean:.1f}" + (f" ± {found.sd:.1f}" if found.sd is not None else "")


def lack(results: Results, start: str, arm: str, people: int) -> str:
    own, true = (values(results, start, name, people) for name in (arm, TRUE))
    seeds = sorted(own.keys() & true.keys())
    if arm == TRUE or not seeds:
        return "" if arm == TRUE else NOT_MEASURED
    found = paired_difference([own[seed] for seed in seeds], [true[seed] for seed in seeds])
    return signed(found).removesuffix(" (one seed)")


def labels(results: Results) -> str:
    """How right the labels of the last epoch are, in the arms where they are not all true."""
    heads = [COLUMNS[name].title for name in MEASURES]
    lines = [f"| labels of the last epoch, with {', '.join(map(str, PEOPLE[:-1]))} and "
             f"{PEOPLE[-1]} people | {' | '.join(heads)} |",
             "|" + "---|" * (len(heads) + 1)]  # fmt: skip
    # Labels that are made do not depend on the start, so those of any one will do.
    rows = [(f"{STARTS[start]}: {ARMS[arm]}", (start,), arm) for start in STARTS for arm in FOUND]
    rows += [(ARMS[arm], tuple(STARTS), arm) for arm in KNOWN]
    for title, starts, arm in rows:
        cells = [
            " · ".join(mean_of(results, starts, arm, people, name) for people in PEOPLE)
            for name in MEASURES
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def mean_of(results: Results, starts: Iterable[str], arm: str, people: int, name: str) -> str:
    for start in starts:
        if found := values(results, start, arm, people, name):
            return f"{sum(found.values()) / len(found):.0f}"
    return NOT_MEASURED


def legend(results: Results) -> str:
    """Which cells are of which seeds, and who made them."""
    grid = read_grid(str(GRID))
    said = [
        "Mean ± sample standard deviation over the seeds of the cell; with two seeds and more the "
        "difference is paired, with a 95 % t interval. "
        f"{NOT_MEASURED}: not measured, or no image pair."
    ]
    for people in PEOPLE:
        counts = [
            len(values(results, start, arm, people))
            for start in STARTS for arm in ARMS if (start, arm) != ("none", "start")
        ]  # fmt: skip
        parts = [f"{plural(counts.count(number), 'cell')} of {plural(number, 'seed')}"
                 for number in sorted(set(counts), reverse=True) if number]  # fmt: skip
        missing = [f"{counts.count(0)} not measured"] if 0 in counts else []
        said.append(f"{people} people: {', '.join([*parts, *missing])}.")
    said.append(f"{len(grid.seeds)} seeds are declared. Scores of the last epoch, SYSU-MM01 "
                "all-search single-shot, seeded gallery.")  # fmt: skip
    return " ".join([*said, *made_by(results)])


def plural(number: int, one: str) -> str:
    return f"{number} {one}{'s' * (number != 1)}"


def made_by(results: Results) -> Iterator[str]:
    seen = {(of["build"]["version"], of["processor"]["machine"], of["torch"])
            for of in results.values()}  # fmt: skip
    for version, machine, torch in sorted(seen):
        yield f"visir {version}, PyTorch {torch}, {machine}."


def picture(results: Results) -> bytes:
    """The mAP of every arm, a panel for each start, a colour for each number of people."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, len(STARTS), sharey=True)
    for axes, (start, title) in zip(panels, STARTS.items(), strict=True):
        for number, (people, colour) in enumerate(
            zip(PEOPLE, ("#9cc3e6", "#2f6fb5", "#16365c"), strict=True)
        ):
            points = [(row, value) for row, arm in enumerate(ARMS)
                      for value in values(results, start, arm, people).values()]  # fmt: skip
            if points:
                rows, scores = zip(*points, strict=True)
                places = [row + 0.18 * (number - 1) for row in rows]
                axes.scatter(scores, places, s=22, color=colour, label=f"{people} people")
        axes.set_title(title.replace("`", ""), fontsize=10, loc="left")
        axes.set_xlabel("mAP, %: a point for each seed", fontsize=9)
        axes.grid(axis="y", color="#e5e5e5")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    seen = {text: one for axes in panels
            for one, text in zip(*axes.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend([*seen.values()], [*seen], loc="outside lower right", ncols=3, frameon=False)
    panels[0].set_yticks(range(len(ARMS)), [*ARMS.values()], fontsize=8)
    panels[0].invert_yaxis()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


if __name__ == "__main__":
    main()
