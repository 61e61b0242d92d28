"""Settings: strict in both directions, and the same after a round trip."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from visir import cli
from visir.core.config import (
    apply,
    dump_commented,
    dump_yaml,
    from_mapping,
    parse_pairs,
    to_mapping,
)
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml


@dataclass(frozen=True)
class Optimiser:
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Settings:
    eps: float = 0.6
    epochs: int = 50
    flip: bool = True
    name: str = "adca"
    size: Literal["micro", "small"] = "micro"
    stages: tuple[int, ...] = (1, 2)
    limit: int | None = None
    note: Optional[str] = None  # noqa: UP045 - the old spelling must work too
    optimiser: Optimiser = field(default_factory=Optimiser)


@dataclass(frozen=True)
class Commented:
    eps: float = 0.6
    words: tuple[str, ...] = ()  # names; two of them
    note: str | None = None  # or text


@dataclass(frozen=True)
class OverLines(Commented):
    weights: tuple[float, ...] = (
        0.25,
        0.75,
    )  # of the two losses [Eq. 3]
    rate: float = 3e-4  # [Sec. 4, "# of steps"]
    text: str = "a # b"


@dataclass(frozen=True)
class Open:
    inner: Any


@dataclass(frozen=True)
class Needed:
    path: str


numbers = st.floats(allow_nan=False, allow_infinity=False)
optimisers = st.builds(Optimiser, lr=numbers, betas=st.tuples(numbers, numbers))
settings = st.builds(
    Settings,
    eps=numbers,
    epochs=st.integers(),
    flip=st.booleans(),
    name=st.text(),
    size=st.sampled_from(["micro", "small"]),
    stages=st.lists(st.integers()).map(tuple),
    limit=st.none() | st.integers(),
    note=st.none() | st.text(),
    optimiser=optimisers,
)


@given(settings)
def test_round_trip_through_yaml(config: Settings) -> None:
    text = dump_yaml(to_mapping(config))
    assert from_mapping(Settings, yaml.safe_load(text), "here") == config


@given(numbers, st.integers(), st.booleans(), st.lists(st.integers()))
def test_round_trip_through_overrides(eps: float, epochs: int, flip: bool, stages: list) -> None:
    words = [f"eps={eps!r}", f"epochs={epochs}", f"flip={str(flip).lower()}", f"stages={stages}"]
    changed = apply(Settings(), words)
    assert changed == Settings(eps=eps, epochs=epochs, flip=flip, stages=tuple(stages))


def test_comments_are_printed_behind_their_fields() -> None:
    text = dump_commented(Commented(words=("a", "b: c")))
    words = "words: [a, 'b: c']  # names; two of them; default []\n"
    assert text == f"eps: 0.6\n{words}note: null  # or text\n"
    assert from_mapping(Commented, yaml.safe_load(text), "here").words == ("a", "b: c")


def test_a_field_over_several_lines_keeps_its_source() -> None:
    lines = dump_commented(OverLines()).splitlines()
    assert lines[0] == "eps: 0.6"
    assert lines[3:] == [
        "weights: [0.25, 0.75]  # of the two losses [Eq. 3]",
        'rate: 0.0003  # [Sec. 4, "# of steps"]',
        "text: 'a # b'",
    ]


def test_left_out_keys_keep_their_defaults() -> None:
    assert from_mapping(Settings, {"epochs": 3}, "here") == Settings(epochs=3)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"epoch": 3}, ["run.yaml", "'epoch'", "did you mean 'epochs'"]),
        ({"epochs": 3.5}, ["run.yaml", "epochs", "whole number", "3.5"]),
        ({"epochs": True}, ["epochs", "whole number"]),
        ({"epochs": "3"}, ["epochs", "whole number"]),
        ({"eps": True}, ["eps", "a number", "True"]),
        ({"eps": "near"}, ["eps", "a number", "'near'"]),
        ({"eps": ".nan"}, ["eps", "a number"]),
        ({"eps": float("nan")}, ["eps", "a number"]),
        ({"eps": 10**400}, ["eps", "a number"]),
        ({"flip": "yes"}, ["flip", "true or false"]),
        ({"flip": 1}, ["flip", "true or false"]),
        ({"name": 5}, ["name", "text"]),
        ({"size": "smal"}, ["size", "'micro', 'small'", "did you mean 'small'"]),
        ({"stages": 1}, ["stages", "a list, each entry a whole number"]),
        ({"stages": [1, "x"]}, ["stages", "whole number", "'x'"]),
        ({"limit": "x"}, ["limit", "whole number"]),
        ({"optimiser": {"betas": [0.9]}}, ["optimiser", "betas", "a list of 2"]),
        ({"optimiser": {"rl": 1}}, ["run.yaml: optimiser", "'rl'", "known are betas, lr"]),
        ({"optimiser": 3}, ["optimiser", "keys and values"]),
        ([1], ["keys and values"]),
    ],
)
def test_a_wrong_value_is_named(mapping: object, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        from_mapping(Settings, mapping, "run.yaml")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_number_may_be_written_without_a_point() -> None:
    assert from_mapping(Settings, {"eps": 1, "limit": None}, "here").eps == 1.0
    assert from_mapping(Settings, yaml.safe_load("eps: 1e-3"), "here").eps == 0.001
    assert isinstance(from_mapping(Settings, {"eps": 1}, "here").eps, float)


def test_any_is_taken_as_it_stands() -> None:
    assert from_mapping(Open, {"inner": Optimiser(lr=1.0)}, "here") == Open(Optimiser(lr=1.0))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match="'path' is missing"):
        from_mapping(Needed, {}, "here")


def test_overrides() -> None:
    words = ["eps=1e-2", "epochs=3", "epochs=4", "limit=none", "note=1", "stages=3,4"]
    changed = apply(Settings(limit=5), [*words, "optimiser.lr=0.5", "name=a=b", "size=small"])
    expected = Settings(eps=0.01, epochs=4, note="1", stages=(3, 4), name="a=b", size="small")
    assert changed == apply(expected, {"optimiser.lr": "0.5"})
    assert changed.optimiser == Optimiser(lr=0.5)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs", "expected key=value"),
        ("=3", "expected key=value"),
        ("ep=3", "did you mean 'eps'"),
        ("epochs=many", "epochs must be a whole number, got 'many'"),
        ("epochs=[", "epochs must be a whole number"),
        ("optimiser=3", "set one of optimiser.lr, optimiser.betas"),
        ("optimiser.rl=3", "unknown key 'rl'; known are betas, lr"),
        ("eps.x=3", "write eps=3"),
        ("size=smal", "did you mean 'small'"),
    ],
)
def test_a_wrong_override_is_named(word: str, message: str) -> None:
    with pytest.raises(InputError, match="--set") as caught:
        apply(Settings(), [word])
    assert message in str(caught.value)


def test_pairs_keep_everything_after_the_first_equals_sign() -> None:
    assert parse_pairs(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


def test_load_yaml(tmp_path: Path) -> None:
    path = tmp_path / "Ünïcode name.yaml"
    path.write_text("# only a comment\n", encoding="utf-8")
    assert load_yaml(path) == {}
    path.write_text(dump_yaml({"b": 1, "a": "é"}), encoding="utf-8")
    assert list(load_yaml(path).items()) == [("b", 1), ("a", "é")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: {c: 1, c: 2}\n", "line 2 repeats key 'c'"),
        (b"a: [1", "not valid YAML"),
        (b"- 1\n", "keys and values"),
        (b"\xff\xfe\xfa", "cannot be read"),
        (b"a: !!python/object:os.system x", "not valid YAML"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml"):
        load_yaml(tmp_path / "none.yaml")


def test_the_command_prints_settings_that_read_back(capsys):
    from visir.methods.adca import PRESETS, Config

    assert cli.main(["config", "adca", "--preset", "regdb"]) == 0
    text = capsys.readouterr().out
    assert from_mapping(Config, yaml.safe_load(text), "printed") == PRESETS["regdb"]
    assert "eps: 0.3  # DBSCAN" in text
