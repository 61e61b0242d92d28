"""The parts of a server that need none: queries, the log, pictures, uploads, the desk."""

from __future__ import annotations

import io
import json
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fake_run import draw_person
from PIL import Image

from visir.core.types import InputError, Modality, Span
from visir.gallery.sqlite import SqliteStore
from visir.web import audit
from visir.web.audit import Audit
from visir.web.case_store import CaseStore, with_hits
from visir.web.middleware import is_loopback
from visir.web.rendering import (
    bars,
    encoded,
    layer,
    many,
    moment,
    opened,
    over_time,
    pixelated,
    score,
    size,
)
from visir.web.schemas import Case, Item, KeptHit, SearchRecord, SearchRequest
from visir.web.uploads import read_upload

NOW = datetime(2026, 1, 2, tzinfo=UTC)


# ---- the audit log


def written(path: Path, count: int = 5) -> Audit:
    log = Audit(path)
    for number in range(count):
        log.append("search", "Ada", "127.0.0.1", found=[number])
    return log


def test_the_log_is_a_chain(tmp_path: Path) -> None:
    log = written(tmp_path / "log")
    lines = (tmp_path / "log").read_bytes().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["n"] for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0]["before"] == "0" * 64
    assert audit.verify(tmp_path / "log") == (5, log.head, None, 1)
    stamp = log.append("export", "", "")
    assert stamp == (6, audit.verify(tmp_path / "log").head)


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path / "log", 2)
    Audit(tmp_path / "log").append("search", "", "")
    assert audit.verify(tmp_path / "log")[::2] == (3, None)


def changed(lines: list[bytes]) -> list[bytes]:
    return [*lines[:1], lines[1].replace(b"[1]", b"[9]"), *lines[2:]]


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [
        (changed, 3),  # the line after the changed one does not hold its hash
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], 4),
        (lambda lines: [*lines[:3], b"{}", *lines[3:]], 4),
        (lambda lines: [*lines[:4], b'{"n": 5, "ti'], 5),
    ],
)
def test_tampering_is_seen(tmp_path: Path, tamper, broken: int) -> None:
    written(tmp_path / "log")
    lines = (tmp_path / "log").read_bytes().splitlines()
    (tmp_path / "log").write_bytes(b"\n".join(tamper(lines)) + b"\n")
    assert audit.verify(tmp_path / "log").broken == broken


def test_a_log_cut_off_at_its_end_has_another_head(tmp_path: Path) -> None:
    log = written(tmp_path / "log")
    lines = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    (tmp_path / "log").write_bytes(b"".join(lines[:-1]))
    lines_left, head, broken, _ = audit.verify(tmp_path / "log")
    assert (lines_left, broken) == (4, None)
    assert head != log.head


def test_a_line_a_crash_cut_short_is_kept_and_seen(tmp_path: Path) -> None:
    written(tmp_path / "log", 2)
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:-20])
    Audit(tmp_path / "log").append("search", "", "")
    assert audit.verify(tmp_path / "log")[::2] == (3, 2)
    assert (tmp_path / "log").read_bytes().startswith(whole[:-20] + b"\n")


def test_the_log_is_read_from_its_end(tmp_path: Path) -> None:
    written(tmp_path / "log", 30)
    for before, count, numbers, earlier in (
        (None, 3, [30, 29, 28], 28), (10, 2, [9, 8], 8), (3, 5, [2, 1], None),
        (None, 30, list(range(30, 0, -1)), None),
    ):  # fmt: skip
        found, rest = audit.entries(tmp_path / "log", before, count)
        assert ([entry["n"] for entry in found], rest) == (numbers, earlier)
    assert audit.entries(tmp_path / "none") == ([], None)


# ---- pictures


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 48, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def test_blurring_leaves_blocks_where_heads_are_and_the_rest_alone() -> None:
    plain = picture()
    covered = np.asarray(pixelated(plain))
    top = round(0.3 * 96)
    assert (covered[top:] == np.asarray(plain)[top:]).all()
    assert len(np.unique(covered[:top].reshape(-1, 3), axis=0)) <= 5 * 3
    assert covered.shape == (96, 48, 3)


def test_what_is_encoded_holds_nothing_but_pixels() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "secret"
    picture().save(buffer, "JPEG", exif=exif, comment=b"secret")
    assert b"secret" in buffer.getvalue()
    again = encoded(opened(buffer.getvalue(), "x"))
    assert b"secret" not in again
    assert opened(again, "x").size == (48, 96)


def test_the_overlay_is_opaque_where_the_drop_is_large() -> None:
    drops = np.zeros((8, 4), np.float32)
    drops[2, 1] = 0.4
    drops[6, 3] = -0.4
    opacity = np.asarray(Image.open(io.BytesIO(layer(drops))))[..., 3]
    assert opacity.shape == (192, 96)
    assert opacity[2 * 24 + 12, 36] == opacity.max() > 100
    assert opacity[6 * 24 + 12, 84] == 0


# ---- uploads


def file(form: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    picture().convert(mode).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"])
def test_every_format_is_read(form: str) -> None:
    upload = read_upload(file(form), (48, 24), "image 1")
    assert upload.pixels.shape == (48, 24, 3)
    assert upload.modality is Modality.VISIBLE
    assert max(upload.picture.size) == 96


def test_grey_is_judged_infrared_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    assert read_upload(file("PNG", "L"), (48, 24), "x").modality is Modality.INFRARED
    deep = io.BytesIO()
    Image.fromarray(np.full((40, 20), 65535, np.uint16)).save(deep, "PNG")
    for high, level in ((65535, 255), (131070, 128)):
        found = read_upload(deep.getvalue(), (48, 24), "x", Span(0, high))
        assert (found.pixels == level).all()
    draw_person(tmp_path / "a.png", 3, False, 1)
    upload = read_upload((tmp_path / "a.png").read_bytes(), (48, 24), "x")
    assert upload.pixels.shape == (48, 24, 3)


def bomb(width: int = 10_000, height: int = 10_000) -> bytes:
    """A whole PNG that says to be 100 megapixels, in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(width + 1) * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


ZIP = b"PK\x03\x04" + bytes(40) + b"PK\x05\x06" + bytes(18)
BAD = {
    "nothing": (b"", "is empty"),
    "text": (b"<html><script>alert(1)</script>", "not an image that can be read"),
    "vector": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image that can be read"),
    "another format": (file("GIF", "P"), "not an image that can be read"),
    "bomb": (bomb(), "more than 40 million pixels"),
    "cut png": (file("PNG")[:-300], "cut short or damaged"),
    "cut jpeg": (file("JPEG")[:-300], "cut short or damaged"),
    "cut webp": (file("WEBP")[:-300], "cut short or damaged"),
    "cut bmp": (file("BMP")[:-300], "cut short or damaged"),
    "png and zip": (file("PNG") + ZIP, "holds more than an image"),
    "jpeg and zip": (file("JPEG") + ZIP, "holds more than an image"),
    "jpeg and page": (file("JPEG") + b"<script>alert(1)</script>", "holds more than an image"),
    "webp and page": (file("WEBP") + b"<script>", "holds more than an image"),
    "bmp and zip": (file("BMP") + ZIP, "holds more than an image"),
    "tiff and zip": (file("TIFF") + ZIP, "holds more than an image"),
    "ppm and zip": (file("PPM") + ZIP, "holds more than an image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_just_an_image_is_refused(kind: str) -> None:
    data, said = BAD[kind]
    with pytest.raises(InputError, match=f"image 1: .*{said}"):
        read_upload(data, (48, 24), "image 1")


def test_a_document_inside_a_jpeg_is_refused() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", comment=b"%PDF-1.7 1 0 obj")
    with pytest.raises(InputError, match="holds more than an image"):
        read_upload(buffer.getvalue(), (48, 24), "image 1")


def test_a_phone_s_second_jpeg_is_no_reason_to_refuse() -> None:
    assert read_upload(file("JPEG") + file("JPEG"), (48, 24), "x").pixels.shape == (48, 24, 3)


# ---- the desk, words, rules


def a_search(name: str = "s") -> SearchRecord:
    return SearchRecord(
        name, NOW, "", SearchRequest(), (), (), (), 5, "g", 1, "adca", "f", 0.3, "0.1"
    )


def kept(item: int) -> KeptHit:
    what = Item(item, "x", "gate", "visible", NOW, (), NOW)
    return KeptHit(0, what, 1, 0.9, 0.8, "", "Ada", NOW, "s", None)


def test_cases_are_kept_and_their_numbers_never_given_twice(tmp_path: Path) -> None:
    desk = CaseStore(tmp_path)
    first = desk.open_case("one", "Ada")
    desk.change(first.id, lambda case: with_hits(case, [kept(7), kept(8)], a_search()))
    desk.close()
    again = CaseStore(tmp_path)
    case = again.case(1)
    assert case is not None
    assert [hit.number for hit in case.kept] == [1, 2]
    assert case.searches == (a_search(),)
    assert again.drop_case(1)
    assert again.case(1) is None
    assert not again.drop_case(1)
    assert again.open_case("two", "").id == 2
    again.close()


def test_a_desk_is_open_once(tmp_path: Path) -> None:
    desk = CaseStore(tmp_path)
    with pytest.raises(InputError, match="another server has this folder of cases open; stop it"):
        CaseStore(tmp_path)
    desk.close()
    CaseStore(tmp_path).close()


def test_a_damaged_case_is_named(tmp_path: Path) -> None:
    desk = CaseStore(tmp_path)
    desk.open_case("one", "")
    (tmp_path / "cases" / "1.json").write_text("{")
    with pytest.raises(
        InputError, match=r"case 1: its file cannot be read \(is damaged\); restore 1\.json from"
    ):
        desk.case(1)
    desk.close()


def test_a_case_holds_so_many_images_and_no_more() -> None:
    case = with_hits(Case(1, "x", "", NOW), [kept(n) for n in range(1, 501)], a_search())
    with pytest.raises(InputError, match="a case holds 500 images at most; open another one"):
        with_hits(case, [kept(900)], a_search())
    again = with_hits(case, [kept(500)], a_search())
    assert len(again.kept) == 500


def test_numbers_in_words() -> None:
    assert [score(x, True) for x in (0.001, 0.42, 0.999)] == ["< 1 %", "42 %", "> 99 %"]
    assert score(0.5, False) == "0.500"
    assert many(1, "image") == "1 image"
    assert many(1200, "image") == "1,200 images"
    assert size(10) == "10 bytes"
    assert size(5 * 2**40) == "5.0 TB"
    assert moment(None) == "time unknown"
    assert moment(NOW) == NOW.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert [bar.share for bar in bars({"a": 1, "b": 4})] == [25, 100]


def test_bars_over_time_count_every_image_once(filled: Path) -> None:
    store = SqliteStore(filled)
    found = over_time(store, store.stats())
    assert sum(bar.images for bar in found) == store.count()
    assert max(bar.share for bar in found) == 100
    store.close()


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.3.2.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.1.4", "::", "example.org", "")))
