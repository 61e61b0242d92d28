"""The sections of a report with numbers: headline, losses, accuracy, results, settings."""

from __future__ import annotations

from datetime import datetime
from html import escape
from itertools import cycle

from visir.report import figures
from visir.report.inputs import ReportInputs, points, stages
from visir.report.markup import Section, note, percent, plot, plots, scroll, section
from visir.report.verdict import as_html, verdict

UNSUPERVISED = "Identity labels were not used in training."


def header(inputs: ReportInputs) -> str:
    """The title of the page and its headline numbers."""
    method = escape((inputs.config.method or "model").upper())
    split = f", split {inputs.benchmark.split}" if inputs.benchmark.split else ""
    clustered = any("clusters_visible" in line for line in inputs.lines("plan"))
    learnt = f" It was trained with pseudo-labels from clusters of similar images. {UNSUPERVISED}"
    return (
        f'<header><p class="kicker">visir report · {escape(_when(inputs))}</p>'
        f"<h1>{method} on {escape(inputs.benchmark.name)}{escape(split)}</h1>"
        '<p class="lead">A network that finds the same person across visible and infrared '
        f"cameras.{learnt if clustered else ''}</p>{as_html(verdict(inputs))}"
        f"{_headline(inputs)}</header>"
    )


def losses(inputs: ReportInputs) -> Section | None:
    """The loss terms over the epochs."""
    lines = inputs.lines("epoch")
    if not lines:
        return None
    terms = [{**line.get("losses", {}), "epoch": line["epoch"]} for line in lines]
    names = list(dict.fromkeys(key for term in terms for key in term))
    names.remove("epoch")
    series = [
        (name.replace("_", " "), colour, points(terms, name))
        for name, colour in zip(names, cycle(figures.SERIES), strict=False)
    ] or [("loss", figures.THIRD, points(lines, "loss"))]
    svg = figures.lines(series, "epoch", "mean loss", bounds=stages(lines))
    caption = (
        "Each term as it is added to the loss. A new stage has other losses, so a step where a "
        "stage begins is normal."
    )
    return section("losses", "Losses", plots([plot("", svg, caption)]))


def accuracy(inputs: ReportInputs) -> Section | None:
    """Accuracy over the epochs, one plot per protocol that was scored during training."""
    lines = inputs.lines("scores")
    if not lines:
        return None
    bounds = stages(inputs.lines("epoch"))
    parts = []
    for name in dict.fromkeys(str(line["protocol"]) for line in lines):
        mine = [line for line in lines if line["protocol"] == name]
        chance = mine[-1].get("chance_mAP")
        svg = figures.lines(
            [
                ("rank-1", figures.SERIES[5], points(mine, "rank1")),
                ("mAP", figures.THIRD, points(mine, "mAP")),
            ],
            "epochs trained (0: the start)",
            "accuracy (%)",
            percent=True,
            level=None if chance is None else ("mAP by chance", float(chance)),
            bounds=bounds,
        )
        parts.append(plot("", svg, f"{escape(name)}. {_seen(inputs)}"))
    return section("accuracy", "Accuracy during training", plots(parts))


def results(inputs: ReportInputs) -> Section | None:
    """The table of results, one row per protocol."""
    if inputs.evaluation is None:
        return None
    heads = ("rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP", "mAP by chance")
    rows = []
    for result in inputs.evaluation.results.values():
        # Chance differs between trials only by their galleries, which is of no interest here.
        spreads = [*(result.spread or [None] * len(heads))[:-1], None]
        cells = "".join(
            f"<td>{percent(value)}{_around(spread)}</td>"
            for value, spread in zip(result.mean, spreads, strict=True)
        )
        rows.append(
            f"<tr><th>{escape(result.protocol)}</th>{cells}"
            f"<td>{len(result.trials)}</td><td>{result.queries}</td></tr>"
        )
    titles = "".join(f"<th>{name}</th>" for name in ("protocol", *heads, "trials", "queries"))
    table = scroll(
        "Table of results",
        f'<table class="numbers"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
    )
    several = any(result.spread for result in inputs.evaluation.results.values())
    around = "; ± is the standard deviation over the trials of this one network" if several else ""
    legend = (
        f"In percent{around}. Rank-n: the right person is among the first n hits. mAP: mean "
        "average precision, 100 if all images of the person come before all others. mINP: how "
        "early the last image of the person comes. Without re-ranking."
    )
    return section("results", "Results", table, note(legend))


def settings(inputs: ReportInputs, command: str) -> Section:
    """The settings of the run, and the command that writes the page."""
    text = inputs.run.config.read_text(encoding="utf-8")
    return section(
        "settings",
        "Settings",
        f"<p>This command writes the page again:</p><pre>{escape(command)}</pre>"
        f"<details><summary>config.yaml</summary><pre>{escape(text)}</pre></details>",
    )


def _when(inputs: ReportInputs) -> str:
    run, epochs = inputs.run, inputs.lines("epoch")
    stamp = (run.metrics if run.metrics.exists() else run.config).stat().st_mtime
    date = datetime.fromtimestamp(stamp).strftime("%-d %B %Y")
    if not epochs:
        return date
    seconds = sum(float(line.get("seconds", 0)) for line in epochs)
    lasted = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
    count = "1 epoch" if len(epochs) == 1 else f"{len(epochs)} epochs"
    return f"{date} · {count} in {lasted}"


def _headline(inputs: ReportInputs) -> str:
    """Bars of mAP: chance, the network after each stage, and the trained network."""
    if inputs.evaluation is None:
        return ""
    result = next(iter(inputs.evaluation.results.values()))
    mean, chance = result.mean, result.mean.chance_mAP
    lines = [line for line in inputs.lines("scores") if line["protocol"] == result.protocol]
    before = {str(line.get("label", "")): float(line["mAP"]) for line in lines}
    # The weights are those of the last stage; they have just been scored.
    last = str(lines[-1].get("label", "")) if lines and lines[-1]["epoch"] >= 0 else None
    stages = [(label, value) for label, value in before.items() if label != last]
    bars = [("chance", chance), *stages, ("after training", mean.mAP)]
    highest = max(value for _, value in bars)
    rows = "".join(_bar(name, value, highest, chance) for name, value in bars)
    caption = (
        f"mAP, 100 % if all images of the right person come first. {escape(result.protocol)}; "
        f"rank-1 after training {percent(mean.rank1)} %. {_seen(inputs)}"
    )
    return f'<dl class="bars">{rows}</dl>{note(caption)}'


def _seen(inputs: ReportInputs) -> str:
    trained = {record.path for record in inputs.benchmark.train}
    if any(record.path in trained for record in inputs.benchmark.test):
        return "The test images were also used in training, so results on new people are lower."
    return "No test image was used in training."


def _bar(name: str, value: float, highest: float, chance: float) -> str:
    mark = ' class="last"' if name == "after training" else ""
    width = f'style="width:{60 * value / highest:.1f}%"'
    return (
        f"<dt{mark}>{escape(name)}</dt>"
        f"<dd{mark}><i {width}></i>{percent(value)} %{_times(value, chance)}</dd>"
    )


def _times(value: float, chance: float) -> str:
    return "" if value == chance else f' <span class="soft">{value / chance:.1f} × chance</span>'


def _around(spread: float | None) -> str:
    return "" if spread is None else f" <small>± {percent(spread)}</small>"
