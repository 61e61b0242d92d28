"""What people look at to see whether clustering goes well."""

from __future__ import annotations

import numpy as np

from visir.types import IntArray


def purity(labels: IntArray, truth: IntArray) -> float:
    """Share of clustered rows that belong to their cluster's commonest true identity."""
    kept = labels >= 0
    if not kept.any():
        return 0.0
    return float(_table(labels, truth).max(axis=1).sum() / kept.sum())


def describe(
    labels: dict[str, IntArray], partners: IntArray | None, truth: dict[str, IntArray] | None
) -> dict[str, float]:
    """Numbers of one clustering, for progress, metrics and report.

    Args:
        labels: "visible" and "infrared" pseudo-labels, -1 for outliers.
        partners: infrared cluster of each visible one, -1 for none; None where not associated.
        truth: true identities of the same rows; they serve nothing but this display.
    """
    found: dict[str, float] = {}
    for name, values in labels.items():
        found[f"clusters_{name}"] = int(values.max(initial=-1)) + 1
        found[f"outliers_{name}"] = round(float((values < 0).mean()), 4)
        if truth is not None:
            found[f"purity_{name}"] = round(purity(values, truth[name]), 4)
    if partners is not None:
        paired = np.flatnonzero(partners >= 0)
        found["pairs_matched"] = len(paired)
        if truth is not None and len(paired):
            vis, ir = (
                _table(labels[name], truth[name]).argmax(axis=1) for name in ("visible", "infrared")
            )
            found["pairs_correct"] = round(float((vis[paired] == ir[partners[paired]]).mean()), 4)
    return found


def _table(labels: IntArray, truth: IntArray) -> IntArray:
    """How many rows of each cluster show each true identity: (clusters, identities)."""
    kept = labels >= 0
    table = np.zeros((labels.max(initial=-1) + 1, truth.max(initial=-1) + 1), np.int64)
    np.add.at(table, (labels[kept], truth[kept]), 1)
    return table
