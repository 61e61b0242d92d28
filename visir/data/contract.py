"""What a data set module offers: one `DataSet` object.

A new data set is one file with a `DataSet` and one line in `visir.data.registry.DATASETS`. A
function `load(root)` or `load(root, split)` in a package outside visir is enough too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from visir.core.types import Benchmark, InputError

SHOWN = 20
"""As many problems or identities are listed one by one."""


class Facts(NamedTuple):
    """What a published data set holds; images are (visible, infrared).

    folders: number of images in each folder below the root.
    """

    folders: Mapping[str, int]
    train_images: tuple[int, int]
    test_images: tuple[int, int]
    train_ids: int
    test_ids: int


def _no_detail(_root: Path, _folder: str) -> str:
    return ""


def _no_problems(_root: Path, _benchmark: Benchmark) -> Iterator[str]:
    return iter(())


@dataclass(frozen=True)
class DataSet:
    """How one data set is read, recognised and checked.

    Attributes:
        load: `load(root)`, or `load(root, split)` if there is more than one split.
        marks: files or folders below the root; one of them marks the layout. Without marks the
            layout is never detected and has to be named.
        splits: number of fixed splits, counted from 1; None if only `load` knows.
        facts: what the published data set holds; None if there is nothing to compare with.
        recognises: replaces the test for `marks`: whether a folder has this layout.
        lacking: `lacking(root, folder)`, what a folder with too few images lacks, as the end of a
            sentence.
        problems: `problems(root, benchmark)`, further problems for `visir check`, a sentence each.
    """

    load: Callable[..., Benchmark]
    marks: tuple[str, ...] = ()
    splits: int | None = 1
    facts: Facts | None = None
    recognises: Callable[[Path], bool] | None = None
    lacking: Callable[[Path, str], str] = _no_detail
    problems: Callable[[Path, Benchmark], Iterator[str]] = _no_problems

    def open(self, root: Path, split: int = 1) -> Benchmark:
        """Read one split.

        Raises:
            InputError: there is no such split, or the folder cannot be read as this data set.
        """
        if self.splits != 1:
            return self.load(root, split)
        if split != 1:
            raise InputError(f"split {split}: {root} has one split only; leave the option out")
        return self.load(root)

    def fits(self, root: Path) -> bool:
        """Whether a folder looks like this data set."""
        if self.recognises is not None:
            return self.recognises(root)
        return any((root / mark).exists() for mark in self.marks)


def _checked(load: Callable[..., Benchmark], name: str) -> Callable[..., Benchmark]:
    """The function, with a clear error if it returns anything but a `Benchmark`."""

    @wraps(load)
    def checked(*arguments: Any) -> Benchmark:  # noqa: ANN401
        benchmark = load(*arguments)
        if not isinstance(benchmark, Benchmark):
            raise InputError(
                f"layout {name!r}: {load.__name__} returned {type(benchmark).__name__}; return a "
                "visir.core.types.Benchmark"
            )
        return benchmark

    return checked


def require_data_set(found: object, name: str) -> DataSet:
    """The data set of a name or address.

    Args:
        found: what was imported; a `DataSet`, or a function `load(root)` or `load(root, split)`.
        name: for messages.

    Raises:
        InputError: it is neither.
    """
    if isinstance(found, DataSet):
        return found
    if inspect.isfunction(found):
        parameters = list(inspect.signature(found).parameters)
        if parameters == ["root"]:
            return DataSet(_checked(found, name))
        if parameters == ["root", "split"]:
            return DataSet(_checked(found, name), splits=None)
    raise InputError(
        f"layout {name!r}: is neither a visir.data.contract.DataSet nor a function load(root) or "
        "load(root, split); see CONTRIBUTING.md, 'A new data set'"
    )


def shorten(words: Sequence[str]) -> str:
    """The first words, and how many more there are."""
    more = f" and {len(words) - SHOWN:,} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
