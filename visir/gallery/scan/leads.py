"""Leads: few numbers of a vector that bound its products with every query.

The directions that hold most of the vectors' length are few. A vector's **lead** is its coordinates
along them; what the lead leaves out of it has a length too. A query's product with a vector is at
most the product of their leads plus the product of what the leads leave out (Cauchy and Schwarz).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from visir.core.types import FloatArray


def leading(vectors_ND: FloatArray, basis_DL: FloatArray) -> dict[str, npt.NDArray[Any]]:
    """Leads, (N, L) `lead`, and the length of what they leave out, rounded up, (N,) `left`."""
    lead_NL = vectors_ND @ basis_DL
    left_N = np.linalg.norm(vectors_ND - lead_NL @ basis_DL.T, axis=1)
    return {"lead": lead_NL.astype(np.float16), "left": np.nextafter(left_N, np.float32(2))}


def directions(sample_MD: FloatArray) -> FloatArray:
    """(D, L) orthonormal directions that hold 98 % of the sample's squared length, up to half.

    They are sorted: the first hold most.
    """
    energy, found = np.linalg.eigh(sample_MD.T @ sample_MD)
    share = energy[::-1].cumsum() / energy.sum()
    wanted = 32 * -(-(int(np.searchsorted(share, 0.98)) + 1) // 32)
    width = sample_MD.shape[1]
    return np.ascontiguousarray(found[:, ::-1][:, : min(wanted, max(width // 2, 1))])
