"""What people look at to see whether clustering goes well, and what is done where it does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import sparse

from visir.core.types import InputError, IntArray

Adapt = Literal["nothing", "eps", "momentum"]

# Limits of what a clustering of people looks like; beyond them a warning names the likely cause.
_LARGEST = 0.5  # share of the images in one cluster: no data set shows one person that often
_OUTLIERS = 0.8  # share of outliers: too little is left to learn from
_SPLIT = 0.2  # clusters an image: five images a cluster on average, with eps far too small
_RATIO = 3.0  # clusters of one modality for each of the other: both see much the same people
_AGREEMENT = 0.3  # adjusted Rand index with the last epoch: labels that do not settle
_TRIES = 6  # other radii looked at: 1.25^6 reaches from a radius to a quarter or to four times it
_STEP = 1.25  # from a radius to the next, until two radii enclose the good ones
_WIDEST = 0.99  # images at distance 1 share no neighbour
_STEADY = 0.99  # momentum that keeps prototypes where they are (SDCL's remedy for a first epoch)


def purity(labels: IntArray, truth: IntArray) -> float:
    """Share of clustered rows that belong to their cluster's commonest true identity."""
    kept = labels >= 0
    if not kept.any():
        return 0.0
    return float(_table(labels, truth).max(axis=1).sum() / kept.sum())


def agreement(labels: IntArray, before: IntArray) -> float:
    """Adjusted Rand index (Hubert and Arabie, 1985) over the rows clustered both times.

    1 where both are the same up to names, about 0 for chance; 0 where nothing was clustered twice.
    """
    both = (labels >= 0) & (before >= 0)
    if not both.any():
        return 0.0
    table = _table(labels[both], before[both])
    together = _pairs(table.data)
    rows, columns = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    by_chance = rows * columns / max(_pairs(both.sum()), 1)
    most = (rows + columns) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())


def describe(
    labels: Mapping[str, IntArray],
    partners: IntArray | None,
    truth: Mapping[str, IntArray] | None,
    before: Mapping[str, IntArray] | None = None,
) -> dict[str, float]:
    """Numbers of one clustering, for progress, metrics and report.

    Args:
        labels: "visible" and "infrared" pseudo-labels, -1 for outliers.
        partners: infrared cluster of each visible one, -1 for none; None where not associated.
        truth: true identities of the same rows; they serve nothing but this display.
        before: the labels of the last epoch.
    """
    found: dict[str, float] = {}
    for name, values in labels.items():
        sizes = _sizes(values)
        found[f"clusters_{name}"] = len(sizes)
        found[f"outliers_{name}"] = _share((values < 0).sum(), len(values))
        found[f"median_size_{name}"] = float(np.median(sizes)) if len(sizes) else 0.0
        found[f"largest_{name}"] = _share(sizes.max(initial=0), len(values))
        if before is not None:
            found[f"agreement_{name}"] = round(agreement(values, before[name]), 4)
        if truth is not None:
            found[f"purity_{name}"] = round(purity(values, truth[name]), 4)
            people = len(np.unique(truth[name]))
            found[f"clusters_per_identity_{name}"] = round(len(sizes) / max(people, 1), 3)
    found["cluster_ratio"] = _share(found["clusters_visible"], found["clusters_infrared"])
    if partners is not None:
        found |= _of_partners(labels, partners, truth)
    return found


def _of_partners(
    labels: Mapping[str, IntArray], partners: IntArray, truth: Mapping[str, IntArray] | None
) -> dict[str, float]:
    """How many clusters have a partner; how often that, and "none", is right."""
    paired = np.flatnonzero(partners >= 0)
    taken = np.unique(partners[paired])
    found: dict[str, float] = {
        "pairs_matched": len(paired),
        "paired_visible": _share(len(paired), len(partners)),
        "paired_infrared": _share(len(taken), len(_sizes(labels["infrared"]))),
    }
    if truth is None:
        return found
    vis, ir = (majority(labels[name], truth[name]) for name in ("visible", "infrared"))
    if len(paired):
        found["pairs_correct"] = round(float((vis[paired] == ir[partners[paired]]).mean()), 4)
    alone = ~np.isin(vis, truth["infrared"])
    none = partners < 0
    if none.any():
        found["none_precision"] = _share((alone & none).sum(), none.sum())
    if alone.any():
        found["none_recall"] = _share((alone & none).sum(), alone.sum())
    return found


def majority(labels: IntArray, truth: IntArray) -> IntArray:
    """(clusters,) the commonest true identity of each."""
    return np.asarray(_table(labels, truth).argmax(axis=1), np.int64).ravel()


def _share(part: float, whole: float) -> float:
    return round(float(part) / max(float(whole), 1), 4)


def _sizes(labels: IntArray) -> IntArray:
    """Images of each cluster that has any."""
    return np.unique(labels[labels >= 0], return_counts=True)[1].astype(np.int64)


def _table(labels: IntArray, truth: IntArray) -> sparse.csr_array:
    """How many rows of each cluster show each true identity: (clusters, identities)."""
    kept = labels >= 0
    shape = labels.max(initial=-1) + 1, truth.max(initial=0) + 1
    return sparse.csr_array(
        (np.ones(kept.sum(), np.int64), (labels[kept], truth[kept])), shape=shape
    )


def diagnose(
    labels: Mapping[str, IntArray], before: Mapping[str, IntArray] | None = None
) -> list[str]:
    """What looks wrong with the pseudo-labels of an epoch, with the likely cause; a line each.

    Args:
        labels: pseudo-labels of each modality by its name, -1 for outliers.
        before: the labels of the last epoch.
    """
    said = []
    for name, of in labels.items():
        fault = _fault(of)
        if fault is None and before is not None and agreement(of, before[name]) < _AGREEMENT:
            fault = (
                "the clusters have little in common with the last epoch's; lower lr, or raise "
                "momentum"
            )
        said += [f"{name}: {fault}"] if fault else []
    few, many = sorted((len(_sizes(of)), name) for name, of in labels.items())
    if many[0] > _RATIO * max(few[0], 1):
        said.append(
            f"{many[0]} clusters of {many[1]} images against {few[0]} of {few[1]} ones: the "
            "modalities are clustered unlike; look at their cameras, or at k1 and eps"
        )
    return said


def kind(warning: str) -> str:
    """A warning without its numbers, which change from epoch to epoch."""
    return re.sub(r"\d[\d.]*", "#", warning)


def _fault(labels: IntArray) -> str | None:
    """What is wrong with the labels of one modality, and what mends it."""
    sizes, failed = _sizes(labels), _failed(labels)
    if not len(labels):
        return "there are no images; add some"
    if failed == "too large":
        return (
            f"{len(sizes)} cluster(s), the largest with {sizes.max() / len(labels):.0%} of the "
            "images: the features do not tell people apart at this radius; lower eps, raise "
            "momentum, or start from a pre-trained network (--start)"
        )
    if failed == "too small":
        return (
            f"{(labels < 0).mean():.0%} of the images are outliers: raise eps, lower min_samples, "
            "or start from a pre-trained network (--start)"
        )
    if len(sizes) > _SPLIT * len(labels):
        return (
            f"{len(sizes)} clusters of {len(labels)} images: people are split into many; raise eps"
        )
    return None


def _failed(labels: IntArray) -> str:
    """What the radius of such labels must have been: "too large", "too small" or neither."""
    sizes = _sizes(labels)
    if (labels < 0).sum() > _OUTLIERS * len(labels) or not len(sizes):
        return "too small"
    return "too large" if len(sizes) == 1 or sizes.max() > _LARGEST * len(labels) else ""


def guarded(
    cluster: Callable[[float], IntArray], eps: float, adapt: bool
) -> tuple[IntArray, float, list[str]]:
    """Pseudo-labels at a radius, or, if asked to adapt and this one fails, at one near it.

    A radius is too large where the images fall into one heap, too small where nearly all are
    outliers. Others are tried step by step, and by halves between one of each kind. Where none
    does, the first that gave at least two clusters is taken.

    Args:
        cluster: labels at a radius, -1 for outliers.
        eps: the radius.
        adapt: try others.

    Returns:
        The labels, the radius they were found at, and a line if it is another one.

    Raises:
        InputError: there are fewer than two clusters at the radius, or at any of those tried.
    """
    small, large, radius = 0.0, np.inf, eps
    tried: dict[float, IntArray] = {}
    for _ in range(1 + _TRIES * adapt):
        tried[radius] = cluster(radius)
        failed = _failed(tried[radius])
        if failed == "too large":
            large = radius
        elif failed == "too small":
            small = radius
        radius = _between(small, large)
        if not failed or radius in tried:
            break
    usable = [radius for radius, labels in tried.items() if len(_sizes(labels)) >= 2]
    if not usable:
        raise _unusable(tried)
    radius = min(usable, key=lambda of: bool(_failed(tried[of])))
    said = [] if radius == eps else [f"clustering failed at eps {eps:g}; {radius:.3g} was taken"]
    return tried[radius], radius, said


def _between(small: float, large: float) -> float:
    """The next radius to try; 0 and infinity stand for a limit not known."""
    if large == np.inf:
        return min(small * _STEP, _WIDEST)
    return (small * large) ** 0.5 or large / _STEP


def _unusable(tried: Mapping[float, IntArray]) -> InputError:
    labels = next(iter(tried.values()))
    radii = f"{min(tried):.3g}" if len(tried) == 1 else f"{min(tried):.3g} to {max(tried):.3g}"
    return InputError(
        f"clustering gave {len(_sizes(labels))} cluster(s) at eps {radii} on {len(labels)} images; "
        "set another eps or min_samples, add images, or start from a pre-trained network (--start)"
    )


def steadied(momentum: float, labels: Sequence[IntArray]) -> tuple[float, list[str]]:
    """The memories' momentum for an epoch, raised where a clustering has collapsed into one heap.

    A heap's prototype would draw all images to itself; one that hardly moves does not (SDCL's
    published remedy for a first epoch that diverges).

    Returns:
        The momentum, and a line if it was raised.
    """
    if momentum >= _STEADY or "too large" not in map(_failed, labels):
        return momentum, []
    return _STEADY, [f"a clustering has collapsed; momentum {_STEADY} was taken this epoch"]
