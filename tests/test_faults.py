"""A small part of the campaign of faults finds nothing, and sees what it must."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from visir.data import png

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_small_campaign_finds_nothing_and_can_be_resumed(tmp_path):
    words = [sys.executable, BENCHMARKS / "faults.py", "--inputs", "12", "--kills", "1", "--out"]
    first = subprocess.run([*words, tmp_path], capture_output=True, text=True, check=False)
    found = tmp_path / "seed-0" / "found"
    faults = [(path.parent.name, path.read_text()) for path in found.glob("*/why.txt")]
    assert (first.returncode, faults) == (0, []), first.stderr[-2000:]
    rows = [line.split(" | ") for line in first.stdout.splitlines() if line.startswith("| ")]
    assert [row[1] for row in rows[2:]] == ["1"] * 7 + ["12"] * 14 + [str(7 + 14 * 12)]
    results = tmp_path / "seed-0" / "results.jsonl"
    whole = results.read_text()
    lines = whole.splitlines(keepends=True)
    results.write_text("".join(lines[:-5]) + lines[-5][:9])  # as a kill leaves it
    again = subprocess.run(
        [*words, tmp_path, "--kinds", "requests"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr[-2000:]
    assert results.read_text().count('"kind": "requests"') == 12


@pytest.mark.parametrize("guarded", [True, False])
def test_what_is_believed_is_seen(tmp_path, monkeypatch, guarded):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import fault_files
    import faults
    from fault_world import of

    if not guarded:
        monkeypatch.setattr(png, "require_whole", lambda *_: None)
    places = faults.Places(tmp_path, None, None, None, {})
    outcomes = Counter()
    for number in range(300):
        rng = of(0, "images", number)
        found = faults.read(fault_files.make_image, fault_files.read_image, rng, places)
        outcomes[found.outcome] += 1
        faults.keep(places, tmp_path / "out", "images", {"outcome": "refused"})
    assert outcomes["refused"] > 200 and outcomes["accepted"] > 20
    assert (outcomes["believed"] > 0) is not guarded
    assert not (tmp_path / "marker").exists()
