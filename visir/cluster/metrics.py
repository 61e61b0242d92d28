"""How well clustering works: measures of pseudo-labels, and warnings that name a likely cause."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import sparse

from visir.core.types import IntArray, Record

Failure = Literal["", "too large", "too small"]

# Limits of a plausible clustering of people; beyond them a warning names the likely cause.
_LARGEST = 0.5  # share of the images in one cluster: in no data set has one person more
_OUTLIERS = 0.8  # share of outliers: too few images are left to train on
_SPLIT = 0.2  # clusters per image: fewer than five images per cluster on average
_RATIO = 3.0  # clusters of one modality per cluster of the other
_AGREEMENT = 0.3  # adjusted Rand index with the last epoch


def true_identities(records: Sequence[Record]) -> IntArray | None:
    """(N,) identities numbered from 0, to measure labels by; None unless every image has one."""
    pids = [record.pid for record in records]
    return None if None in pids else np.unique(np.array(pids, np.int64), return_inverse=True)[1]


def purity(labels: IntArray, truth: IntArray) -> float:
    """Share of clustered rows that have the most frequent true identity of their cluster."""
    kept = labels >= 0
    if not kept.any():
        return 0.0
    return float(_table(labels, truth).max(axis=1).sum() / kept.sum())


def adjusted_rand_index(labels: IntArray, before: IntArray) -> float:
    """Adjusted Rand index (Hubert and Arabie, 1985) over the rows clustered both times.

    1 if both are equal except for cluster numbers, about 0 by chance; 0 without common rows.
    """
    both = (labels >= 0) & (before >= 0)
    if not both.any():
        return 0.0
    table = _table(labels[both], before[both])
    together = _pairs(table.data)
    rows, columns = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    by_chance = rows * columns / max(_pairs(both.sum()), 1)
    maximum = (rows + columns) / 2
    return 1.0 if maximum == by_chance else (together - by_chance) / (maximum - by_chance)


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
        partners: matched infrared cluster of each visible one, -1 for none; None before matching.
        truth: true identities of the same rows, used for these numbers only.
        before: the labels of the last epoch.
    """
    found: dict[str, float] = {}
    for name, values in labels.items():
        sizes = cluster_sizes(values)
        found[f"clusters_{name}"] = len(sizes)
        found[f"outliers_{name}"] = _share((values < 0).sum(), len(values))
        found[f"median_size_{name}"] = float(np.median(sizes)) if len(sizes) else 0.0
        found[f"largest_{name}"] = _share(sizes.max(initial=0), len(values))
        if before is not None:
            found[f"agreement_{name}"] = round(adjusted_rand_index(values, before[name]), 4)
        if truth is not None:
            found[f"purity_{name}"] = round(purity(values, truth[name]), 4)
            people = len(np.unique(truth[name]))
            found[f"clusters_per_identity_{name}"] = round(len(sizes) / max(people, 1), 3)
    found["cluster_ratio"] = _share(found["clusters_visible"], found["clusters_infrared"])
    if partners is not None:
        found |= _of_partners(labels, partners, truth)
    if truth is not None:
        found |= _of_joint_labels(joint_labels(labels, partners), truth, partners is not None)
    return found


def joint_labels(labels: Mapping[str, IntArray], partners: IntArray | None) -> dict[str, IntArray]:
    """Labels with the same numbers in both modalities: matched clusters have one number.

    Args:
        labels: "visible" and "infrared" pseudo-labels, -1 for outliers.
        partners: matched infrared cluster of each visible one, -1 for none; None before matching,
            when no cluster of one modality has the number of one of the other.

    Returns:
        The labels of the same rows, -1 for outliers; several visible clusters with one partner
        are one.
    """
    vis, ir = labels["visible"], labels["infrared"]
    clusters = int(vis.max(initial=-1)) + 1
    numbers = int(ir.max(initial=-1)) + 1 + np.arange(clusters + 1, dtype=np.int64)
    if partners is not None:
        numbers[:clusters] = np.where(partners >= 0, partners, numbers[:clusters])
    return {"visible": np.where(vis >= 0, numbers[vis], -1), "infrared": ir}


def _of_joint_labels(
    joint: Mapping[str, IntArray], truth: Mapping[str, IntArray], matched: bool
) -> dict[str, float]:
    """Joint labels against the truth: adjusted Rand indices, and image pairs across modalities.

    `ari` is over all images, each outlier a cluster of its own; `ari_clustered` leaves outliers
    out. A pair is a visible and an infrared image with one joint label; precision is the share of
    pairs that show one person, recall the share of all true pairs that are found.
    """
    labels, people = (np.concatenate([of["visible"], of["infrared"]]) for of in (joint, truth))
    alone = labels < 0
    own = np.where(alone, labels.max(initial=-1) + np.cumsum(alone), labels)
    found = {
        "ari": round(adjusted_rand_index(own, people), 4),
        "ari_clustered": round(adjusted_rand_index(labels, people), 4),
    }
    if not matched:
        return found
    shape = labels.max(initial=-1) + 1, people.max(initial=0) + 1
    vis, ir = (_table(joint[name], truth[name], shape) for name in ("visible", "infrared"))
    pairs = float(vis.sum(axis=1) @ ir.sum(axis=1))
    right = float(vis.multiply(ir).sum())
    counts = [np.bincount(truth[name], minlength=shape[1]) for name in ("visible", "infrared")]
    if pairs:
        found["image_pairs_precision"] = _share(right, pairs)
    if true := float(counts[0] @ counts[1]):
        found["image_pairs_recall"] = _share(right, true)
    return found


def _of_partners(
    labels: Mapping[str, IntArray], partners: IntArray, truth: Mapping[str, IntArray] | None
) -> dict[str, float]:
    """How many clusters are matched; how often a match, and "no match", is correct."""
    paired = np.flatnonzero(partners >= 0)
    taken = np.unique(partners[paired])
    found: dict[str, float] = {
        "pairs_matched": len(paired),
        "paired_visible": _share(len(paired), len(partners)),
        "paired_infrared": _share(len(taken), len(cluster_sizes(labels["infrared"]))),
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
    """(clusters,) the most frequent true identity of each."""
    return np.asarray(_table(labels, truth).argmax(axis=1), np.int64).ravel()


def _share(part: float, whole: float) -> float:
    return round(float(part) / max(float(whole), 1), 4)


def cluster_sizes(labels: IntArray) -> IntArray:
    """Images of each cluster that is not empty."""
    return np.unique(labels[labels >= 0], return_counts=True)[1].astype(np.int64)


def _table(
    labels: IntArray, truth: IntArray, shape: tuple[int, int] | None = None
) -> sparse.csr_array:
    """Rows of each cluster by true identity: (clusters, identities) counts.

    `shape` is larger than the labels need if several tables are compared.
    """
    kept = labels >= 0
    shape = shape or (labels.max(initial=-1) + 1, truth.max(initial=0) + 1)
    return sparse.csr_array(
        (np.ones(kept.sum(), np.int64), (labels[kept], truth[kept])), shape=shape
    )


def diagnose(
    labels: Mapping[str, IntArray], before: Mapping[str, IntArray] | None = None
) -> list[str]:
    """Problems of an epoch's pseudo-labels with their likely cause; one line each.

    Args:
        labels: pseudo-labels of each modality by its name, -1 for outliers.
        before: the labels of the last epoch.
    """
    said = []
    for name, of in labels.items():
        fault = _fault(of)
        former = None if before is None else before[name]
        if not fault and former is not None and adjusted_rand_index(of, former) < _AGREEMENT:
            fault = (
                "the clusters have little in common with the last epoch's; lower lr, or raise "
                "momentum"
            )
        said += [f"{name}: {fault}"] if fault else []
    few, many = sorted((len(cluster_sizes(of)), name) for name, of in labels.items())
    if many[0] > _RATIO * max(few[0], 1):
        said.append(
            f"{many[0]} clusters of {many[1]} images against {few[0]} of {few[1]} ones: the "
            "modalities are clustered differently; check their cameras, or k1 and eps"
        )
    return said


def without_numbers(warning: str) -> str:
    """A warning with its numbers masked, as they change from epoch to epoch."""
    return re.sub(r"\d[\d.]*", "#", warning)


def _fault(labels: IntArray) -> str | None:
    """What is wrong with the labels of one modality, and how to fix it."""
    sizes, failed = cluster_sizes(labels), failure(labels)
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


def failure(labels: IntArray) -> Failure:
    """Whether the clustering radius was "too large" (one heap) or "too small" (outliers), or ""."""
    sizes = cluster_sizes(labels)
    if (labels < 0).sum() > _OUTLIERS * len(labels) or not len(sizes):
        return "too small"
    return "too large" if len(sizes) == 1 or sizes.max() > _LARGEST * len(labels) else ""
