"""The scripts of findings/ have one form, and a row in each table; none of them is run here."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))
ROW = re.compile(r"^\| `([a-z0-9-]+)` \|(.+)\|$", re.MULTILINE)
PLACE = re.compile(r"`((?:visir|tests|docs|benchmarks)/[\w./]+)`")
INSTALL = re.compile(r'^"\$folder/env/bin/pip" install --quiet (?:\\\n +)?(.+)$', re.MULTILINE)
PINNED = re.compile(r"[\w.-]+(\[\w+\])?==[\d.]+")


def rows(page):
    """Name and cells of each row of a page's table."""
    found = ROW.findall((ROOT / page).read_text("utf-8"))
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in found}


def faults(text):
    """What is wrong with a script."""
    first, *head = text.splitlines()[:4]
    asked = INSTALL.findall(text)
    wrong = {
        "its first line": first != "#!/usr/bin/env bash",
        "two lines say what it shows": not all(re.match("# .{20,98}$", line) for line in head[:2]),
        "the third line": head[2] != "set -euo pipefail",
        "a temporary folder": "folder=$(mktemp -d)\ntrap 'rm -rf \"$folder\"' EXIT\n" not in text,
        "pinned packages": len(asked) != 1 or not all(map(PINNED.fullmatch, asked[0].split())),
        "versions are printed": "print(" not in text.partition("EOF")[2],
        "it fails on a change": not re.search(r'^ *assert .*|"behaviour changed"$', text, re.M),
        "it runs without visir": "visir" in "".join(text.splitlines()[3:]),
    }
    return [what for what, is_wrong in wrong.items() if is_wrong]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_has_the_form_of_all(script):
    assert faults(script.read_text("utf-8")) == []
    assert os.access(script, os.X_OK)


def test_other_forms_are_noticed():
    text = SCRIPTS[0].read_text("utf-8")
    assert faults(text.replace("==", ">=")) == ["pinned packages"]
    assert faults(text.replace("import ", "import visir.", 1)) == ["it runs without visir"]
    assert faults(text.replace("# ", "#! ", 1)) == ["two lines say what it shows"]
    assert faults(text.replace("mktemp", "ls")) == ["a temporary folder"]


@pytest.mark.parametrize("page", ["docs/findings.md", "findings/README.md"])
def test_each_script_has_a_row(page):
    assert sorted(rows(page)) == [script.stem for script in SCRIPTS]


def test_the_places_of_a_finding_are_there_and_a_test_names_it():
    for name, cells in rows("docs/findings.md").items():
        places = PLACE.findall(cells[-1])
        assert places, name
        assert [place for place in places if not (ROOT / place).is_file()] == []
        for place in places:
            if place.startswith("tests/"):
                assert f"# findings/{name}.sh" in (ROOT / place).read_text("utf-8"), (name, place)
