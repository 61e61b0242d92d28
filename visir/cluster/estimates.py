"""Cosines estimated from products in bf16, with a bound on the error; what features they need."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visir.cluster.loops import Int32Array
from visir.core.device import multiplies_bf16
from visir.core.types import FloatArray, InputError

DoubleArray = npt.NDArray[np.float64]
OUTPUT_ROUNDING = 2.0**-8
"""Of a product stored as bf16, relative."""
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


class Estimator(NamedTuple):
    """Features, and what their products are estimated from.

    low_NE: (N, D + 4) centred features rounded to bf16, two ones, and the product with the mean in
    two parts; offset: what an estimate lacks to the cosine; slack_N: how far it may be off.
    """

    exact_ND: FloatArray  # noqa: N815
    low_NE: Tensor  # noqa: N815
    offset: float
    slack_N: DoubleArray  # noqa: N815

    def side(self, columns: Int32Array) -> Tensor:
        """(M, D + 4) what rows are multiplied with to be compared with these."""
        whole = len(columns) == len(self.low_NE)
        return self.low_NE if whole else self.low_NE[torch.from_numpy(columns)]

    def estimates(self, rows: Int32Array, side_ME: Tensor) -> Tensor:
        """(B, M) bf16: cosines minus the offset, approximately; those of two rows are alike.

        An estimate e is off by at most the slack of either row and OUTPUT_ROUNDING |e|.
        """
        left_BE = self.low_NE[torch.from_numpy(rows)]
        left_BE[:, -4:] = left_BE[:, -4:].roll(2, dims=1)
        return (left_BE @ side_ME.T).bfloat16()


def estimator(features_ND: Tensor) -> Estimator:
    """Round the features, and bound the error of every product but for the output's rounding.

    With the mean m and x = m + x', xy = x'y' + mx + my - mm, so that features that are all alike,
    as those of an untrained network, keep their differences. With x' = l + r, l in bf16,
    Cauchy-Schwarz gives |x'y' - l_x l_y| <= |r_x||y'| + |l_x||r_y|. Summation in float32 adds at
    most 2 (D + 4) 2^-24 of the lengths' product, whatever its order.
    """
    features_ND = features_ND.detach().float().contiguous()
    count, width = features_ND.shape
    mean_D = features_ND.mean(dim=0)
    low_NE = features_ND.new_ones(count, width + 4, dtype=torch.bfloat16)
    along, length, residual = (features_ND.new_empty(count, dtype=torch.float64) for _ in range(3))
    for start in range(0, count, 2**12):
        part = slice(start, start + 2**12)
        along[part] = features_ND[part].double() @ mean_D.double()
        centred = features_ND[part] - mean_D
        low_NE[part, :width] = centred
        rounded = low_NE[part, :width].float()
        length[part] = torch.maximum(rounded.norm(dim=1), centred.norm(dim=1)).double()
        residual[part] = (centred - rounded).norm(dim=1).double()
    level = along.mean()
    low_NE[:, width + 2] = along - level
    low_NE[:, width + 3] = along - level - low_NE[:, width + 2].double()
    steepest = (along - level).abs().max()
    slack = residual * length.max() + length * residual.max() + 2 * 2.0**-16 * steepest
    slack += 2 * (width + 4) * 2.0**-24 * (length * length.max() + 2 * steepest)
    slack = 1.001 * slack + 2.0**-20  # what norms, the centring and the cosine itself are off
    offset = 2 * level - mean_D.double().square().sum()
    if features_ND.device.type != "cpu" or not multiplies_bf16(features_ND.device):
        low_NE = low_NE.float()  # products of bf16 numbers are exact in float32, and in TF32
    return Estimator(features_ND.cpu().numpy(), low_NE, float(offset), slack.cpu().numpy())
