"""Write a report of a run: one self-contained HTML page with images, plots and tables."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from string import Template

from visir.core.run import Run, write_text
from visir.report import ranked_lists, tables
from visir.report.clusters import clusters
from visir.report.images import Pictures
from visir.report.inputs import gather


def write_report(run: Path, *, device: str = "cpu") -> Path:
    """Write the report of a run: one HTML file without external resources.

    Arguments are those of `visir.commands.report.report`.

    Returns:
        The path of the page, report.html in the run folder.

    Raises:
        InputError: the run, its weights or its data are missing, or an image cannot be read.
    """
    folder = Run(Path(run))
    inputs = gather(folder, device)
    height, width = inputs.size
    pictures = Pictures(width / height)
    parts = [
        tables.header(inputs),
        ranked_lists.data(inputs, pictures),
        ranked_lists.ranked_lists(inputs, pictures),
        ranked_lists.failures(inputs, pictures),
        ranked_lists.embedding_map(inputs),
        tables.results(inputs),
        tables.accuracy(inputs),
        clusters(inputs),
        tables.losses(inputs),
        tables.settings(inputs, f"visir report {shlex.quote(str(run))}"),
    ]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=f"visir · {escape(inputs.benchmark.name)}",
        pictures=pictures.css(),
        body="\n".join(parts),
    )
    write_text(folder.report, page)
    return folder.report
