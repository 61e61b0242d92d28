"""Products of a query with rows of half precision, and checksums of rows, at memory's speed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from visir.core.types import FloatArray, IntArray

HalfArray = npt.NDArray[np.float16]
_PART = 8192  # rows a thread takes at a time
_PRIME, _LEFT, _RIGHT = np.uint64(0x9E3779B185EBCA87), np.uint64(29), np.uint64(35)


def bounds(
    matrix_ND: HalfArray, rows_M: IntArray, query_D: FloatArray, left_N: FloatArray, share: float
) -> FloatArray:
    """(M,) products of chosen rows with a query, plus `share` times what is left of each row.

    Args:
        matrix_ND: (N, D) rows.
        rows_M: (M,) which.
        query_D: (D,).
        left_N: (N,) lengths of what the rows' numbers leave out.
        share: length of what the query's numbers leave out.
    """
    out = np.empty(len(rows_M), np.float32)
    bits = matrix_ND.view(np.uint16)
    query_D = np.ascontiguousarray(query_D, np.float32)

    def part(start: int) -> None:
        _bounds(bits, rows_M[start : start + _PART], query_D, left_N, np.float32(share),
                out[start : start + _PART])  # fmt: skip

    _each_part(part, len(rows_M))
    return out


def coded_bounds(
    arrays: Mapping[str, npt.NDArray[Any]], rows_M: IntArray, query_L: FloatArray, length: float,
    share: float,
) -> FloatArray:  # fmt: skip
    """(M,) products of chosen codes with a query's lead, plus what they leave out at most.

    Args:
        arrays: `code` (N, L) of 8 bits, and (N,) `scale`, `off` and `left` of the codes.
        rows_M: (M,) which.
        query_L: (L,) the query's lead.
        length: of the query's lead, by which `off` counts.
        share: length of what the lead leaves out of the query, by which `left` counts.
    """
    out = np.empty(len(rows_M), np.float32)
    step = max(float(np.abs(query_L).max()), 1e-9) / 32767
    query = np.rint(query_L / step).astype(np.int16)
    rounded = float(np.linalg.norm(query_L - query * step))

    def part(start: int) -> None:
        rows = rows_M[start : start + _PART]
        _coded(arrays["code"], arrays["scale"], arrays["off"], arrays["left"], rows, query,
               np.float32(step), np.float32(length), np.float32(share),
               out[start : start + _PART])  # fmt: skip

    _each_part(part, len(rows_M))
    return out + np.float32(1.1 * rounded)  # a row that is decoded from 256 numbers is shorter


def _each_part(part: Callable[[int], None], rows: int) -> None:
    """Call `part` with where each part of some rows starts, on several threads if it pays."""
    starts = range(0, rows, _PART)
    if len(starts) < 2:
        for start in starts:
            part(start)
    else:
        list(_pool().map(part, starts))


def digests(values: npt.NDArray[Any], block: int) -> npt.NDArray[np.uint64]:
    """(B,) a checksum of each block of rows; every change of one word changes it.

    Args:
        values: (N, ...) rows, without gaps.
        block: rows in a block; the last one may have fewer.
    """
    count = -(-len(values) // block)
    out = np.empty(count, np.uint64)
    if not count:
        return out
    raw = values.reshape(-1).view(np.uint8)
    step = block * (raw.size // len(values))
    some = max(1, (1 << 24) // step)

    def part(start: int) -> None:
        _digests(raw, step, start, out[start : start + some])

    starts = range(0, count, some)
    if len(starts) < 2:
        part(0)
    else:
        list(_pool().map(part, starts))
    return out


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "scan")


@intrinsic
def _value(typing: Any, bits: Any) -> Any:  # noqa: ANN401 - numba's own protocol
    """A half-precision number as float32; numba itself knows none on CPUs."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _bounds(
    bits_ND: npt.NDArray[np.uint16], rows_M: IntArray, query_D: FloatArray, left_N: FloatArray,
    share: np.float32, out_M: FloatArray,
) -> None:  # fmt: skip
    for i in range(len(rows_M)):
        row = rows_M[i]
        total = np.float32(0)
        for d in range(len(query_D)):
            total += _value(bits_ND[row, d]) * query_D[d]  # type: ignore[call-arg]
        out_M[i] = total + share * left_N[row]


@numba.njit(nogil=True, cache=True)
def _coded(
    code_NL: npt.NDArray[np.int8], scale_N: FloatArray, off_N: FloatArray, left_N: FloatArray,
    rows_M: IntArray, query_L: npt.NDArray[np.int16], step: np.float32, length: np.float32,
    share: np.float32, out_M: FloatArray,
) -> None:  # fmt: skip
    for i in range(len(rows_M)):
        row = rows_M[i]
        total = np.int32(0)
        for d in range(len(query_L)):
            total = np.int32(total + np.int32(code_NL[row, d]) * np.int32(query_L[d]))
        product = scale_N[row] * (step * np.float32(total))
        out_M[i] = product + length * off_N[row] + share * left_N[row]


@numba.njit(nogil=True, cache=True)
def _digests(
    raw_N: npt.NDArray[np.uint8], step: int, first: int, out_B: npt.NDArray[np.uint64]
) -> None:
    for b in range(len(out_B)):
        part = raw_N[(first + b) * step : (first + b + 1) * step]
        whole = len(part) // 8
        total = np.uint64(len(part))
        for word in part[: whole * 8].view(np.uint64):
            total = (((total << _LEFT) | (total >> _RIGHT)) ^ word) * _PRIME
        for byte in part[whole * 8 :]:
            total = (((total << _LEFT) | (total >> _RIGHT)) ^ np.uint64(byte)) * _PRIME
        out_B[b] = total ^ (total >> _RIGHT)
