"""Loops as machine code, in threads; the exact cosine, and the features it is refused for."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visir.core.types import FloatArray, InputError

Int32Array = npt.NDArray[np.int32]
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

_UNIT_TOLERANCE = 1e-2  # half-precision features are this far from length 1 at most


def check_features(features_ND: Tensor, parts: bool = False) -> None:
    """Refuse features that no cosine can be computed from.

    Args:
        features_ND: (N, D).
        parts: rows are parts of such features, and shorter than 1.

    Raises:
        InputError: there is no (N, D) matrix, or a row is not finite or not of length 1.
    """
    if features_ND.ndim != 2:
        shape = tuple(features_ND.shape)
        raise InputError(f"features have shape {shape}; give one row of numbers an image")
    lengths = torch.linalg.vector_norm(features_ND.detach(), dim=1, dtype=torch.float32)
    shortest = 0.0 if parts else 1 - _UNIT_TOLERANCE
    wrong = (~((lengths >= shortest) & (lengths <= 1 + _UNIT_TOLERANCE))).nonzero()  # NaN too
    if len(wrong):
        row = int(wrong[0])
        finite = bool(features_ND[row].isfinite().all())
        fault = (
            f"length {float(lengths[row]):.3g}, not 1" if finite else "a number that is not finite"
        )
        fix = "L2-normalise the features" if finite else "check whether the network has diverged"
        raise InputError(f"feature row {row} has {fault}; {fix}")


def in_chunks(work: Callable[[int, int], Result], count: int, min_step: int = 64) -> list[Result]:
    """Results of `work(start, stop)` over consecutive parts of a range, computed in threads."""
    threads = torch.get_num_threads()
    step = min(max(min_step, math.ceil(count / (4 * threads))), 2**14)
    starts = range(0, count, step)
    if threads == 1 or len(starts) < 2:
        return [work(start, min(start + step, count)) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda start: work(start, min(start + step, count)), starts))


def compiled(function: Function) -> Function:
    """The same function as machine code that other threads can run beside."""
    return cast("Function", numba.njit(nogil=True, cache=True)(function))


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def cosine(left_D: FloatArray, right_D: FloatArray) -> np.float32:
    """Dot product, summed in float64 so that the order of summation does not show."""
    total = 0.0
    for d in range(len(left_D)):
        total += np.float64(left_D[d]) * np.float64(right_D[d])
    return np.float32(total)
