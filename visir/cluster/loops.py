"""Loops as machine code, in threads; the exact cosine."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch

from visir.core.types import FloatArray

Int32Array = npt.NDArray[np.int32]
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])


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
