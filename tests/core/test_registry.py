"""Names and addresses: imported on access only, and clear errors where nothing is there."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from visir.core import registry as module
from visir.core.registry import Registry
from visir.core.types import InputError


def whole(found, name):
    if not isinstance(found, int):
        raise InputError(f"number {name!r}: is not an int")
    return found


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    (tmp_path / "outside_numbers.py").write_text("seven = 7\nword = 'x'\n")
    (tmp_path / "outside_broken.py").write_text("import no_such_package_anywhere\n")
    (tmp_path / "outside_syntax.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = {"eight": EntryPoint("eight", "outside_numbers:seven", "numbers")}
    monkeypatch.setattr(module, "_entry_points", lambda group: points)
    return Registry("number", "numbers", {"seven": "outside_numbers:seven"}, whole)


def test_names_entry_points_and_addresses_are_found(numbers):
    assert numbers["seven"] == numbers["eight"] == numbers["outside_numbers:seven"] == 7
    assert list(numbers) == ["seven"] and numbers.names() == ["seven", "eight"]
    assert "eight" in numbers and "nine" not in numbers and 7 not in numbers
    with pytest.raises(KeyError):
        numbers["nine"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sevn", r"number 'sevn' is unknown; did you mean 'seven'\?; .*package\.module:name"),
        ("outside_numbers:", "write package.module:name"),
        (":seven", "write package.module:name"),
        ("outside_number:seven", "no module 'outside_number'; install .* PYTHONPATH"),
        ("outside_numbers.deep:seven", "no module 'outside_numbers.deep'"),
        ("outside_broken:seven", "cannot be imported .*no_such_package_anywhere"),
        ("outside_syntax:f", "cannot be imported .*correct outside_syntax"),
        ("outside_numbers:sevne", "has no 'sevne'; did you mean 'seven'"),
        ("outside_numbers:word", "is not an int"),
        (".outside:x", "cannot be imported"),
    ],
)
def test_what_is_not_there_is_said(numbers, name, said):
    with pytest.raises(InputError, match=said):
        numbers.find(name)


def test_names_are_known_without_torch():
    code = (
        "import sys\nfrom visir.methods import METHODS\nfrom visir.data.registry import DATASETS\n"
        "assert 'cmag' in METHODS and 'sysu' in DATASETS\n"
        "assert 'torch' not in sys.modules, 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
