"""What is forgotten when: images with times that make no sense, and clocks that are wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from people import MODEL, vectors

from visir.commands.index import Listing
from visir.core.types import Modality
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import EVERYTHING, DoubtfulClockError
from visir.sources.crop import Entry

DAY = 86_400.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


ADDED = at("2026-03-01")


def put(store, monkeypatch, times: list[float | None], added: float = ADDED) -> None:
    """Images taken at these times by their own account, and added at another."""
    monkeypatch.setattr("time.time", lambda: added)
    before = store.count()
    made = [
        Entry(f"{before + n}", "gate", Modality.VISIBLE, moment) for n, moment in enumerate(times)
    ]
    store.add(MODEL, made, vectors(len(times)))


def left(store) -> list[str]:
    return [item.source for item in store.select(EVERYTHING)]


@pytest.mark.slow
def test_times_that_make_no_sense_count_from_when_the_image_was_added(store, monkeypatch) -> None:
    times = [
        at("1900-01-01"), 0.0, at("1980-01-01"), at("2099-01-01"), at("2026-05-01"), None,
        at("1990-01-01"), at("2026-02-01"), at("2026-03-01T20:00:00"),
    ]  # fmt: skip
    put(store, monkeypatch, times)
    store.keep_for(90)
    # Only the one that is truly of 1990: those of 1900, 1970, 1980 were added today.
    assert store.expire(ADDED) == 1
    assert left(store) == ["0", "1", "2", "3", "4", "5", "7", "8"]
    assert store.expire(at("2026-05-03")) == 1  # taken in February
    assert store.expire(at("2026-05-29T23:59:00")) == 0
    # 90 days after they were added, those of 2099 and of May with the others.
    assert store.expire(at("2026-05-30T00:01:00")) == 6
    assert left(store) == ["8"]  # taken in the evening of that day
    assert store.expire(at("2026-05-30T20:01:00")) == 1


@pytest.mark.slow
def test_a_clock_far_ahead_forgets_nothing_unless_it_is_sure(store, monkeypatch) -> None:
    put(store, monkeypatch, [ADDED] * 300)
    put(store, monkeypatch, [ADDED + 40 * DAY] * 200, ADDED + 40 * DAY)
    store.keep_for(90)
    with pytest.raises(
        DoubtfulClockError,
        match=r"500 of 500 images are older than 90 days by this machine's clock, which shows "
        r"2031-01-01, so none was deleted; set the clock, or delete them with `visir index remove "
        r"GALLERY --older-than 90`",
    ):
        store.expire(at("2031-01-01"))
    assert store.count() == 500
    with pytest.raises(DoubtfulClockError, match="300 of 500 images are older"):
        store.expire(ADDED + 91 * DAY)
    assert store.expire(ADDED + 91 * DAY, sure=True) == 300
    assert store.count() == 200


def test_half_of_the_images_or_a_hundred_are_deleted_without_a_doubt(tmp_path, monkeypatch) -> None:
    store = SqliteStore(tmp_path / "g", create=True)
    put(store, monkeypatch, [ADDED] * 100)
    store.keep_for(90)
    assert store.expire(at("2031-01-01")) == 100
    put(store, monkeypatch, [ADDED] * 101 + [ADDED + 50 * DAY] * 101, ADDED + 50 * DAY)
    assert store.expire(ADDED + 91 * DAY) == 101
    store.close()


def test_images_taken_later_than_they_were_added_are_found_among_many(
    tmp_path, monkeypatch
) -> None:
    store = SqliteStore(tmp_path / "g", create=True)
    put(store, monkeypatch, [at("2099-01-01")] * 1200)
    put(store, monkeypatch, [ADDED + 100 * DAY] * 1300, ADDED + 100 * DAY)
    store.keep_for(90)
    assert store.expire(ADDED + 101 * DAY) == 1200
    store.close()


def test_a_list_has_a_line_for_each_image_whatever_its_name(tmp_path, monkeypatch) -> None:
    store = SqliteStore(tmp_path / "g", create=True)
    monkeypatch.setattr("time.time", lambda: ADDED)
    store.add(MODEL, [Entry("a\nb", "ga\rte", Modality.VISIBLE, ADDED, ("x\ty",))], vectors(1))
    _, line = str(Listing(tuple(store.select(EVERYTHING)))).split("\n")
    assert r"a\nb  [x\ty]" in line
    assert r"ga\rte" in line
    store.close()
