"""One step of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from visir.core.device import autocast
from visir.core.types import Batch
from visir.methods.contract import Method


def train_step(
    method: Method,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    device: torch.device,
    refused: Callable[[Mapping[str, Tensor]], Exception] | None = None,
) -> dict[str, float]:
    """Forward, loss, backward, optimiser, and what follows.

    Args:
        method: what is trained.
        optimizer: of its weights.
        batch: what on.
        device: of the network.
        refused: the error to raise if the sum of the terms is no number.

    Returns:
        The terms of the loss.
    """
    with autocast(device, method.config.precision):
        outputs = method.model(batch.images, batch.infrared)
    terms = method.loss(batch, outputs)
    total = torch.stack(list(terms.values())).sum()
    if refused is not None and not torch.isfinite(total):
        raise refused(terms)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(total)
    optimizer.step()
    method.after_step(batch, outputs)
    return {name: float(value.detach()) for name, value in terms.items()}
