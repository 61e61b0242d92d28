"""Search a gallery of images for the people on some query images, across modalities."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visir.data.folder import FOLDER_NAMES, modality_folders
from visir.data.images import image_tree, read_image
from visir.data.manifest import detect, open_benchmark
from visir.ranking import rank
from visir.run import Run, atomic_write, write_json
from visir.sheet import HIT, MISS, QUERY, UNKNOWN, Tile, contact_sheet
from visir.types import FloatArray, InputError, Modality, Record

if TYPE_CHECKING:
    from PIL import Image

    from visir.embed import Embedder

MODALITY_OF_FOLDER = {name: kind for kind, names in FOLDER_NAMES.items() for name in names}
# JPEG stores colour coarsely, so a grey picture comes back with channels a few levels apart.
GREY_TOLERANCE = 6.0


class Item(NamedTuple):
    """A gallery image. ``subset``: nobody is in two, and each numbers people its own way."""

    record: Record
    camera: str
    subset: str


class Hit(NamedTuple):
    """A gallery image found for a query; ``correct`` is None where an identity is unknown."""

    rank: int
    path: Path
    camera: str
    modality: Modality
    score: float
    pid: int | None
    correct: bool | None


class RankedList(NamedTuple):
    """The hits of one query, best first; ``inferred``: its modality was judged by its colours."""

    query: Path
    modality: Modality
    inferred: bool
    camera: str
    pid: int | None
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A ranked list for every query image, in the order the queries were given."""

    lists: tuple[RankedList, ...]

    def table(self) -> str:
        """The ranked lists as text, a block per query."""
        return "\n\n".join(_block(ranked) for ranked in self.lists)

    def as_json(self) -> dict[str, Any]:
        """The ranked lists as plain values: paths and modalities as text, scores as floats."""
        return {
            "score": "cosine similarity, -1 to 1",
            "queries": [
                {
                    **_plain(ranked._asdict()),
                    "hits": [_plain(hit._asdict()) for hit in ranked.hits],
                }
                for ranked in self.lists
            ],
        }

    def contact_sheet(self) -> Image.Image:
        """A picture: a row per query, the query at the left, its hits in order beside it.

        A green frame is a hit of the same identity, a red one of another, grey is unknown.
        """
        return contact_sheet([_tiles(ranked) for ranked in self.lists])


def search(
    run: Path,
    gallery: Path,
    images: Sequence[Path],
    modality: str | None = None,
    k: int = 10,
    out: Path | None = None,
    device: str = "cpu",
    *,
    same_modality: bool = False,
    gallery_modality: str | None = None,
    progress: bool = False,
) -> SearchResult:
    """Rank the images of a gallery by how likely they show the person of each query image.

    Args:
        run: a run folder or a weights file.
        gallery: a data set in a known layout (all its images), or a folder of crops.
        images: the query images, inside the gallery or not; a query is never its own hit.
        modality: "visible" or "infrared", of all queries; None takes it from the data set, and
            for an image from elsewhere from its colours (all grey is infrared).
        k: hits per query.
        out: folder for search.json and search.png; None writes nothing.
        device: where the network runs.
        same_modality: rank all gallery images, not only those of the other modality.
        gallery_modality: of those images no folder name says it of.
        progress: show a progress bar while the gallery is embedded.

    Raises:
        InputError: k < 1, no query, a query that cannot be read, an empty gallery, or nothing
            of the other modality in it.
    """
    if k < 1:
        raise InputError(f"k: {k} hits cannot be listed; give 1 or more")
    if not images:
        raise InputError("images: no query image was given; name at least one")
    items = gallery_items(gallery, _modality(gallery_modality, "gallery_modality"))
    queries = _queries([Path(image) for image in images], items, _modality(modality, "modality"))
    for wanted in {query.modality for query in queries}:
        if not same_modality and all(item.record.modality is wanted for item in items):
            raise InputError(
                f"{gallery}: holds {wanted.value} images only and the query is {wanted.value}; "
                "add images of the other modality or search within the same modality"
            )
    from visir import embed

    embedder = embed.load(run, device=device)
    features = _gallery_features(run, gallery, items, embedder, progress)
    found: dict[int, RankedList] = {}
    for side in Modality:
        rows = [row for row, query in enumerate(queries) if query.modality is side]
        if rows:
            asked = [queries[row] for row in rows]
            vectors = embedder.embed([query.query for query in asked], side)
            lists = _rank_all(asked, vectors, items, features, k, same_modality)
            found.update(zip(rows, lists, strict=True))
    result = SearchResult(tuple(found[row] for row in range(len(queries))))
    if out is not None:
        _write(result, Path(out))
    return result


def gallery_items(root: Path, modality: Modality | None = None) -> list[Item]:
    """All images of a gallery folder with modality and camera, sorted by path.

    Args:
        root: a data set in a known layout, or a folder of images in any nesting.
        modality: of the images below no folder named after one (visible, rgb, infrared, ...).

    Raises:
        InputError: there is no image, or the modality of one is not known.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder; give the folder that holds the gallery")
    layout = _layout(root)
    items = _crops(root, modality) if layout is None else _data_set(root, layout)
    if not items:
        raise InputError(f"{root}: holds no image; give a folder with images in it")
    return items


def _layout(root: Path) -> str | None:
    """The layout a data set is in; None for a folder of crops, of one modality maybe."""
    try:
        layout = detect(root)
        if layout == "folder":
            modality_folders(root)
    except InputError:
        return None
    return layout


def _data_set(root: Path, layout: str) -> list[Item]:
    benchmark = open_benchmark(root, layout)
    found: dict[Path, Item] = {}
    for subset, records in (("train", benchmark.train), ("test", benchmark.test)):
        for record in records:
            camera = benchmark.cameras.get(record.cam, f"camera {record.cam}")
            people = "all" if layout == "folder" else subset
            found.setdefault(record.path, Item(record, camera, people))
    return [found[path] for path in sorted(found)]


def _crops(root: Path, fallback: Modality | None) -> list[Item]:
    """Images in any nesting; the camera is the folder below the modality's, else the first."""
    found = []
    for path in image_tree(root):
        folders = path.relative_to(root).parent.parts
        kinds = [MODALITY_OF_FOLDER.get(name.lower()) for name in folders]
        at = next((place for place, kind in enumerate(kinds) if kind is not None), None)
        modality = fallback if at is None else kinds[at]
        if modality is None:
            raise InputError(
                f"{path}: no folder name says its modality; sort the gallery into "
                f"{root.name}/visible and {root.name}/infrared, or give the gallery's modality"
            )
        below = folders if at is None else folders[at + 1 :]
        found.append((path, modality, below[0] if below else modality.value))
    numbers = {name: row for row, name in enumerate(sorted({camera for _, _, camera in found}))}
    return [
        Item(Record(path, None, numbers[camera], modality), camera, "gallery")
        for path, modality, camera in found
    ]


def _queries(
    images: Sequence[Path], items: Sequence[Item], given: Modality | None
) -> list[RankedList]:
    """The queries with what is known of each and no hits yet; all are read, so errors come now."""
    known = {item.record.path.resolve(): item for item in items}
    queries = []
    for path in images:
        picture = read_image(path)
        item = known.get(path.resolve())
        if item is not None:
            modality, camera, pid = item.record.modality, item.camera, item.record.pid
        else:
            modality, camera, pid = modality_by_colour(picture), "", None
        inferred = given is None and item is None
        queries.append(RankedList(path, given or modality, inferred, camera, pid, ()))
    return queries


def modality_by_colour(picture: Image.Image) -> Modality:
    """Infrared where the three channels agree nearly everywhere, visible otherwise."""
    pixels = np.asarray(picture, dtype=np.int16)
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    grey = float(np.percentile(spread, 95)) <= GREY_TOLERANCE
    return Modality.INFRARED if grey else Modality.VISIBLE


def _rank_all(
    queries: Sequence[RankedList],
    vectors: FloatArray,
    items: Sequence[Item],
    features: FloatArray,
    k: int,
    same_modality: bool,
) -> list[RankedList]:
    """Hits for queries of one modality: the k best of the candidates that are not the query."""
    side = queries[0].modality
    rows = np.array(
        [row for row, item in enumerate(items) if same_modality or item.record.modality is not side]
    )
    row_of = {items[row].record.path.resolve(): int(row) for row in rows}
    order, scores = rank(vectors, features[rows], k=min(k + 1, len(rows)))
    subset_of = {item.record.path.resolve(): item.subset for item in items}
    lists = []
    for query, ranked, values in zip(queries, rows[order], scores, strict=True):
        here = query.query.resolve()
        itself = row_of.get(here, -1)
        best = [(row, value) for row, value in zip(ranked, values, strict=True) if row != itself]
        hits = tuple(
            _hit(place, items[row], float(value), query.pid, subset_of.get(here))
            for place, (row, value) in enumerate(best[:k], start=1)
        )
        lists.append(query._replace(hits=hits))
    return lists


def _hit(place: int, item: Item, score: float, pid: int | None, subset: str | None) -> Hit:
    path, its_pid, _, modality = item.record
    known = pid is not None and its_pid is not None
    correct = (pid, subset) == (its_pid, item.subset) if known else None
    return Hit(place, path, item.camera, modality, score, its_pid, correct)


def _gallery_features(
    run: Path, gallery: Path, items: Sequence[Item], embedder: Embedder, progress: bool
) -> FloatArray:
    """(N, D) features of the gallery, from the run's cache while weights and files are the same."""
    run = Path(run)
    weights = Run(run).weights if run.is_dir() else run
    place = hashlib.sha256(str(Path(gallery).resolve()).encode()).hexdigest()[:16]
    cache = weights.parent / "gallery-cache" / f"{place}.npz"
    key = _fingerprint(weights, items)
    features = _read_cache(cache, key)
    if features is None:
        features = embedder.embed_records([item.record for item in items], progress=progress)
        buffer = io.BytesIO()
        np.savez(buffer, key=np.array(key), features=features)
        # A run in a folder one may only read is searched all the same, without a cache.
        with contextlib.suppress(InputError), atomic_write(cache) as file:
            file.write(buffer.getvalue())
    return features


def _fingerprint(weights: Path, items: Sequence[Item]) -> str:
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for path, _, _, modality in (item.record for item in items):
        facts = path.stat()
        line = f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\0{modality.value}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_cache(cache: Path, key: str) -> FloatArray | None:
    """The cached features, or None where there are none for this key."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            features: FloatArray = stored["features"]
            return features
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _modality(name: str | None, field: str) -> Modality | None:
    if name is None:
        return None
    try:
        return Modality(name)
    except ValueError:
        raise InputError(f"{field}: {name!r} is unknown; use visible or infrared") from None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: object) -> object:
        if isinstance(value, Path):
            return str(value)
        return value.value if isinstance(value, Modality) else value

    return {name: plain(value) for name, value in values.items() if name != "hits"}


def _block(ranked: RankedList) -> str:
    how = ", judged by its colours" if ranked.inferred else ""
    who = "" if ranked.pid is None else f", identity {ranked.pid}"
    marks = {True: "yes", False: "no", None: "?"}
    lines = [
        f"{ranked.query}  ({ranked.modality.value}{how}{who})",
        f"{'rank':>4}  {'score':>6}  {'camera':<10} {'modality':<9} {'same':<4}  image",
    ]
    lines += [
        f"{hit.rank:>4}  {hit.score:>6.3f}  {hit.camera:<10} {hit.modality.value:<9} "
        f"{marks[hit.correct]:<4}  {hit.path}"
        for hit in ranked.hits
    ]
    return "\n".join(lines)


def _tiles(ranked: RankedList) -> list[Tile]:
    frames = {True: HIT, False: MISS, None: UNKNOWN}
    how = "by its colours" if ranked.inferred else ranked.camera
    query = Tile(ranked.query, QUERY, ("query", ranked.modality.value, how, *_who(ranked.pid)))
    hits = [
        Tile(
            hit.path,
            frames[hit.correct],
            (f"{hit.rank}.  {hit.score:.3f}", hit.modality.value, hit.camera, *_who(hit.pid)),
        )
        for hit in ranked.hits
    ]
    return [query, *hits]


def _who(pid: int | None) -> tuple[str, ...]:
    return () if pid is None else (f"identity {pid}",)


def _write(result: SearchResult, out: Path) -> None:
    write_json(out / "search.json", result.as_json())
    with atomic_write(out / "search.png") as file:
        result.contact_sheet().save(file, format="PNG")
