"""One self-contained page that shows what a run has learnt: pictures and plots before tables."""

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


def write_report(run: Path, device: str = "cpu") -> Path:
    """Write the report of a run: one HTML file that needs nothing beside it.

    Args:
        run: the run folder; its config.yaml says where the data lie.
        device: where the network runs to embed the test images.

    Returns:
        The page's path, report.html in the run folder.

    Raises:
        InputError: the run, its weights or its data are not there, or an image cannot be read.
    """
    folder = Run(Path(run))
    material = gather(folder, device)
    height, width = material.size
    pictures = Pictures(width / height)
    parts = [
        tables.header(material),
        ranked_lists.data(material, pictures),
        ranked_lists.ranked_lists(material, pictures),
        ranked_lists.failures(material, pictures),
        ranked_lists.embedding_map(material),
        tables.results(material),
        tables.accuracy(material),
        clusters(material),
        tables.losses(material),
        tables.settings(material, f"visir report {shlex.quote(str(run))}"),
    ]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=f"visir · {escape(material.benchmark.name)}",
        pictures=pictures.css(),
        body="\n".join(parts),
    )
    write_text(folder.report, page)
    return folder.report
