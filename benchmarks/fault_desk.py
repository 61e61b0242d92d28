"""Kills of a server while cases are kept, images deleted and searches logged; what must hold."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fault_kills import Result, vector_of
from fault_server import GONE, Client, Served, awaited, served
from fault_world import PixelEmbedder, crops
from killing import Point

from visir.core.types import InputError
from visir.gallery.add import add
from visir.gallery.sqlite import SqliteStore
from visir.gallery.sqlite_file import Database
from visir.gallery.store import Filter
from visir.web import audit
from visir.web.case_store import CaseStore
from visir.web.schemas import Case

COUNT, LIVES = 48, 12
POINTS: tuple[Point, ...] = (
    (Path, "replace"), (Path, "rename"), (Path, "unlink"), (os, "link"), (os, "fsync"),
    (audit, "_write"), (Database, "run"),
)  # fmt: skip
OPERATIONS = (
    "open case", "keep", "keep", "keep", "note", "note", "drop", "delete case", "delete image",
    "search", "refine", "export",
)  # fmt: skip
Content = tuple[tuple[int, int, str], ...]  # of a case: number, image and note of each hit


class Step(NamedTuple):
    """A request, and the state of cases and images after it if it is done.

    request: method, path, body; number: of the case it changes; content: of that case then, None
    if it is deleted; item: an image that is deleted; new: it opens a case.
    """

    request: tuple[str, str, Any]
    number: int = 0
    content: Content | None = ()
    item: int = 0
    new: bool = False


class Desk:
    """A gallery and a folder of cases that live through several kills."""

    def __init__(self, root: Path) -> None:
        audit.FILE_BYTES = 6000  # so that the log goes on in new files
        self.root = root
        crops(root / "images", COUNT)
        with contextlib.closing(SqliteStore(root / "kept", create=True)) as store:
            add(store, PixelEmbedder(), [root / "images"])
        self.life = LIVES

    def begin(self) -> None:
        """A new desk beside a whole gallery."""
        for name in ("gallery", "desk"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        shutil.copytree(self.root / "kept", self.root / "gallery")
        self.life, self.told = 0, 0
        self.cases: dict[int, Content] = {}
        self.highest = 0
        with contextlib.closing(SqliteStore(self.root / "gallery")) as store:
            self.items = {item.id: Path(item.source) for item in store.select(Filter())}
        self.gone: dict[int, Path] = {}

    def one(self, _kind: str, rng: random.Random) -> Result | None:
        """One life of a server, and its kill; None if it was not killed."""
        began = time.perf_counter()
        if self.life == LIVES:
            self.begin()
        self.life += 1
        named = rng.random() < 0.6
        call = rng.randint(1, 1200) if named else 0
        points = POINTS if named else ()
        server = served(
            self.root / "gallery", self.root / "desk", points, call, rng.random() < 0.5
        )  # fmt: skip
        acknowledged, pending, broken = self._lived(server, rng, named)
        killed = os.WIFSIGNALED(server.wait())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                why = self._wrong(acknowledged, pending)
        except InputError as error:
            why = ("lost", f"what the server left is refused: {error}")
        except Exception as error:
            why = ("traceback", repr(error))
        if broken:
            why = ("traceback", broken)
        if why:
            self.life = LIVES
            return Result(*why, time.perf_counter() - began)
        return Result("whole", "", time.perf_counter() - began) if killed else None

    # ---- the requests

    def _lived(
        self, server: Served, rng: random.Random, named: bool
    ) -> tuple[list[str], Step | None, str]:
        """Send requests until the server is killed: names of those answered, the one that was not.

        Also what was wrong with an answer; empty if nothing was.
        """
        client, acknowledged = Client(server.port), list[str]()
        timer = threading.Timer(rng.uniform(0.02, 1.0) if not named else 5.0, server.kill)
        searches: list[tuple[str, list[int]]] = []
        try:
            awaited(client)
            server.arm()
            timer.start()
            while True:
                step = self._step(rng, searches)
                by = f"request-{self.told}"
                self.told += 1
                try:
                    status, answer = client.ask(*step.request, by=by)
                except GONE:
                    return acknowledged, step, ""
                if status >= 400:
                    return acknowledged, step, f"{status} {step.request[:2]} {answer}"
                acknowledged.append(by)
                self._done(step, answer, searches)
        finally:
            timer.cancel()
            if timer.ident is not None:
                timer.join()
            client.close()
            server.kill()

    def _step(self, rng: random.Random, searches: list[tuple[str, list[int]]]) -> Step:
        what = rng.choice(OPERATIONS)
        full = [number for number, content in self.cases.items() if content]
        number = rng.choice(full if full and rng.random() < 0.7 else [*self.cases, 0])
        content = self.cases.get(number, ())
        hit = rng.choice(content) if content else None
        if number == 0:
            what = "open case" if searches else "search"
        if what in ("keep", "refine") and not searches:
            what = "search"
        match what:
            case "open case":
                return Step(("POST", "/api/cases", {"name": "night"}), new=True)
            case "keep":
                search, found = rng.choice(searches)
                body = {"search": search, "items": rng.sample(found, 2), "note": what}
                first = max((kept[0] for kept in content), default=0) + 1
                new = tuple((first + n, item, what) for n, item in enumerate(body["items"]))
                taken = [(n, item) for n, item, _ in content if item in body["items"]]
                if taken:  # from another search: both are kept
                    return self._step(rng, searches)
                return Step(("POST", f"/api/cases/{number}/hits", body), number, content + new)
            case "note" | "drop" if hit is not None:
                path, rest = f"/api/cases/{number}/hits/{hit[0]}", [c for c in content if c != hit]
                if what == "drop":
                    return Step(("DELETE", path, None), number, tuple(rest))
                noted = sorted([*rest, (hit[0], hit[1], "other")])
                return Step(("PATCH", path, {"note": "other"}), number, tuple(noted))
            case "delete case":
                return Step(("DELETE", f"/api/cases/{number}", None), number, None)
            case "delete image" if len(self.items) > COUNT // 2:
                item = rng.choice([*self.items])
                return Step(("DELETE", f"/api/items/{item}", None), item=item)
            case "refine":
                search, found = rng.choice(searches)
                marked = [item for item in found if item in self.items]
                body = {"search": search, "hits": marked[:1], "misses": marked[1:2]}
                return Step(("POST", "/api/refine", body))
            case "export":
                return Step(("POST", f"/api/cases/{number}/export", None))
        return Step(("POST", "/api/search/items", {"items": [rng.choice([*self.items])]}))

    def _done(self, step: Step, answer: Any, searches: list[tuple[str, list[int]]]) -> None:
        """Note what an answer acknowledges."""
        if step.new:
            step = step._replace(number=answer["id"])
            self.highest = max(self.highest, step.number)
        if step.content is None:
            del self.cases[step.number]
        elif step.number:
            self.cases[step.number] = step.content
        if step.item:
            self.gone[step.item] = self.items.pop(step.item)
        if step.request[1] == "/api/search/items":
            found = [hit["item"]["id"] for hit in answer["hits"]]
            searches.append((answer["search"]["id"], found))

    # ---- what must hold

    def _wrong(self, acknowledged: list[str], pending: Step | None) -> tuple[str, str] | None:
        wrongs: list[Callable[[], tuple[str, str] | None]] = [
            lambda: self._wrong_cases(pending),
            lambda: self._wrong_log(acknowledged),
            lambda: self._wrong_gallery(pending),
        ]
        return next((found for wrong in wrongs if (found := wrong())), None)

    def _wrong_cases(self, pending: Step | None) -> tuple[str, str] | None:
        with contextlib.closing(CaseStore(self.root / "desk")) as store:
            lines = store.summaries()
            if any(line.problem for line in lines):
                return "lost", f"damaged or stray case: {[line.problem for line in lines]}"
            there = {line.id: _content(store.case(line.id)) for line in lines}
            allowed = dict(self.cases)
            if pending is not None and pending.new and (new := there.keys() - allowed.keys()):
                allowed |= dict.fromkeys(new, ())
            elif pending is not None and pending.number:
                if pending.content is None and pending.number not in there:
                    del allowed[pending.number]
                elif pending.content == there.get(pending.number):
                    allowed[pending.number] = pending.content
            if there != allowed:
                return "lost", f"cases are {there}, should be {allowed} ({pending})"
            self.cases = there
            case = store.open_case("next", "")
            if case.id <= self.highest:
                return "lost", f"number {case.id} was given twice"
            self.highest = case.id
            store.drop_case(case.id)
        return None

    def _wrong_log(self, acknowledged: list[str]) -> tuple[str, str] | None:
        path = self.root / "desk" / "audit.jsonl"
        verdict = audit.verify(path)
        if verdict.broken is not None:
            return "lost", f"the chain of the log is broken at line {verdict.broken}"
        by = [entry["by"] for entry in audit.entries(path, count=len(acknowledged) + 5)[0]]
        missing = set(acknowledged) - set(by)
        return ("lost", f"not in the log: {sorted(missing)}") if missing else None

    def _wrong_gallery(self, pending: Step | None) -> tuple[str, str] | None:
        with contextlib.closing(SqliteStore(self.root / "gallery")) as store:
            there = {item.id for item in store.select(Filter())}
            if pending is not None and pending.item and pending.item not in there:
                self.gone[pending.item] = self.items.pop(pending.item)
            if there != self.items.keys():
                return "lost", f"images are {there ^ self.items.keys()} off"
        folder = self.root / "gallery"
        files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
        for path in self.gone.values():
            vector = vector_of(path, 0)
            for trace in (vector.tobytes(), vector.astype(np.float16).tobytes()):
                if any(trace in file for file in files):
                    return "lost", f"{path.name} was deleted and is in a file still"
        return None


def _content(case: Case | None) -> Content:
    return () if case is None else tuple((k.number, k.item.id, k.note) for k in case.kept)
