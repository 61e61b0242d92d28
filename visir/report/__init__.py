"""Write a report of a run: one self-contained HTML page with images, plots and tables."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from string import Template

from visir.core.run import Run, write_text
from visir.report import clusters, montages, plane, quality, ranked_lists, tables
from visir.report.images import Pictures
from visir.report.inputs import gather


def write_report(run: Path, *, device: str = "cpu") -> Path:
    """Write the report of a run: one HTML file without external resources or scripts.

    Sections for which there is nothing to show are left out. The file holds at most
    `visir.report.images.MOST` pictures, mostly 1 to 2 MB in all and never more than 5 MB.

    Arguments are those of `visir.commands.report.report`.

    Returns:
        The path of the page, report.html in the run folder.

    Raises:
        InputError: the run, its weights or its data are missing, or an image cannot be read.
    """
    folder = Run(Path(run))
    inputs = gather(folder, device)
    height, width = inputs.size
    pictures = Pictures(width / height, inputs.health.marks(inputs.records))
    sections = [
        ranked_lists.data(inputs, pictures),
        tables.results(inputs),
        montages.pairs(inputs, pictures),
        montages.clusters(inputs, pictures),
        ranked_lists.ranked_lists(inputs, pictures),
        ranked_lists.failures(inputs, pictures),
        plane.embedding_map(inputs),
        quality.quality(inputs, pictures),
        tables.accuracy(inputs),
        clusters.clusters(inputs),
        tables.losses(inputs),
        tables.settings(inputs, f"visir report {shlex.quote(str(run))}"),
    ]
    shown = [found for found in sections if found is not None]
    links = "".join(f'<li><a href="#{one.name}">{one.title}</a></li>' for one in shown)
    contents = f'<nav aria-label="Contents"><ul>{links}</ul></nav>'
    parts = [tables.header(inputs), contents, *(one.html for one in shown)]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=f"visir · {escape(inputs.benchmark.name)}",
        pictures=pictures.css(),
        body="\n".join(parts),
    )
    write_text(folder.report, page)
    return folder.report
