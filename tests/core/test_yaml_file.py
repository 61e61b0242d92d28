"""YAML from anywhere: read within bounds, or refused in one sentence and at once."""

import time

import pytest

from visir.core.config import apply, from_mapping
from visir.core.names import shown
from visir.core.run import Run
from visir.core.run_config import RunConfig, read_config
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml
from visir.data.boxes import yolo

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(("text", "said"), [
    (LAUGHS, "holds more than 100000 values, with aliases written out"),
    ("a: &a [*a]\n", "line 1 holds itself by an alias"),
    ("a: " + "[" * 60 + "]" * 60, "nested more than 50 times"),
    ("a: " + "[" * 5000, "not valid YAML|nested more than"),
    ("x" * (1 << 20) + "y", "is larger than 1 MiB"),
    ("a: 2026-13-45\n", "not valid YAML"),
    ("a: 9" + "9" * 5000, "not valid YAML"),
    ("a: !!int x\n", "not valid YAML"),
    ("a: !!timestamp x\n", "not valid YAML"),
    ("a: !!binary x\n", "not valid YAML"),
    ("? [a, b]\n: 1\n", "not valid YAML"),
    ("? {a: b}\n: 1\n", "not valid YAML"),
    ("1: a\n", "key 1 is not text"),
    ("null: a\n", "key None is not text"),
    ("2026-01-31: a\n", r"key datetime.date\(2026, 1, 31\) is not text"),
    ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ("<<: [1]\n", "not valid YAML"),
    ("a: {b: &c {d: 1, d: 2}}\n", "line 1 repeats key 'd'"),
    ("\x00", "not valid YAML"),
    ("[" + "'long', " * 1000 + "]", "expected keys and values, got .*\\.\\.\\."),
])  # fmt: skip
def test_bad_files_are_one_short_sentence(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    begun = time.monotonic()
    with pytest.raises(InputError, match=rf"bad\.yaml: (.*{said}|{said})") as caught:
        load_yaml(path)
    assert time.monotonic() - begun < 20
    assert len(str(caught.value)) < 700 and "\n" not in str(caught.value)


def test_aliases_within_reason_are_read(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text("common: &c {lr: 1}\none: *c\ntwo: {<<: *c, seed: 3}\n")
    found = load_yaml(path)
    assert found["one"] == {"lr": 1} and found["two"] == {"lr": 1, "seed": 3}


@pytest.mark.parametrize(("text", "said"), [
    ("seed: 1\n", "key 'data' is missing"),
    ("data: [a]\n", "data must be text, got"),
    ("data: a\nsplit: one\n", "split must be a whole number, got 'one'"),
    ("data: a\nseed: true\n", "seed must be a whole number, got True"),
    ("data: a\nlayout: {a: b}\n", "layout must be text, got"),
    ("data: a\nsettings: [1]\n", "settings must be .*, got"),
    ("data: a\nmethod: 5\n", "method must be text, got 5"),
])  # fmt: skip
def test_a_runs_config_has_its_types(tmp_path, text, said):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"config\.yaml: {said}"):
        read_config(Run(tmp_path))


def test_what_others_need_of_a_runs_config(tmp_path):
    (tmp_path / "config.yaml").write_text("data: people\nsplit: 2\nseed: 7\nlater: [1]\n")
    assert read_config(Run(tmp_path)) == RunConfig("people", None, 2, 7)


def test_values_on_the_command_line_are_one_sentence():
    with pytest.raises(InputError, match="--set: split must be a whole number, got '2026-13-45'"):
        apply(RunConfig("a"), ["split=2026-13-45"])
    with pytest.raises(InputError, match="unknown key 'xxx") as caught:
        from_mapping(RunConfig, {"data": "a", "x" * 10_000: 1}, "a.yaml")
    assert len(str(caught.value)) < 300
    assert shown(10**5000) == "a number of too many digits"


@pytest.mark.parametrize(("names", "said"), [
    ("{1000000000: car}", "class 1000000000 is not below"), ("{a: car}", "invalid literal"),
    ("5", "not iterable"), ("&a [*a]", "holds itself"),
])  # fmt: skip
def test_class_names_of_yolo_are_bounded(tmp_path, names, said):
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(InputError, match=said):
        yolo._read_names(tmp_path / "data.yaml")
