"""Bad files of JSON that visir wrote itself: calibrations, ranges, manifests, cases and logs."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fault_files import Given, put
from fault_mutations import CONTROL, HUGE, WRONG, Changed, changed_value, cut, nested, spoilt
from fault_texts import text_or
from pydantic import TypeAdapter

from visir.core.types import InputError
from visir.data.ranges import read_ranges
from visir.embedding.bulk import ranges_of, read_manifest
from visir.evaluation.confidence import FORMAT, Calibration
from visir.web import audit
from visir.web.case_store import CaseStore
from visir.web.schemas import Case

_CALIBRATION = {
    "format": FORMAT, "slope": 60.0, "growth": -0.3, "offset": -52.0, "threshold": 0.35,
    "false_alarms": 0.05, "found": 0.9, "identities": "labels", "people": 40, "images": 320,
    "fingerprint": "f" * 64,
}  # fmt: skip
_RANGES = {"infrared/yard": [0.0, 4000.0], "visible/gate": [10, 900]}
_MANIFEST = {
    "model": "f" * 64, "inputs": ["/data/crops"], "settings": {"tags": []}, "shard_size": 512,
    "parts": [["folder", "/data/crops", [["a.png", "visible", "gate", None, []]],
               {"infrared/yard": [0.0, 4000.0]}]],
}  # fmt: skip


@cache
def _case() -> dict[str, Any]:
    """A case with one hit."""
    empty = Case(1, "night", "Ada", datetime(2026, 1, 1, tzinfo=UTC))
    found = json.loads(TypeAdapter(Case).dump_json(empty))
    item = {"id": 3, "source": "/a.png", "camera": "gate", "modality": "visible", "time": None,
            "tags": [], "added": None}  # fmt: skip
    hit = {"number": 1, "item": item, "rank": 1, "score": 0.5, "cosine": 0.5, "note": "",
           "by": "Ada", "time": found["created"], "search": "x", "picture": None}  # fmt: skip
    found["kept"] = [hit]
    return dict(found)


def use_case(path: Path) -> None:
    """Open the folder of cases and the case in it."""
    with contextlib.closing(CaseStore(path.parent.parent)) as store:
        store.summaries()
        store.case(1)


def use_log(path: Path) -> None:
    """Check a log, and read its lines for the page."""
    with contextlib.closing(CaseStore(path.parent)) as store:
        page = store.audit_page()
        store.audit.append("search", "Ada", "127.0.0.1")
    if page.broken is not None:
        raise InputError(f"the chain is broken at line {page.broken}")


# name: file, values, values that are certainly wrong by key, what reads it
_OWN: dict[str, tuple[str, Callable[[], Any], tuple[str, ...], Callable[[Path], object]]] = {
    "calibration": ("calibration.json", lambda: _CALIBRATION,
                    ("slope", "growth", "offset", "threshold", "found", "people", "fingerprint"),
                    lambda path: Calibration.of(path.parent, "f" * 64)),
    "ranges": ("ranges.json", lambda: _RANGES, tuple(_RANGES),
               lambda path: read_ranges(path.parent)),
    "manifest": ("manifest.json", lambda: _MANIFEST, ("model", "inputs", "parts", "shard_size"),
                 lambda path: ranges_of(read_manifest(path.parent))),
    "case": ("cases/1.json", _case, ("id", "name", "created", "kept", "searches"), use_case),
}  # fmt: skip
_WRONG_OF_ALL: tuple[Any, ...] = ({"x": {}}, "\x00x", [[1]], float("nan"), "not a number")


def make_own(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad file that visir wrote: a calibration, ranges, a manifest, a case or a log."""
    if rng.random() < 0.2:
        return _make_log(rng, here)
    name = rng.choice(sorted(_OWN))
    file, values, keys, _ = _OWN[name]
    value = copy.deepcopy(values())
    data = json.dumps(value).encode()

    def change() -> Changed:
        chance = rng.random()
        if chance < 0.15:
            return cut(rng, data, 0.95)
        if chance < 0.25:
            depth = rng.choice((99, 5000, 100_000))
            return Changed(b"[" * depth + b"]" * depth, True, f"nested {depth} times")
        if chance < 0.6:
            key = rng.choice(keys)
            text = key in ("model", "fingerprint", "name")
            value[key] = rng.choice(
                [one for one in _WRONG_OF_ALL if not (text and isinstance(one, str))]
            )
            return Changed(json.dumps(value).encode(), True, f"{name}: {key} {value[key]!r}")
        if chance < 0.7:
            value[rng.choice(keys)] = nested(1, 5000)
            return Changed(_deep(value), False, "a value nested 5,000 times")
        found, how = changed_value(rng, value)
        return Changed(json.dumps(found).encode("utf-8", "surrogatepass"), False, f"{name}: {how}")

    return put(here / name / file, text_or(rng, data, marker, change))


def _deep(value: Any) -> bytes:
    """JSON of values that are nested too deep for Python's own writer."""
    plain = {key: of for key, of in value.items() if not isinstance(of, list) or len(str(key)) == 0}
    return json.dumps(plain).encode()[:-1] + b', "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}"


def _make_log(rng: random.Random, here: Path) -> Given:
    path = here / "log" / "audit.jsonl"
    path.parent.mkdir(parents=True)
    log = audit.Audit(path)
    for number in range(5):
        log.append("search", "Ada", "127.0.0.1", found=[number])
    lines = path.read_bytes().splitlines(keepends=True)
    row = rng.randrange(4)  # the last line's hash is nowhere but on paper
    entry = json.loads(lines[row])
    chance = rng.random()
    if chance < 0.4:
        lines[row], how = spoilt(rng, lines[row]).data, "spoilt"
    elif chance < 0.8:
        key = rng.choice(sorted(entry))
        entry[key] = rng.choice([value for value in (*WRONG, *HUGE) if value != entry[key]])
        lines[row], how = json.dumps(entry).encode() + b"\n", f"{key} {str(entry[key])[:20]}"
    else:
        lines[row], how = b"[" * 9999 + rng.choice(CONTROL) + b"\n", "nested"
    data = b"".join(lines)
    return put(path, Changed(data, data != path.read_bytes(), f"log: {how}"))


def use_own(path: Path) -> None:
    """Read a file of `make_own`."""
    if path.name == "audit.jsonl":
        return use_log(path)
    name = next(name for name, (file, *_) in _OWN.items() if str(path).endswith(f"{name}/{file}"))
    _OWN[name][3](path)
    return None
