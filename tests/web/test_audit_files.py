"""The audit log over several files, and with lines that are damaged."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from visir.web import audit
from visir.web.audit import NOTHING, Audit, entries, verify


def written(path: Path, count: int) -> Audit:
    log = Audit(path)
    for number in range(count):
        log.append("search", "Ada", "127.0.0.1", found=[number])
    return log


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file after two lines; three closed files are kept."""
    monkeypatch.setattr(audit, "FILE_BYTES", 400)
    monkeypatch.setattr(audit, "FILES", 3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_long_log_goes_on_in_another_file(tmp_path: Path, small: None) -> None:
    log = written(tmp_path / "audit.jsonl", 5)
    assert names(tmp_path) == [
        "audit.000000000001-000000000002.jsonl",
        "audit.000000000003-000000000004.jsonl",
        "audit.jsonl",
    ]
    assert verify(log.path) == (5, log.head, None, 1)
    found, earlier = entries(log.path, None, 4)
    assert [entry["n"] for entry in found] == [5, 4, 3, 2]
    assert [entry["n"] for entry in entries(log.path, earlier, 4)[0]] == [1]
    assert entries(log.path, 4, 2)[1] == 2
    again = Audit(log.path)
    assert again.append("search", "", "").line == 6
    assert verify(log.path)[::2] == (6, None)


def test_of_too_many_files_the_oldest_goes_and_the_log_says_so(tmp_path: Path, small: None) -> None:
    log = written(tmp_path / "audit.jsonl", 7)
    second = json.loads((tmp_path / "audit.000000000003-000000000004.jsonl").open().readline())
    log.append("search", "Ada", "127.0.0.1")
    log.append("search", "Ada", "127.0.0.1")
    assert names(tmp_path)[0] == "audit.000000000003-000000000004.jsonl"
    assert len(names(tmp_path)) == 4
    said = [entry for entry in entries(log.path)[0] if entry["action"] == "log shortened"]
    assert [entry["what"] for entry in said] == [{"through": 2, "sha256": second["before"]}]
    assert verify(log.path) == (log.lines, log.head, None, 3)
    assert Audit(log.path).head == log.head
    assert entries(log.path, None, 100)[1] is None
    for _ in range(20):
        log.append("search", "Ada", "127.0.0.1")
    assert len(names(tmp_path)) == 4
    assert verify(log.path).broken is None


def test_a_file_that_somebody_else_deletes_is_missed(tmp_path: Path, small: None) -> None:
    log = written(tmp_path / "audit.jsonl", 7)
    middle = tmp_path / "audit.000000000003-000000000004.jsonl"
    kept = middle.read_bytes()
    middle.unlink()
    assert verify(log.path) == (7, log.head, 3, 1)
    middle.write_bytes(kept)
    assert verify(log.path).broken is None
    (tmp_path / "audit.000000000001-000000000002.jsonl").unlink()
    assert verify(log.path) == (7, log.head, 3, 3)


def test_a_change_in_a_file_that_is_closed_is_seen(tmp_path: Path, small: None) -> None:
    log = written(tmp_path / "audit.jsonl", 7)
    assert verify(log.path).broken is None
    old = tmp_path / "audit.000000000003-000000000004.jsonl"
    old.write_bytes(old.read_bytes().replace(b"[2]", b"[8]"))
    assert verify(log.path) == (7, log.head, 4, 1)


def test_a_kill_between_two_files_loses_nothing(tmp_path: Path, small: None) -> None:
    log = written(tmp_path / "audit.jsonl", 2)
    log.path.rename(tmp_path / "audit.000000000001-000000000002.jsonl")
    assert verify(log.path) == (2, log.head, None, 1)
    again = Audit(log.path)
    assert again.append("search", "", "").line == 3
    assert verify(log.path)[::2] == (3, None)


def test_a_file_of_the_same_name_is_not_overwritten(tmp_path: Path, small: None) -> None:
    log = written(tmp_path / "audit.jsonl", 2)
    log.append("search", "", "")
    copy = tmp_path / "audit.000000000003-000000000004.jsonl"
    log.append("search", "", "")
    copy.write_bytes(b"a copy\n")
    log.append("search", "", "")
    assert copy.read_bytes() == b"a copy\n"


def entry(**changes: object) -> bytes:
    whole = {
        "n": 2, "time": "2026-01-01T00:00:00.000+00:00", "action": "search", "by": "Ada",
        "remote": "127.0.0.1", "what": {}, "before": NOTHING,
    }  # fmt: skip
    return json.dumps({**whole, **changes}).encode()


BAD = {
    "number as text": entry(n="2"),
    "number true": entry(n=True),
    "name a number": entry(by=5),
    "details a list": entry(what=[1]),
    "time none": entry(time=None),
    "one more field": entry(more=1),
    "a list": b"[]",
    "text": b"text",
    "not UTF-8": b"\xff\xfe\x00",
    "nested": b"[" * 100_000,
    "a number of many figures": b'{"n": ' + b"9" * 5000 + b"}",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_shown_and_hides_no_other(tmp_path: Path, kind: str) -> None:
    log = written(tmp_path / "log", 3)
    lines = log.path.read_bytes().splitlines()
    log.path.write_bytes(b"\n".join([lines[0], BAD[kind], lines[2]]) + b"\n")
    assert verify(log.path) == (3, log.head, 2, 1)
    third, second, first = entries(log.path)[0]
    assert (first["what"], third["what"]) == ({"found": [0]}, {"found": [2]})
    assert (second["n"], second["action"]) == (2, "damaged line")
    assert len(second["what"]["text"]) <= 201


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "yesterday"},
        {"time": "0001-01-01T00:00:00+14:00"},
        {"by": "\ud800"},
        {"what": {"score": float("nan")}},
    ],
)
def test_a_line_that_cannot_be_displayed_is_shown_as_damaged(tmp_path: Path, changes) -> None:
    log = written(tmp_path / "log", 1)
    with log.path.open("ab") as file:
        file.write(entry(before=log.head, **changes) + b"\n")
    assert [line["action"] for line in entries(log.path)[0]] == ["damaged line", "search"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", BAD)
def test_the_page_shows_where_the_log_is_broken(serve, kind: str) -> None:
    client = serve()
    for name in ("one", "two"):
        client.post("/api/cases", json={"name": name})
    path = client.state.case_store.audit.path
    first, second = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, BAD[kind], second]) + b"\n")
    page = client.get("/audit")
    assert page.status_code == 200
    assert "Line 2 does not follow from the one before it" in page.text
    assert "damaged line" in page.text
    assert page.text.count("open case") == 2
    told = client.get("/api/audit").json()
    assert (told["broken"], len(told["entries"])) == (2, 3)


def test_lines_of_many_threads_are_one_chain_and_on_disk_when_they_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES", 2000)
    log, synced, plain = Audit(tmp_path / "audit.jsonl"), list[int](), os.fsync

    def slow(descriptor: int) -> None:
        lines = log.lines
        time.sleep(0.01)
        plain(descriptor)
        synced.append(lines)

    monkeypatch.setattr("os.fsync", slow)

    def write(number: int) -> bool:
        line = log.append("search", "Ada", "127.0.0.1", found=[number]).line
        return max(synced) >= line

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(write, range(100)))
    assert verify(log.path)[::2] == (100, None)
    assert len(synced) < 90  # with those of every new file
