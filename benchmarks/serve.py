"""Load test of a server: throughput, response times, and memory over time.

A real server process on this machine, a trained run, and the images of its data set in a gallery
that is filled up with similar made-up vectors. Each client repeatedly searches with an image, loads
five thumbnails, and refines. The server's memory is read after warm-up and at the end. With
--before the server of an older commit is asked the same, one after the other in every round.

    python benchmarks/serve.py --run runs/demo                  # about three minutes
    python benchmarks/serve.py --run runs/demo --before 1684c8a --rounds 2 --seconds 30
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from builds import checked_out
from measure import held

from visir.core.run import Run
from visir.core.types import FloatArray, Modality, Record
from visir.core.yaml_file import load_yaml
from visir.data.images import read_image
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder, load
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter, model_of
from visir.sources.crop import Entry
from visir.web.rendering import encoded, shrunk

DOCS = Path(__file__).parent.parent / "docs"
TABLE = DOCS / "tables" / "serve.md"
WARM = 8.0  # seconds before anything is counted
NIGHT = 1_767_294_000.0  # 2026-01-01, 19:00 UTC


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--before", help="commit whose server is measured too")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--print", action="store_true", help="only print the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


# ---- the gallery and its server


def fill(embedder: Embedder, records: Sequence[Record], cameras: dict[int, str], to: Path) -> None:
    """A gallery of a data set's images, taken in one night: a person at a camera within seconds."""
    gallery, rng = SqliteStore(to, create=True), np.random.default_rng(0)
    passes = {(record.pid, record.cam): 11 * 3600 * rng.beta(2, 3) for record in records}
    moments = [NIGHT + passes[record.pid, record.cam] + 20 * rng.random() for record in records]
    for kind in Modality:
        rows = [row for row, record in enumerate(records) if record.modality is kind]
        entries = [
            Entry(
                source="/".join(records[row].path.parts[-3:]),
                camera=cameras.get(records[row].cam, f"camera {records[row].cam}"),
                modality=kind,
                time=float(moments[row]),
                thumbnail=encoded(shrunk(read_image(records[row].path))),
            )
            for row in rows
        ]
        vectors = embedder.embed([records[row].path for row in rows], kind)
        gallery.add(model_of(embedder), entries, vectors)
    gallery.close()


def enlarge(embedder: Embedder, to: Path, images: int) -> None:
    """More vectors like those that are there, scattered a little, without pictures."""
    gallery, rng = SqliteStore(to), np.random.default_rng(1)
    known = gallery.select(Filter())
    vectors: FloatArray = gallery.vectors([item.id for item in known])
    while (held := gallery.count()) < images:
        rows = rng.integers(len(known), size=min(4096, images - held))
        scatter = rng.normal(size=(len(rows), embedder.width)) / embedder.width**0.5
        more = vectors[rows] + scatter * rng.uniform(0, 1, (len(rows), 1))
        more /= np.linalg.norm(more, axis=1, keepdims=True)
        entries = [
            Entry(f"more/{held + n}", f"more {n % 8}", known[row].modality)
            for n, row in enumerate(rows)
        ]
        gallery.add(model_of(embedder), entries, more.astype(np.float32))
    gallery.settle()
    gallery.close()


@contextlib.contextmanager
def served(run: Path, gallery: Path, code: Path = DOCS.parent) -> Iterator[tuple[str, int]]:
    """A server process of its own: its address and its number; code: where its package lies."""
    words = [sys.executable, "-m", "visir.cli", "serve", str(run.resolve())]
    words += ["--gallery", gallery.name, "--port", "0", "--device", "cpu"]
    place = {**os.environ, "PYTHONPATH": str(code)}
    with subprocess.Popen(
        words, cwd=gallery.parent, env=place, stdout=subprocess.PIPE, text=True
    ) as made:
        assert made.stdout is not None
        address = made.stdout.readline().strip().rstrip("/")
        assert address, "the server did not start"
        try:
            yield address, made.pid
        finally:
            made.terminate()


def worked(process: int) -> float:
    """Seconds of a core that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- load


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    """Let clients loose on a server and write the table."""
    embedder = load(arguments.run)
    benchmark = open_benchmark(Path(load_yaml(Run(arguments.run).config)["data"]))
    fill(embedder, benchmark.test, dict(benchmark.cameras), folder / "gallery")
    enlarge(embedder, folder / "gallery", arguments.images)
    infrared = [r.path for r in benchmark.test if r.modality is Modality.INFRARED]
    crops = [path.read_bytes() for path in infrared]
    builds = {"this one": DOCS.parent}
    if arguments.before:
        builds = {arguments.before: checked_out(arguments.before, folder / "code"), **builds}
    told = {build: Told() for build in builds}
    for number in range(arguments.rounds):
        for build, code in builds.items():
            own = shutil.copytree(folder / "gallery", folder / f"gallery {number} {build}")
            with served(arguments.run, own, code) as (address, process):
                asyncio.run(load_up(address, process, crops, arguments, told[build]))
    text = table(told, arguments, benchmark.name)
    print(text)
    if not arguments.print:
        TABLE.write_text(text, encoding="utf-8")


class Told:
    """What clients saw: seconds of every answer, by what was asked; refusals; faults.

    memory, worked: of the server, in MiB, and in seconds of a core.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.waits: dict[str, int] = defaultdict(int)
        self.faults: dict[str, int] = defaultdict(int)
        self.memory: list[float] = []
        self.worked = 0.0
        self.counting = False


async def load_up(
    address: str,
    process: int,
    crops: Sequence[bytes],
    arguments: argparse.Namespace,
    told: Told,
) -> None:
    """All clients at once, until the time is over."""
    tasks = [
        asyncio.create_task(one_client(address, crops, random.Random(number), told))
        for number in range(arguments.clients)
    ]
    await asyncio.sleep(min(WARM, arguments.seconds))
    told.counting = True
    told.memory.append(held("VmRSS", process))
    told.worked -= worked(process)
    await asyncio.sleep(arguments.seconds)
    told.counting = False
    told.worked += worked(process)
    told.memory.append(held("VmRSS", process))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Connection:
    """One connection of a client, bare, so that clients leave the cores to the server."""

    def __init__(self, address: str) -> None:
        self.host, port = address.removeprefix("http://").split(":")
        self.port = int(port)
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; head: method, path, and headers of the body."""
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection(self.host, self.port)
            reader, writer = self.streams
            sent = f"{head}Host: {self.host}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(sent.encode() + body)
            told = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(": ", 1) for line in told[1:] if line)
            headers = {name.lower(): value for name, value in pairs}
            answer = await reader.readexactly(int(headers.get("content-length", 0)))
        except (OSError, EOFError, asyncio.IncompleteReadError):
            self.streams = None
            raise
        return int(told[0].split()[1]), headers, answer


def search_of(crop: bytes) -> tuple[str, bytes]:
    """A search with an image, as a client sends it."""
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="crop"\r\n\r\n'
    kind = "Content-Type: multipart/form-data; boundary=x\r\n"
    return f"POST /api/search HTTP/1.1\r\n{kind}", head + crop + b"\r\n--x--\r\n"


async def one_client(address: str, crops: Sequence[bytes], rng: random.Random, told: Told) -> None:
    """One user of the page: search, load five thumbnails, refine, repeat."""
    own = Connection(address)
    while True:
        answer = await asked(told, "search with an image", own, *search_of(rng.choice(crops)))
        if answer is None:
            continue
        found = json.loads(answer)
        ids = [hit["item"]["id"] for hit in found["hits"]]
        for item in ids[:5]:
            page = f"GET /api/items/{item}/thumbnail HTTP/1.1\r\n"
            await asked(told, "load a thumbnail", own, page, fine=(200, 404))
        body = {"search": found["search"]["id"], "hits": ids[:1], "misses": ids[1:3]}
        head = "POST /api/refine HTTP/1.1\r\nContent-Type: application/json\r\n"
        await asked(told, "refine", own, head, json.dumps(body).encode())


async def asked(
    told: Told,
    what: str,
    own: Connection,
    head: str,
    body: bytes = b"",
    fine: tuple[int, ...] = (200,),
) -> bytes | None:
    """Wait for an answer and note it down; None where it is none, or a request to wait."""
    began = time.perf_counter()
    try:
        status, headers, answer = await own.ask(head, body)
    except (OSError, EOFError):
        told.faults[what] += told.counting
        await asyncio.sleep(0.1)
        return None
    if status in (429, 503):
        told.waits[what] += told.counting
        await asyncio.sleep(float(headers["retry-after"]))
        return None
    if told.counting:
        told.seconds[what].append(time.perf_counter() - began)
        told.faults[what] += status not in fine
    return answer if status in fine else None


def table(told: dict[str, Told], arguments: argparse.Namespace, name: str) -> str:
    """The table and what it is of."""
    lines = [
        "| server | request | per second | p50, ms | p95, ms | told to wait | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    seconds = arguments.seconds * arguments.rounds
    for build, seen in told.items():
        for what, took in sorted(seen.seconds.items(), reverse=True):
            p50, p95 = 1000 * np.percentile(took, [50, 95])
            lines.append(
                f"| {build} | {what} | {len(took) / seconds:.1f} | {p50:.0f} | {p95:.0f} "
                f"| {seen.waits[what]} | {seen.faults[what]} |"
            )
    held_by = "; ".join(
        f"{build}: {seen.memory[-2]:.0f} MiB after warm-up, {seen.memory[-1]:.0f} at the end"
        for build, seen in told.items()
    )
    used_by = ", ".join(
        f"{1000 * seen.worked / len(seen.seconds['search with an image']):.0f} ms ({build})"
        for build, seen in told.items()
    )
    lines += [
        "",
        f"{arguments.clients} clients at once, one server process and the clients on "
        f"{os.cpu_count()} cores ({platform.machine()}), for {seconds:.0f} seconds: each searches "
        "with an image, loads five thumbnails, refines, and starts again. "
        f"{arguments.images:,} images in the gallery ({name}, and similar made-up vectors); every "
        "search and refinement writes a line of the audit log to disk. A search with all that "
        f"follows takes the server {used_by} of a core. Memory: {held_by}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
