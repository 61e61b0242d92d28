"""One self-contained page that shows what a run has learnt: pictures and plots before numbers."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from string import Template

from visir.report import looks, numbers
from visir.report.clusters import clusters
from visir.report.material import gather
from visir.report.pictures import Pictures
from visir.run import Run, write_text


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
        numbers.header(material),
        looks.data(material, pictures),
        looks.ranked_lists(material, pictures),
        looks.failures(material, pictures),
        looks.embedding_map(material),
        numbers.results(material),
        numbers.accuracy(material),
        clusters(material),
        numbers.losses(material),
        numbers.settings(material, f"visir report {shlex.quote(str(run))}"),
    ]
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=f"visir · {escape(material.benchmark.name)}",
        pictures=pictures.css(),
        body="\n".join(parts),
    )
    write_text(folder.report, page)
    return folder.report
