"""The report of a training that kept its start, because too few clusters matched."""

import re
from html import unescape

import pytest

from visir.core.run import Run
from visir.report import write_report
from visir.synth.write import synthesise
from visir.training.train import train

pytestmark = pytest.mark.slow
KEPT = re.compile(r"<dt>epoch 1</dt><dd>(0 of \d+ clusters have a mutual match .*? kept; .*?)</dd>")


def test_the_report_says_that_the_start_was_kept(tmp_path):
    data = tmp_path / "people"
    synthesise(data, ids=8, images=2, size="48x24", progress=False)
    pages = {}
    for name, settings in {
        "kept": {"chance": "0", "least_matched": "1"},
        "trained": {"chance": "0"},
    }.items():
        settings |= {"epochs": "2"}
        run = train("pairs", data, tmp_path / name, preset="smoke", settings=settings)
        pages[name] = unescape(write_report(run.folder).read_text("utf-8"))
    stages = {line["stage"] for line in Run(tmp_path / "kept").read_metrics()}
    assert stages == {"start kept"}
    (said,) = KEPT.findall(pages["kept"])
    assert said.endswith("set chance=1 and least_matched=0 to train on all matches all the same")
    assert "start is kept" in said and "start is kept" not in pages["trained"]
