"""`--profile`: the shares of an epoch's time, said and logged; nothing else changes."""

import re

import pytest
from small import same

from visir.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]

STEP = ["loading", "forward", "loss", "backward", "optimiser", "memories", "other"]


def shares(run):
    return [line.get("shares") for line in run.read_metrics() if line["kind"] == "epoch"]


def test_every_epoch_says_and_logs_the_shares_of_its_time(few, whole, tmp_path, capsys):
    timed = train("adca", few, tmp_path / "run", preset="smoke", profile=True)
    found = shares(timed)
    assert len(found) == 4
    for of in found:
        assert list(of) == ["clustering", "embedding", *STEP]
        assert all(0 <= share < 1 for share in of.values())
        assert sum(of.values()) == pytest.approx(1, abs=1e-3)
        assert min(of["embedding"], of["clustering"], of["forward"], of["backward"]) > 0
    said = re.findall(r"^time: (.*)$", capsys.readouterr().err, re.MULTILINE)
    assert len(said) == 4
    assert [part.split()[0] for part in said[0].split("  ")] == list(found[0])
    assert said[0].split("  ")[0] == f"clustering {found[0]['clustering']:.0%}"
    assert same(timed, whole)


def test_without_it_nothing_is_timed(whole):
    assert shares(whole) == [None] * 4


def test_a_method_that_does_not_cluster_has_no_share_of_it(few, tmp_path):
    timed = train("agw", few, tmp_path / "run", preset="smoke", profile=True, progress=False)
    assert all(list(of) == ["clustering", *STEP] for of in shares(timed))
