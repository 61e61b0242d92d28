"""Modules that moved: their former names lead to the same modules, with a warning."""

import importlib
import sys

import pytest

import visir
from visir._old_names import MOVED


@pytest.fixture
def forgotten():
    """No former name is imported yet, nor stays imported."""

    def forget():
        for name in [n for n in sys.modules if any(f"{n}.".startswith(f"{o}.") for o in MOVED)]:
            del sys.modules[name]

    forget()
    yield
    forget()


@pytest.mark.parametrize("old", MOVED)
def test_a_former_name_leads_to_the_module_of_today(old, forgotten):
    with pytest.warns(DeprecationWarning, match=rf"{old} is now {MOVED[old]}; .* version 1\.0"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MOVED[old])
    assert found.__spec__.name == MOVED[old]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("visir.client", "Client"),
        ("visir.evaluate", "evaluate_run"),
        ("visir.bulk", "read_shards"),
        ("visir.bulk.output", "read_shards"),
        ("visir.runtime", "load"),
        ("visir.types", "Modality"),
        ("visir.embed", "load"),
        ("visir.ranking", "rank"),
        ("visir.rerank", "k_reciprocal"),
        ("visir.train", "train"),
        ("visir.losses", "nt_xent"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_names_in_a_former_module_are_there(module, name, forgotten):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_the_names_of_today_warn_of_nothing(forgotten):
    importlib.import_module("visir.web")
    assert visir.load is not None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("visir.nothing")


def test_the_public_names_are_those_listed():
    assert sorted(dir(visir)) == sorted(visir.__all__)
