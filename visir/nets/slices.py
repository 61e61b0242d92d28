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

    Written out because PyTorch's refuses tensors of a CPU.
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
        wide = images.to(torch.promote_types(images.dtype, torch.float32))
        dims = _all_but_channels(images)
        spread, middle = torch.var_mean(wide, dim=dims, correction=0)
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
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(images, weight, mean, inverse, total)
        unit = (wide - _wide(mean, images)) * _wide(inverse, images)
        return (unit * _wide(weight, images) + _wide(bias, images)).to(images.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        images, weight, mean, inverse, total = ctx.saved_tensors
        grad = grads[0].to(mean.dtype)
        unit = (images.to(mean.dtype) - _wide(mean, images)) * _wide(inverse, images)
        dims = _all_but_channels(images)
        own = torch.stack([grad.sum(dims), (grad * unit).sum(dims)])
        whole = own.clone()
        ranks.add_up(whole)
        whole /= total
        centred = grad - _wide(whole[0], images) - unit * _wide(whole[1], images)
        to_images = centred * _wide(weight * inverse, images)
        return to_images.to(images.dtype), own[1], own[0], None, None


def _all_but_channels(images: Tensor) -> list[int]:
    return [0, *range(2, images.dim())]


def _wide(of_channels: Tensor, images: Tensor) -> Tensor:
    """(C,) as it is broadcast over (B, C, ...)."""
    return of_channels.view(1, -1, *[1] * (images.dim() - 2))
