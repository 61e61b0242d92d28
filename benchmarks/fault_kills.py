"""Kills while a gallery is filled, changed, emptied and searched, and what must hold after them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fault_world import PixelEmbedder, crops, drawn, encoded, number_of
from killing import Point, forked, killing

from visir.commands import index
from visir.core.types import FloatArray, InputError, Modality
from visir.embedding.bulk import work
from visir.gallery.add import add
from visir.gallery.query import Query, SearchOptions
from visir.gallery.scan.blocks import Blocks
from visir.gallery.scan.matrix import Scan
from visir.gallery.searching import search
from visir.gallery.sqlite import SqliteStore
from visir.gallery.sqlite_file import Database
from visir.gallery.store import Filter, Stored

COUNT = 24
NOW = 1_767_225_600.0  # 2026-01-01
POINTS: tuple[Point, ...] = (
    (Path, "replace"), (Path, "rename"), (Path, "unlink"), (os, "link"), (os, "fsync"),
    (Database, "run"), (Database, "run_many"), (Blocks, "append"), (Blocks, "erase"),
    (Blocks, "_write"), (Scan, "_commit"),
)  # fmt: skip
KINDS = {
    "index add": "images are added",
    "index add --update": "changed images are embedded again",
    "index add --prune": "images whose files are gone are removed",
    "index remove": "images are removed",
    "retention": "images that are too old are removed",
    "search": "the first search makes the scan",
}
Tell = Callable[[object], None]


class Result(NamedTuple):
    """What came of one fault: `outcome` is a column of the table, `why` is for the log."""

    outcome: str
    why: str = ""
    seconds: float = 0.0


class Blow(NamedTuple):
    """When a process is killed: at a call of one of the points, or after so many seconds."""

    call: int = 0
    after: bool = False
    seconds: float | None = None


class Ended(NamedTuple):
    """A process that ended: what it told before, and its status."""

    told: list[Any]
    status: int

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return os.WIFSIGNALED(self.status)


class Plan(NamedTuple):
    """One operation: what it does, and the versions each image may have before and after it."""

    work: Callable[[Tell], object]
    before: Mapping[Path, int | None]
    after: Mapping[Path, int | None]


def struck(do: Callable[[Tell], object], blow: Blow, points: tuple[Point, ...] = POINTS) -> Ended:
    """Do something in a copy of this process, and kill it."""
    reading, channel = os.pipe()

    def working() -> None:
        def tell(what: object) -> None:
            os.write(channel, json.dumps(what).encode() + b"\n")

        os.close(reading)
        counts = killing(points, blow.call, blow.after)
        tell("begun")
        do(tell)
        tell(counts[0])

    child = forked(working)
    os.close(channel)
    with os.fdopen(reading, "rb") as file:
        lines = [file.readline()]
        if blow.seconds is not None:
            time.sleep(blow.seconds)
            os.kill(child, signal.SIGKILL)
        lines += file.readlines()
    status = os.waitpid(child, 0)[1]
    return Ended([json.loads(line) for line in lines[1:] if line.endswith(b"\n")], status)


class Galleries:
    """A gallery and its images at one place, put back before every kill."""

    def __init__(self, root: Path) -> None:
        self.root, self.embedder = root, PixelEmbedder()
        self.now, self.images = root / "now", root / "now" / "images"
        self.gallery = root / "now" / "gallery"
        self.paths = crops(self.images, COUNT)
        self._keep("none", 0)
        self._keep("half", COUNT // 2)
        self._keep("all", COUNT)
        with contextlib.closing(SqliteStore(self.gallery)) as store:
            store.nearest(vector_of(self.paths[0], 0), 1)  # compiles, before processes are forked
        work._UNIT_SIZE = 3  # images a transaction
        self.measured: dict[str, tuple[int, float]] = {}

    def _keep(self, name: str, indexed: int) -> None:
        """Keep a copy of the place with so many of the images in the gallery."""
        shutil.rmtree(self.now, ignore_errors=True)
        crops(self.images, indexed)
        with contextlib.closing(SqliteStore(self.gallery, create=True)) as store:
            if indexed:
                add(store, self.embedder, [self.images])
        self.paths = crops(self.images, COUNT)
        shutil.copytree(self.now, self.root / name)

    def put_back(self, name: str) -> None:
        """The place as it was kept."""
        shutil.rmtree(self.now)
        shutil.copytree(self.root / name, self.now)

    def one(self, kind: str, rng: random.Random) -> Result | None:
        """One kill; None if the operation had ended before it came."""
        began = time.perf_counter()
        plan = self.planned(kind, rng)
        if kind not in self.measured:
            start = time.perf_counter()
            ended = struck(plan.work, Blow())
            if ended.status:
                return Result("traceback", "it fails without a kill")
            self.measured[kind] = ended.told[-1], time.perf_counter() - start
            plan = self.planned(kind, rng)
        calls, seconds = self.measured[kind]
        blow = Blow(rng.randint(1, calls), rng.random() < 0.5)
        if rng.random() < 0.4:
            blow = Blow(seconds=rng.uniform(0, seconds))
        ended = struck(plan.work, blow)
        if not ended.killed:
            return None if ended.status == 0 else Result("traceback", f"status {ended.status}")
        outcome, why = self._judged(plan, ended)
        return Result(outcome, f"{why} {blow}", time.perf_counter() - began)

    def _judged(self, plan: Plan, ended: Ended) -> tuple[str, str]:
        told = {Path(name): version for told in ended.told for name, version in told}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wrong = self.wrong(plan, told)
                if wrong is None:
                    plan.work(lambda _: None)  # the same command again
                    wrong = self.wrong(plan._replace(before=plan.after), {})
        except InputError as error:
            return "lost", f"the gallery is refused: {error}"
        except Exception as error:
            return "traceback", repr(error)
        return wrong or ("whole", "")

    # ---- the operations

    def planned(self, kind: str, rng: random.Random) -> Plan:
        """Put the place back and plan an operation on it."""
        self.put_back("half" if kind == "index add" else "all")
        indexed = COUNT // 2 if kind == "index add" else COUNT
        before: dict[Path, int | None] = {
            path: 0 if number < indexed else None for number, path in enumerate(self.paths)
        }
        some = rng.sample(self.paths, rng.randint(2, 9))
        match kind:
            case "index add":
                return Plan(self._add, before, dict.fromkeys(self.paths, 0))
            case "index add --update":
                for path in some:
                    path.write_bytes(encoded(picture(path, 1), ".png"))
                work = partial(self._add, update=True)
                return Plan(work, before, before | dict.fromkeys(some, 1))
            case "index add --prune":
                for path in some:
                    path.unlink()
                work = partial(self._add, prune=True)
                return Plan(work, before, before | dict.fromkeys(some))
            case "index remove":
                remove = partial(self._remove, some)
                return Plan(remove, before, before | dict.fromkeys(some))
            case "retention":
                old = [path for path in self.paths if int(path.stem[4:6]) <= 6]
                return Plan(partial(self._expire, old), before, before | dict.fromkeys(old))
            case _:
                if rng.random() < 0.5:
                    shutil.rmtree(self.gallery / "scan")
                return Plan(partial(self._search, rng.choice(self.paths)), before, before)

    def _add(self, tell: Tell, **how: bool) -> None:
        with contextlib.closing(SqliteStore(self.gallery, create=True)) as store:
            add(_Telling(store, tell), self.embedder, [self.images], **how)  # type: ignore

    def _remove(self, paths: list[Path], tell: Tell) -> None:
        with contextlib.closing(SqliteStore(self.gallery)) as store:
            ids = store.known([str(path) for path in paths])
        index.remove(str(self.gallery), ids=tuple(ids.values()) or (10**9,))
        tell([(str(path), None) for path in paths])

    def _expire(self, paths: list[Path], tell: Tell) -> None:
        with contextlib.closing(SqliteStore(self.gallery)) as store:
            store.keep_for(200)
            store.expire(NOW, sure=True)
            tell([(str(path), None) for path in paths])

    def _search(self, path: Path, tell: Tell) -> None:
        with contextlib.closing(SqliteStore(self.gallery)) as store:
            query = Query(vector_of(path, 0), Modality.VISIBLE)
            search(store, [query], SearchOptions(k=3, same_modality=True), None)
            store.settle()

    # ---- what must hold

    def wrong(self, plan: Plan, told: Mapping[Path, int | None]) -> tuple[str, str] | None:
        """What does not hold: (outcome, why); None if all does."""
        with contextlib.closing(SqliteStore(self.gallery)) as store:
            items = {Path(item.source): item for item in store.select(Filter())}
            if len(items) != store.count() or items.keys() - set(self.paths):
                return "believed", "images that nobody added, or one twice"
            for path in self.paths:
                allowed = {plan.before[path], plan.after[path]}
                allowed = {told[path]} if path in told else allowed
                found = self._wrong_image(store, path, items.get(path), allowed)
                if found:
                    return found
            for table in ("vectors", "thumbnails", "tags", "marks"):
                query = f"SELECT count(*) FROM {table} WHERE id NOT IN (SELECT id FROM items)"
                if store.db.run(query) != [(0,)]:
                    return "lost", f"half of a deletion is left in {table}"
        return self._traces(plan, {path for path in self.paths if path not in items})

    def _wrong_image(
        self, store: SqliteStore, path: Path, item: Stored | None, allowed: set[int | None]
    ) -> tuple[str, str] | None:
        if item is None:
            return None if None in allowed else ("lost", f"{path.name} is gone")
        stored = store.vectors([item.id])[0]
        near = [
            version for version in (0, 1) if np.abs(vector_of(path, version) - stored).max() < 1e-5
        ]
        if not near:
            return "believed", f"{path.name} has a vector of no image"
        if near[0] not in allowed:
            what = "came back" if allowed == {None} else "has a former version"
            return "lost", f"{path.name} {what}"
        if store.thumbnail(item.id) is None or not store.marks([item.id]):
            return "lost", f"{path.name} lacks its thumbnail or mark"
        if store.nearest(stored, 1).ids.tolist() != [item.id]:
            return "lost", f"{path.name} is not found by a search"
        return None

    def _traces(self, plan: Plan, gone: set[Path]) -> tuple[str, str] | None:
        """A removed image that is in a file of the gallery still."""
        files = [file.read_bytes() for file in self.gallery.rglob("*") if file.is_file()]
        for path in gone:
            if plan.before[path] is None:
                continue
            vector = vector_of(path, 0)
            stored = (vector.tobytes(), vector.astype(np.float16).tobytes(), path.name.encode())
            for trace in stored:
                if any(trace in file for file in files):
                    return "lost", f"{path.name} was removed and is in a file still"
        return None


class _Telling:
    """A store that tells of every change when it is done."""

    def __init__(self, store: SqliteStore, tell: Tell) -> None:
        self._store, self._tell = store, tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def add(self, model: Any, entries: Any, vectors_ND: FloatArray, *more: Any) -> Any:
        ids = self._store.add(model, entries, vectors_ND, *more)
        self._tell(
            [(e.source, _version(e.source, v)) for e, v in zip(entries, vectors_ND, strict=True)]
        )
        return ids

    def remove(self, ids: Any) -> int:
        names = [item.source for item in self._store.get(ids).values()]
        count = self._store.remove(ids)
        if not any(Path(name).exists() for name in names):  # else it is to be replaced
            self._tell([(name, None) for name in names])
        return count


def _version(source: str, vector: FloatArray) -> int:
    distances = [np.abs(vector_of(Path(source), version) - vector).max() for version in (0, 1)]
    return int(np.argmin(distances))


def picture(path: Path, version: int) -> Any:
    """The image of a file of `crops`, in one of its versions."""
    return drawn(number_of(path), version, grey="infrared" in path.parts)


@cache
def vector_of(path: Path, version: int) -> FloatArray:
    """The embedding of an image of `crops`."""
    pixels = np.asarray(picture(path, version).convert("RGB"))[None]
    return PixelEmbedder().embed_pixels(pixels, Modality.VISIBLE)[0]
