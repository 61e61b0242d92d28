"""Comparing scores with re-ranking: it is named, and never set against scores without it."""

import json

import pytest
from declared import PROTOCOL, scores

from visir.bench.compare import compare
from visir.core.types import InputError


def write_runs(folder, mean, how):
    """Two scored runs that no grid made; how: their re-ranking, None for a file of before."""
    for seed in (0, 1):
        run = folder / str(seed)
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(f"data: people\nseed: {seed}\n")
        kept = {"protocols": scores(mean + seed / 10)}
        (run / "scores.json").write_text(json.dumps(kept | ({"re_ranking": how} if how else {})))
    return folder


def test_a_comparison_names_the_re_ranking(tmp_path):
    name = scores(0.3)[PROTOCOL]["protocol"]
    first = write_runs(tmp_path / "a", 0.3, "k-reciprocal")
    second = write_runs(tmp_path / "b", 0.2, "k-reciprocal")
    (of,) = compare(first, second).arms
    assert of.protocol == f"{name}, re-ranked by k-reciprocal"
    assert f"mAP in percent, {name}, re-ranked by k-reciprocal\n" in str(of)
    plain = [write_runs(tmp_path / "c", 0.3, "none"), write_runs(tmp_path / "d", 0.2, None)]
    assert compare(*plain).arms[0].protocol == name


def test_scores_with_and_without_re_ranking_are_not_compared(tmp_path):
    name = scores(0.3)[PROTOCOL]["protocol"]
    first = write_runs(tmp_path / "a", 0.3, "k-reciprocal")
    for how in ("none", "random-walk"):
        second = write_runs(tmp_path / how, 0.2, how)
        with pytest.raises(InputError, match=f"means {name}.* and {name}") as refused:
            compare(first, second)
        assert f"{name}, re-ranked by k-reciprocal" in str(refused.value)
