"""`visir check`: what a data set's folder holds, what is missing, and which files are broken."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from visir.core.types import Benchmark, ByteArray, InputError, Modality, Record
from visir.core.untrusted import parse_json
from visir.data.contract import SHOWN, DataSet, Facts
from visir.data.locate import placed
from visir.data.pictures import TINY, Look, look_at_all
from visir.data.pixels import RangeWarning
from visir.data.ranges import RANGES, benchmark_with_spans
from visir.data.registry import DATASETS, SYNTHETIC, layout_of, resolve
from visir.data.remarks import as_lines, find_remarks, write_remarks
from visir.data.tree import image_tree


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The layout, the summary to print, and one sentence for each problem.

    remarks: files that are worth a look, by the keys of `visir.data.remarks.KINDS`; their paths
    are below the data set's folder if they lie in it. They are no problems.
    """

    layout: str
    text: str
    problems: list[str]
    remarks: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Of the command: 1 if there are problems."""
        return 1 if self.problems else 0

    def __str__(self) -> str:
        return self.text

    def write_lists(self, folder: Path) -> None:
        """Write the remarks into a folder: a file for each kind, with one path a line.

        Lists of former calls are removed.

        Raises:
            InputError: the folder cannot be written.
        """
        write_remarks(folder, self.remarks)


def check(
    root: Path,
    layout: str | None = None,
    progress: bool = True,
    person: Callable[[ByteArray], bool] | None = None,
) -> CheckReport:
    """Count, compare with the published numbers, and decode every image.

    Every split is opened. The public data sets are compared with their published counts, a data set
    made by `visir synth` with the counts it wrote down; for others there is nothing to compare.
    Decoded are the images of all records and all others in the data set's folders.

    Args:
        root: the data set's folder.
        layout: a name of `DATASETS` or an address; detected if None.
        progress: show a progress bar on stderr.
        person: says of an image, (H, W, 3) uint8 RGB, whether it shows a person; called in threads.

    Raises:
        InputError: there is no such folder, or its layout is not known. Anything wrong inside
            is a problem in the report, not an error.
    """
    root = resolve(root)
    layout = layout_of(root, layout)
    data_set = DATASETS.find(layout)
    benchmarks, problems = _open(root, data_set)
    images = _images(root, data_set, benchmarks)
    problems += _count_problems(root, data_set, benchmarks, images)
    paths = [path for paths in images.values() for path in paths]
    if not paths and not problems:
        problems.append(f"{root}: no image in it or below; name the folder that holds the images")
    looks = _looks(root, paths, benchmarks, progress, person)
    problems += _file_problems(root, paths, looks)
    remarks = find_remarks(root, [_short_name(root, path) for path in paths], looks)
    lines = [f"{root}", f"layout {layout}" + (", synthetic" if _marker(root) else ""), ""]
    lines += [f"{name}: {len(paths):,} images" for name, paths in images.items()]
    lines += _table(benchmarks[0]) if benchmarks else []
    lines += _ranges(benchmarks[0]) if benchmarks else []
    lines += as_lines(remarks)
    lines += ["", *_verdict(problems, remarks)]
    return CheckReport(layout, "\n".join(lines), problems, remarks)


def missing_in_training(benchmark: Benchmark, layout: str | None = None) -> list[str]:
    """What an opened data set lacks for training, a sentence each; reads no file again.

    The training images and identities of a public data set are compared with the published numbers;
    of a data set made by `visir synth` the images of its folders are counted.

    Args:
        benchmark: what is about to be trained on.
        layout: as for `check`.
    """
    if _marker(benchmark.root):
        return list(_marker_problems(benchmark.root))
    facts = DATASETS.find(layout_of(benchmark.root, layout)).facts
    return [] if facts is None else list(_compare_part(benchmark, facts, "training"))


def _open(root: Path, data_set: DataSet) -> tuple[list[Benchmark], list[str]]:
    benchmarks, problems = [], []
    for split in range(1, (data_set.splits or 1) + 1):
        try:
            benchmarks.append(benchmark_with_spans(data_set.open(root, split)))
        except InputError as error:
            problems.append(str(error))
    return benchmarks, problems


def _images(
    root: Path, data_set: DataSet, benchmarks: Sequence[Benchmark]
) -> dict[str, list[Path]]:
    """Images to decode by folder: those in the data set's folders, and those of all records."""
    if data_set.facts is not None:
        found = {name: _below(root / name) for name in data_set.facts.folders}
    else:
        found = {}
        for path in image_tree(root):
            found.setdefault(_folder_of(root, path), []).append(path)
    known = {path for paths in found.values() for path in paths}
    records = {record.path for one in benchmarks for record in (*one.train, *one.test)}
    for path in sorted(records - known):
        found.setdefault(_folder_of(root, path), []).append(path)
    return found


def _below(folder: Path) -> list[Path]:
    """The images of a folder, none if it is missing."""
    return image_tree(folder) if folder.is_dir() else []


def _folder_of(root: Path, path: Path) -> str:
    """The folder below the root that holds an image; the image's own folder outside the root."""
    if not path.is_relative_to(root):
        return str(path.parent)
    inside = path.relative_to(root).parts
    return inside[0] if len(inside) > 1 else root.name


def _marker(root: Path) -> dict[str, object]:
    try:
        value = parse_json((root / SYNTHETIC).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _count_problems(
    root: Path,
    data_set: DataSet,
    benchmarks: Sequence[Benchmark],
    images: Mapping[str, list[Path]],
) -> Iterator[str]:
    facts = data_set.facts
    if _marker(root):
        yield from _marker_problems(root)
    elif facts is not None:
        for name, expected in facts.folders.items():
            yield from _compare(name, len(images[name]), expected, data_set.lacking(root, name))
        for benchmark in benchmarks:
            yield from _compare_part(benchmark, facts, "training")
            yield from _compare_part(benchmark, facts, "test")
    for benchmark in benchmarks:
        if not benchmark.train:
            yield f"{_where(benchmark)}no training images"
    if benchmarks:
        yield from data_set.problems(root, benchmarks[0])


def _marker_problems(root: Path) -> Iterator[str]:
    """Compare the images of each folder with the counts that `visir synth` wrote down."""
    counts = _marker(root).get("counts")
    if isinstance(counts, dict):
        for name, expected in counts.items():
            yield from _compare(name, len(_below(root / name)), expected)


def _compare(what: str, found: int, expected: int, detail: str = "") -> Iterator[str]:
    if found < expected:
        yield f"{what}: {found:,} of {expected:,}, {expected - found:,} missing{detail}"
    elif found > expected:
        yield f"{what}: {found:,}, {found - expected:,} more than the expected {expected:,}"


def _compare_part(
    benchmark: Benchmark, facts: Facts, part: Literal["training", "test"]
) -> Iterator[str]:
    if part == "training":
        records, images, identities = benchmark.train, facts.train_images, facts.train_ids
    else:
        records, images, identities = benchmark.test, facts.test_images, facts.test_ids
    where = f"{_where(benchmark)}{part}"
    for modality, expected in zip(Modality, images, strict=True):
        found = sum(record.modality is modality for record in records)
        yield from _compare(f"{where} {modality.value} images", found, expected)
    yield from _compare(f"{where} identities", len(_pids(records)), identities)


def _looks(
    root: Path,
    paths: Sequence[Path],
    benchmarks: Sequence[Benchmark],
    progress: bool,
    person: Callable[[ByteArray], bool] | None,
) -> list[Look]:
    """Decode and look at every image, as its camera's images are read."""
    known = {
        record.path: (record.modality, record.span)
        for one in benchmarks
        for part in (one.train, one.test)
        for record in part
    }

    images = [(path, *known.get(path, (_by_folder(root, path), None))) for path in paths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RangeWarning)  # images that no record names
        return look_at_all(images, progress, person)


def _by_folder(root: Path, path: Path) -> Modality | None:
    return placed(path.relative_to(root).parent.parts)[0] if path.is_relative_to(root) else None


def _ranges(benchmark: Benchmark) -> list[str]:
    if not benchmark.ranges:
        return []
    told = json.dumps({name: [*map(round, span)] for name, span in benchmark.ranges.items()})
    return ["", f"black and white of images of more than 8 bits, as for {RANGES}: {told}"]


def _file_problems(root: Path, paths: Sequence[Path], found: Sequence[Look]) -> Iterator[str]:
    yield from _capped([one.problem for one in found if one.problem], "unreadable images")
    readable = [
        (_short_name(root, path), one)
        for path, one in zip(paths, found, strict=True)
        if not one.problem
    ]
    same: dict[str, list[str]] = {}
    for name, one in readable:
        same.setdefault(one.digest, []).append(name)
    copies = [f"{' and '.join(group)}: the same file" for group in same.values() if len(group) > 1]
    yield from _capped(copies, "duplicated images")
    tiny = [
        f"{name}: only {one.width} x {one.height} pixels (width x height)"
        for name, one in readable
        if min(one.width, one.height) < TINY
    ]
    yield from _capped(tiny, "tiny images")


def _short_name(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _capped(problems: list[str], kind: str) -> list[str]:
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], f"{len(problems) - SHOWN:,} more {kind}"]


def _table(benchmark: Benchmark) -> list[str]:
    """Images and identities per camera and modality, in training and in test."""
    lines = ["", f"{'camera':<16}{'modality':<10}{'train':>9}{'ids':>7}{'test':>9}{'ids':>7}"]
    kinds = {(r.cam, r.modality) for r in (*benchmark.train, *benchmark.test)}
    for cam, modality in sorted(kinds, key=lambda kind: (kind[0], kind[1].value)):
        lines.append(
            f"{benchmark.cameras[cam]:<16}{modality.value:<10}"
            + "".join(
                _cell([r for r in part if (r.cam, r.modality) == (cam, modality)])
                for part in (benchmark.train, benchmark.test)
            )
        )
    lines.append(f"{'all':<26}{_cell(benchmark.train)}{_cell(benchmark.test)}")
    lines += ["", "protocols: " + (", ".join(benchmark.protocols) or "none (no labelled test)")]
    return lines


def _cell(records: Sequence[Record]) -> str:
    return f"{len(records):>9,}{len(_pids(records)) or '-':>7}"


def _pids(records: Sequence[Record]) -> set[int]:
    return {record.pid for record in records if record.pid is not None}


def _where(benchmark: Benchmark) -> str:
    return f"split {benchmark.split}: " if benchmark.split else ""


def _verdict(problems: Sequence[str], remarks: Mapping[str, list[str]]) -> list[str]:
    if not problems and remarks:
        return ["Nothing is missing or broken; look at the files named above."]
    if not problems:
        return ["No problems found."]
    count = f"{len(problems)} problems:" if len(problems) > 1 else "1 problem:"
    return [count, *(f"{number}. {text}" for number, text in enumerate(problems, start=1))]
