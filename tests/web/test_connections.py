"""A real server under clients that send half of something, or read nothing, and stay."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from bright import EACH, PEOPLE, listening

from visir.web import bodies
from visir.web.client import Client
from visir.web.connections import LimitedConnection, Limits

pytestmark = pytest.mark.slow

HEAD = b"GET /api/gallery HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Short(LimitedConnection):
    limits = Limits(head=0.5, unread=0.5, most=40)


class Patient(LimitedConnection):
    limits = Limits(head=60, unread=60, most=40)


@contextlib.contextmanager
def connected(url: str, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections to a server that have sent something."""
    host, port = url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            one.sendall(sent)
            made.append(one)
        yield made


def closed(one: socket.socket) -> bool:
    """Whether the server ends a connection without an answer; waits for it."""
    try:
        return one.recv(1) == b""
    except ConnectionError:
        return True


def test_half_a_head_is_waited_for_only_so_long(serve) -> None:
    with listening(serve().app, Short) as url, connected(url, 30, HEAD) as halves:
        began = time.monotonic()
        with Client(url) as other:
            assert other.stats().images == PEOPLE * EACH * 4
        assert all(map(closed, halves))
        assert 0.2 < time.monotonic() - began < 15


def test_a_head_of_one_byte_after_another_has_no_more_time(serve) -> None:
    with listening(serve().app, Short) as url, connected(url, 1, HEAD + b"X: ") as (slow,):
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 15:
                slow.sendall(b"x")
                time.sleep(0.05)


def test_half_a_second_head_is_waited_for_only_so_long(serve) -> None:
    with listening(serve().app, Short) as url, connected(url, 1, HEAD + b"\r\n") as (one,):
        assert one.recv(12) == b"HTTP/1.1 200"
        one.sendall(HEAD)
        began = time.monotonic()
        while one.recv(65_536):
            pass
        assert time.monotonic() - began < 4  # uvicorn's limit of idle connections is 5 seconds


def test_with_too_many_connections_the_longest_waiting_one_makes_room(serve) -> None:
    with listening(serve().app, Patient) as url, connected(url, 60, HEAD) as halves:
        with Client(url) as other:
            assert other.stats().images == PEOPLE * EACH * 4
        assert all(map(closed, halves[:20]))
        halves[-1].sendall(b"\r\n")
        assert halves[-1].recv(12) == b"HTTP/1.1 200"


def test_an_answer_nobody_reads_is_not_kept() -> None:
    async def long(scope, receive, send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(200):
                body = {"type": "http.response.body", "body": bytes(2**20), "more_body": True}
                await send(body)
            ended.append(time.monotonic())

    ended, read = list[float](), 0
    with listening(long, Short) as url, connected(url, 1, HEAD + b"\r\n") as (deaf,):
        end = time.monotonic() + 20
        while not ended:
            assert time.monotonic() < end
            time.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            while part := len(deaf.recv(2**20)):
                read += part
    assert 0 < read < 100 * 2**20


def post(body: bytes, length: int) -> bytes:
    head = (
        "POST /api/cases HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return head.encode() + body


def answer(one: socket.socket) -> tuple[int, str]:
    """The status of an answer and its sentence."""
    data = b""
    while not data.endswith(b"}"):
        part = one.recv(65_536)
        assert part, data
        data += part
    head, _, text = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text)["error"]


@pytest.mark.parametrize("drip", [False, True])
def test_a_slow_body_is_refused_and_holds_nobody_up(serve, monkeypatch, drip: bool) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.6)
    with listening(serve().app) as url, connected(url, 35, post(b"{", 20_000)) as slow:
        with Client(url) as other:  # 32 requests may be worked on at once; these are not yet
            assert other.search_items([1]).hits
        began = time.monotonic()
        for _ in range(8 if drip else 0):
            with contextlib.suppress(ConnectionError):
                slow[0].sendall(b" ")
                time.sleep(0.1)
        for one in slow[1:] if drip else slow:
            status, sentence = answer(one)
            assert status == 408
            assert "arrives too slowly" in sentence
        if drip:
            assert answer(slow[0])[0] == 408
        assert time.monotonic() - began < 15


def test_what_is_refused_is_not_read_for_ever(serve, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.4)
    client = serve("a-token-of-twenty-letters")
    with listening(client.app) as url, connected(url, 1, post(b"{", 100)) as (slow,):
        assert answer(slow)[0] == 408


def test_the_rest_of_an_answered_body_is_waited_for_only_so_long(serve, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "HELD", 1000)
    sent = post(b" " * 2000, 100_000)
    with listening(serve().app, Short) as url, connected(url, 1, sent) as (one,):
        assert answer(one)[0] == 429
        began = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 15:
                one.sendall(b" ")
                time.sleep(0.05)


def test_bodies_together_have_a_most(serve, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "HELD", 50_000)
    with listening(serve().app) as url:
        with connected(url, 1, post(b" " * 40_000, 60_000)) as (first,):
            time.sleep(0.3)
            with connected(url, 1, post(b" " * 20_000, 30_000)) as (second,):
                status, sentence = answer(second)
                assert status == 429
                assert "too many images are being sent at once" in sentence
            first.close()
        with Client(url) as other:
            assert other.search_items([1]).hits
