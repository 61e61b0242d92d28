"""The parts of a report that show numbers: headline, losses, accuracy, result table."""

from __future__ import annotations

from datetime import datetime
from html import escape
from itertools import cycle

from visir.report import figures
from visir.report.inputs import Material, points, stages
from visir.report.markup import note, percent, plot, plots, section

UNSUPERVISED = "Identity labels took no part in training."


def header(material: Material) -> str:
    """What this is, and the headline numbers."""
    method = escape(str(material.config.get("method", "model")).upper())
    split = f", split {material.benchmark.split}" if material.benchmark.split else ""
    clustered = any("clusters_visible" in line for line in material.lines("plan"))
    learnt = f" It learnt from groups of look-alikes it found by itself. {UNSUPERVISED}"
    return (
        f'<header><p class="kicker">visir report · {escape(_when(material))}</p>'
        f"<h1>{method} on {escape(material.benchmark.name)}{escape(split)}</h1>"
        '<p class="lead">A network that finds the same person across visible and infrared '
        f"cameras.{learnt if clustered else ''}</p>{_headline(material)}</header>"
    )


def losses(material: Material) -> str:
    """The loss terms over the epochs."""
    lines = material.lines("epoch")
    if not lines:
        return section("losses", "Losses", note("This run has logged no epoch yet."))
    terms = [{**line.get("losses", {}), "epoch": line["epoch"]} for line in lines]
    names = list(dict.fromkeys(key for term in terms for key in term))
    names.remove("epoch")
    series = [
        (name.replace("_", " "), colour, points(terms, name))
        for name, colour in zip(names, cycle(figures.SERIES), strict=False)
    ] or [("loss", figures.THIRD, points(lines, "loss"))]
    svg = figures.lines(series, "epoch", "mean loss", bounds=stages(lines))
    caption = (
        "Each term as training adds it up. A new stage asks something else, so a step where one "
        "begins is no failure."
    )
    return section("losses", "Losses", plots([plot("", svg, caption)]))


def accuracy(material: Material) -> str:
    """Accuracy over the epochs, a plot per protocol that was scored on the way."""
    title, lines = "Accuracy while training", material.lines("scores")
    if not lines:
        none = "No epoch was scored while training."
        return section("accuracy", title, note(none if material.evaluation else material.unscored))
    bounds = stages(material.lines("epoch"))
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
        parts.append(plot("", svg, f"{escape(name)}. {_seen(material)}"))
    return section("accuracy", title, plots(parts))


def results(material: Material) -> str:
    """The table of scores, a row per protocol."""
    if material.evaluation is None:
        return section("results", "Results", note(material.unscored))
    heads = ("rank-1", "rank-5", "rank-10", "rank-20", "mAP", "mINP", "mAP by chance")
    rows = []
    for result in material.evaluation.results.values():
        # Chance differs between trials only by the galleries drawn, which says nothing here.
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
    table = (
        f'<div class="scroll"><table class="numbers"><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    several = any(result.spread for result in material.evaluation.results.values())
    around = "; ± is the standard deviation over the trials of this one network" if several else ""
    legend = (
        f"In percent{around}. Rank-n: a right person is among the first n. mAP: mean average "
        "precision, 100 when all images of the person come before all others. mINP: how early the "
        "hardest image of the person comes. Nothing is re-ranked."
    )
    return section("results", "Results", table, note(legend))


def settings(material: Material, command: str) -> str:
    """The settings of the run, and how to make the page again."""
    text = material.run.config.read_text(encoding="utf-8")
    return section(
        "settings",
        "Settings",
        f"<p>This page is remade by</p><pre>{escape(command)}</pre>"
        f"<details><summary>config.yaml</summary><pre>{escape(text)}</pre></details>",
    )


def _when(material: Material) -> str:
    run, epochs = material.run, material.lines("epoch")
    stamp = (run.metrics if run.metrics.exists() else run.config).stat().st_mtime
    date = datetime.fromtimestamp(stamp).strftime("%-d %B %Y")
    if not epochs:
        return date
    seconds = sum(float(line.get("seconds", 0)) for line in epochs)
    lasted = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
    return f"{date} · {len(epochs)} epoch{'s' * (len(epochs) > 1)} in {lasted}"


def _headline(material: Material) -> str:
    """Bars of mAP: chance, what each stage left behind, and the trained network."""
    if material.evaluation is None:
        return note(material.unscored)
    result = next(iter(material.evaluation.results.values()))
    mean, chance = result.mean, result.mean.chance_mAP
    lines = [line for line in material.lines("scores") if line["protocol"] == result.protocol]
    before = {str(line.get("label", "")): float(line["mAP"]) for line in lines}
    # The weights at hand are those of the last stage; they are measured here and now.
    last = str(lines[-1].get("label", "")) if lines and lines[-1]["epoch"] >= 0 else None
    stages = [(label, value) for label, value in before.items() if label != last]
    bars = [("chance", chance), *stages, ("after training", mean.mAP)]
    most = max(value for _, value in bars)
    rows = "".join(_bar(name, value, most, chance) for name, value in bars)
    caption = (
        f"mAP, 100 % when all images of the right person come first. {escape(result.protocol)}; "
        f"rank-1 after training {percent(mean.rank1)} %. {_seen(material)}"
    )
    return f'<dl class="bars">{rows}</dl>{note(caption)}'


def _seen(material: Material) -> str:
    trained = {record.path for record in material.benchmark.train}
    if any(record.path in trained for record in material.benchmark.test):
        return "Test images were trained on too, so new people will score lower."
    return "No test image was seen in training."


def _bar(name: str, value: float, most: float, chance: float) -> str:
    mark = ' class="last"' if name == "after training" else ""
    width = f'style="width:{60 * value / most:.1f}%"'
    return (
        f"<dt{mark}>{escape(name)}</dt>"
        f"<dd{mark}><i {width}></i>{percent(value)} %{_times(value, chance)}</dd>"
    )


def _times(value: float, chance: float) -> str:
    return "" if value == chance else f' <span class="soft">{value / chance:.1f} × chance</span>'


def _around(spread: float | None) -> str:
    return "" if spread is None else f" <small>± {percent(spread)}</small>"
