"""Codes of leads, for galleries whose whole vectors do not fit in memory.

A code is a lead in 8 bits a number, with a scale of its own. It bounds products as a lead does: of
each row also the length of what the rounding leaves out is known. The vectors themselves stay in
the database, and only those of the rows whose bounds reach the k-th best product are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from visir.core.types import FloatArray, IntArray
from visir.gallery.scan.kernels import coded_bounds

CODED = {"code": np.int8, "scale": np.float32, "off": np.float32, "left": np.float32}
WIDEST = 256
"""Numbers in a code, at most: so ten million rows need 2.6 GB or less."""
Source = Callable[[IntArray], FloatArray]
"""(M,) ids: their (M, D) vectors, in single precision."""
_FIRST = 32  # vectors that are read before the first look at the bounds, besides 2 k
_SUMMING = 1e-5  # errors of sums in single precision


def coded(vectors_ND: FloatArray, basis_DL: FloatArray) -> dict[str, npt.NDArray[Any]]:
    """Codes of unit rows: the arrays of `CODED`.

    Args:
        vectors_ND: (N, D) rows.
        basis_DL: (D, L) directions of the leads.

    Returns:
        `code` (N, L), its `scale` (N,), and rounded up the lengths of what the rounding (`off`) and
        the lead (`left`) leave out, (N,) each.
    """
    lead_NL = vectors_ND @ basis_DL
    left_N = np.linalg.norm(vectors_ND - lead_NL @ basis_DL.T, axis=1)
    scale_N = np.maximum(np.abs(lead_NL).max(axis=1), np.float32(1e-9)) / np.float32(127)
    code_NL = np.rint(lead_NL / scale_N[:, None]).astype(np.int8)
    off_N = np.linalg.norm(lead_NL - code_NL * scale_N[:, None], axis=1)
    above = np.float32(2)
    return {"code": code_NL, "scale": scale_N, "off": np.nextafter(off_N, above),
            "left": np.nextafter(left_N, above)}  # fmt: skip


def nearest_rows(
    arrays: dict[str, npt.NDArray[Any]],
    rows_M: IntArray,
    query_D: FloatArray,
    basis_DL: FloatArray,
    k: int,
    source: Source,
) -> tuple[IntArray, FloatArray]:
    """The rows that can be among the k best, k or more, with their products.

    Args:
        arrays: `ids` and those of `CODED`; the given rows are loaded.
        rows_M: (M,) rows to look at.
        query_D: (D,) query.
        basis_DL: (D, L) directions of the leads.
        k: how many.
        source: reads vectors.
    """
    low_L = query_D @ basis_DL
    share = float(np.linalg.norm(query_D - basis_DL @ low_L))
    most_M = coded_bounds(arrays, rows_M, low_L, float(np.linalg.norm(low_L)), share) + _SUMMING
    count, found = min(len(rows_M), 2 * k + _FIRST), np.empty(0, np.float32)
    order = np.empty(0, np.int64)
    while True:
        order = _highest(most_M, count)
        new = arrays["ids"][rows_M[order[len(found) :]]]
        found = np.concatenate([found, source(new) @ query_D])
        if count == len(rows_M):
            break
        kth = np.partition(found, -k)[-k]
        wanted = int(np.count_nonzero(most_M >= kth))
        if wanted <= count:
            break
        count = min(wanted, 4 * count)
    return rows_M[order], found


def _highest(most_M: FloatArray, count: int) -> IntArray:
    """Places of the `count` highest values, highest first, ties by place."""
    if count == len(most_M):
        return np.argsort(-most_M, kind="stable")
    least = np.partition(most_M, -count)[-count]
    places = np.flatnonzero(most_M >= least)
    return places[np.argsort(-most_M[places], kind="stable")][:count]
