"""Verbs that make, check and prepare data sets, and the demo of all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from visir.commands.terminal import on_terminal


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Show everything on synthetic people: data, training, scores, a search, a report.

    Args:
        out: folder to write; the report is report.html in it.
        seed: of the people and of the training.
    """
    from visir.commands.demo import demo as run_demo

    run_demo(out, seed, say=print)


def synth(
    out: Path,
    /,
    *,
    layout: Literal["sysu", "regdb", "llcm"] = "sysu",
    twin: Literal["sysu", "regdb"] | None = None,
    ids: int = 24,
    images: int = 4,
    train_ids: int | None = None,
    size: str | None = None,
    unpaired: float = 0.0,
    seed: int = 0,
    workers: int = 0,
    device: str = "cpu",
) -> None:
    """Make a data set of synthetic people, in the folder layout of a public data set.

    Args:
        out: folder to write; a run that was stopped goes on with what is missing.
        layout: the public data set whose folders and sensors are taken over.
        twin: make that data set's exact identities and image counts; overrules --ids, --images.
        ids: number of identities, training and test together.
        images: number of images of each identity in each camera that sees it.
        train_ids: number of identities for training; half of them where not given.
        size: height x width of the images, in pixels; 288x144 where not given, regdb 128x64.
        unpaired: share (0 to 1) of training identities seen in one modality only.
        seed: of everything that is drawn; the same seed gives the same images.
        workers: number of processes; 0 takes one for each core.
        device: where images are rendered: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.synth.write import synthesise

    synthesise(
        out,
        layout=layout,
        twin=twin,
        ids=ids,
        images=images,
        train_ids=train_ids,
        size=size,
        unpaired=unpaired,
        seed=seed,
        workers=workers,
        device=device,
        progress=on_terminal(),
    )


def check(data: Path, /, *, layout: str | None = None) -> int:
    """Say what a data set's folder holds, what is missing and what is broken.

    Exits with 1 where there is something to mend.

    Args:
        data: the data set's folder.
        layout: sysu, regdb, llcm or folder; found out where not given.
    """
    from visir.data.check import check as inspect_data

    report = inspect_data(data, layout, progress=on_terminal())
    print(report.text)
    return 1 if report.problems else 0


def prepare(layout: Literal["sysu", "regdb"], raw: Path, out: Path, /) -> None:
    """Copy a raw data set into a Market-1501 style tree, for other people's code.

    visir itself reads the raw folders. A copy that was stopped goes on where it was.

    Args:
        layout: which data set it is.
        raw: the raw data set's folder.
        out: folder to write.
    """
    from visir.data.prepare import prepare as copy

    copy(layout, raw, out, progress=on_terminal())
    print(f"{out}: written")
