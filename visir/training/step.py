"""One step of a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from visir.training.passes import Loaded, Passes


def train_step(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    loaded: Loaded,
    refused: Callable[[Mapping[str, Tensor]], Exception] | None = None,
) -> dict[str, float]:
    """Forward, loss, backward, optimiser, and what follows.

    Args:
        passes: through the network of the method that is trained.
        optimizer: of its weights.
        loaded: what on.
        refused: the error to raise if the sum of the terms is no number.

    Returns:
        The terms of the loss.
    """
    method, batch = passes.method, loaded.batch
    outputs = passes.forward(loaded)
    terms = method.loss(batch, outputs)
    total = torch.stack(list(terms.values())).sum()
    if refused is not None and not torch.isfinite(total):
        raise refused(terms)
    optimizer.zero_grad(set_to_none=True)
    passes.backward(total, loaded, outputs, optimizer)
    method.before_step()
    optimizer.step()
    method.after_step(batch, outputs)
    return {name: float(value.detach()) for name, value in terms.items()}
