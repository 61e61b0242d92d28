"""Files that visir wrote, as somebody may have left them: refused in one sentence."""

import json

import pytest

from visir.core.types import InputError
from visir.core.untrusted import parse_json
from visir.data.ranges import read_ranges
from visir.embedding.bulk import read_manifest
from visir.evaluation.confidence import Calibration

DEEP = "[" * 100_000
CALIBRATION = Calibration(60.0, -0.3, -52.0, 0.35, 0.05, 0.9, "labels", 40, 320, "f" * 64)
MANIFEST = {
    "model": "f" * 64, "inputs": ["/crops"], "settings": {}, "shard_size": 512,
    "parts": [["folder", "/crops", [["a.png", "visible", "gate"]], {"infrared/yard": [0, 9]}]],
}  # fmt: skip


def test_json_is_read_and_what_is_nested_too_deep_is_none():
    assert parse_json('{"a": [1, null]}') == parse_json(b'{"a": [1, null]}') == {"a": [1, None]}
    with pytest.raises(ValueError, match="nested too deep"):
        parse_json(DEEP)
    with pytest.raises(ValueError, match="Expecting value"):
        parse_json("x")


def test_ranges_that_are_nested_too_deep_are_refused(tmp_path):
    (tmp_path / "ranges.json").write_text(DEEP)
    with pytest.raises(InputError, match=r"ranges\.json: cannot be read as JSON"):
        read_ranges(tmp_path)


@pytest.mark.parametrize("value", [[0, 10**400], [True, 9], ["0", 9], [0], [9, 0], None, {}])
def test_ranges_that_are_no_two_rising_numbers_are_refused(tmp_path, value):
    (tmp_path / "ranges.json").write_text(json.dumps({"infrared/yard": value}))
    with pytest.raises(InputError, match=r"ranges\.json: 'infrared/yard' (is|has low)"):
        read_ranges(tmp_path)


def test_a_calibration_is_read_back(tmp_path):
    CALIBRATION.save(tmp_path)
    assert Calibration.of(tmp_path, "f" * 64) == CALIBRATION


@pytest.mark.parametrize(("key", "value"), [
    ("slope", {}), ("slope", [1.0]), ("slope", None), ("slope", "steep"), ("slope", float("nan")),
    ("growth", float("inf")), ("offset", True), ("threshold", 1.5), ("threshold", "x"),
    ("false_alarms", -0.1), ("found", "x"), ("found", 2), ("people", 1.5), ("people", "many"),
    ("fingerprint", ["f"]), ("surplus", 1),
])  # fmt: skip
def test_a_calibration_of_other_values_is_refused(tmp_path, key, value):
    kept = json.loads(CALIBRATION.save(tmp_path).read_text())
    (tmp_path / "calibration.json").write_text(json.dumps({**kept, key: value}))
    with pytest.raises(InputError, match=rf"calibration\.json: cannot be read \(.*{key}"):
        Calibration.of(tmp_path, "f" * 64)


@pytest.mark.parametrize("text", [DEEP, "[]", "{}", '{"format": 1}', "\0", "null"])
def test_a_calibration_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(InputError, match=r"calibration\.json: cannot be read"):
        Calibration.of(tmp_path, "f" * 64)


def test_a_manifest_is_read_back(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    assert read_manifest(tmp_path).parts[0].ranges == {"infrared/yard": [0, 9]}


@pytest.mark.parametrize(("key", "value"), [
    ("model", {}), ("model", float("nan")), ("inputs", "/crops"), ("inputs", [1]), ("settings", []),
    ("shard_size", "x"), ("shard_size", [1]), ("shard_size", True), ("parts", "x"), ("parts", [[]]),
    ("parts", [["folder", 1, [], {}]]), ("parts", [["folder", "/crops", "x", {}]]),
    ("parts", [["folder", "/crops", [1], {}]]), ("parts", [["folder", "/crops", [], []]]),
    ("parts", {"x": {}}),
])  # fmt: skip
def test_a_manifest_of_other_values_is_refused(tmp_path, key, value):
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, key: value}))
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        read_manifest(tmp_path)


def test_a_manifest_that_is_nested_too_deep_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(DEEP)
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        read_manifest(tmp_path)
