"""Networks that compute a slice of a batch: the draws and the statistics of the whole batch.

A batch can be divided over several processes, or into slices that are computed one after the other.
Each slice draws what its images would draw in the whole batch, and its batch norms use the
statistics of all processes, if that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from visir.core import ranks
from visir.core.device import to_device
from visir.core.types import IntArray


class Slice(NamedTuple):
    """Which images of a batch are computed.

    places: (n,) their positions in the whole batch; whole: number of images of the whole batch;
    shared: batch norms use the statistics of this slice in all processes; again: the slice is
    computed a second time, so that running statistics do not change.
    """

    places: IntArray
    whole: int
    shared: bool
    again: bool = False


_computed: ContextVar[Slice | None] = ContextVar("slice", default=None)


@contextmanager
def computing(part: Slice | None) -> Iterator[None]:
    """Within it networks compute this slice; None for a whole batch."""
    token = _computed.set(part)
    try:
        yield
    finally:
        _computed.reset(token)


def places(count: int) -> IntArray:
    """(count,) positions in the whole batch of the images that are computed."""
    part = _computed.get()
    return np.arange(count) if part is None else _of(part, count).places


def uniform(count: int, device: torch.device) -> Tensor:
    """(count, 1, 1) uniform numbers of torch's generator, in [0, 1), one an image.

    A slice draws the numbers of the whole batch and takes its own, so that the generator advances
    alike in every process.
    """
    part = _computed.get()
    if part is None:
        return torch.rand(count, 1, 1, device=device)
    whole = torch.rand(part.whole, 1, 1, device=device)
    return whole[to_device(torch.from_numpy(_of(part, count).places), device)]


def _of(part: Slice, count: int) -> Slice:
    if count != len(part.places):
        raise ValueError(
            f"{count} images are computed, but the slice of the batch has {len(part.places)}; "
            "call the network once for each kind of view"
        )
    return part


class SliceNorm(_BatchNorm):
    """Batch norm that knows slices; of a whole batch, and in evaluation, PyTorch's own."""

    def forward(self, input: Tensor) -> Tensor:
        """The same shape."""
        part = _computed.get()
        if part is None or not self.training:
            return super().forward(input)
        running = None if part.again else self._running()
        if part.shared and ranks.count() > 1:
            found: Tensor = _OverRanks.apply(input, self.weight, self.bias, self.eps, running)
            return found
        mean, variance, factor = running or (None, None, 0.0)
        return F.batch_norm(
            input, mean, variance, self.weight, self.bias, True, factor, self.eps
        )  # fmt: skip

    def _running(self) -> tuple[Tensor, Tensor, float] | None:
        """The running statistics and their share of what is new."""
        if self.running_mean is None or self.running_var is None:
            return None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        factor = self.momentum
        if factor is None:
            factor = 1 / float(self.num_batches_tracked)
        return self.running_mean, self.running_var, factor

    def _check_input_dim(self, input: Tensor) -> None:
        """Whatever the norm that this one replaces took."""


def know_slices(module: nn.Module) -> None:
    """Make the batch norms of a network know slices; nothing else of them changes."""
    for part in module.modules():
        if type(part) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            part.__class__ = SliceNorm


class _OverRanks(torch.autograd.Function):
    """Normalise by mean and variance over all processes; like `torch.nn.SyncBatchNorm`.

    Written out because PyTorch's refuses tensors of a CPU. Its kernels for statistics, and for a
    norm whose statistics are given, pass through the images once each. As in one process, a CPU's
    float32 variance is the less exact the more values a channel has, if channels are last.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        running: tuple[Tensor, Tensor, float] | None,
    ) -> Tensor:
        unused = weight.new_zeros(2, images.shape[1])  # gives the statistics their type
        middle, spread = torch.batch_norm_update_stats(images, unused[0], unused[1], 0.0)
        size = middle.new_full((1,), images.numel() // images.shape[1])
        own = torch.cat([middle, spread, size])
        table = ranks.gathered(own[None], [1] * ranks.count())
        sizes, channels = table[:, -1:], len(middle)
        total = sizes.sum()
        mean = (table[:, :channels] * sizes).sum(0) / total
        apart = (table[:, :channels] - mean).square()
        variance = ((table[:, channels:-1] + apart) * sizes).sum(0) / total
        if running is not None:
            kept_mean, kept_variance, factor = running
            kept_mean.lerp_(mean.to(kept_mean), factor)
            kept_variance.lerp_((variance * total / (total - 1)).to(kept_variance), factor)
        ctx.save_for_backward(images, weight, mean, variance, total)
        ctx.eps = eps
        return F.batch_norm(images, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        images, weight, mean, variance, total = ctx.saved_tensors
        # As if the statistics were constants: what they pass back is subtracted then.
        to_images, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            grads[0], images, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
        )
        whole = torch.stack([to_bias, to_weight])
        ranks.add_up(whole)
        whole /= total
        inverse = (variance + ctx.eps).rsqrt()
        by_image = weight * inverse.square() * whole[1]
        constant = weight * inverse * whole[0] - by_image * mean
        passed = torch.addcmul(_wide(constant, images), images, _wide(by_image, images))
        return (to_images - passed).to(images.dtype), to_weight, to_bias, None, None


def _wide(of_channels: Tensor, images: Tensor) -> Tensor:
    """(C,) as it is broadcast over (B, C, ...)."""
    return of_channels.view(1, -1, *[1] * (images.dim() - 2))
