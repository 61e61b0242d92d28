"""One step of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from visir.core.timing import part
from visir.training.passes import Loaded, Passes


def train_step(
    passes: Passes,
    optimizer: torch.optim.Optimizer,
    loaded: Loaded,
    refused: Callable[[Mapping[str, float]], Exception] | None = None,
) -> dict[str, float]:
    """Forward, loss, backward, optimiser, and what follows.

    The terms and their sum are read from the device together, once, and before anything learns
    from them. The device then computes the backward pass and what follows while the program
    prepares the next batch.

    Args:
        passes: through the network of the method that is trained.
        optimizer: of its weights.
        loaded: what on.
        refused: the error to raise if the sum of the terms is no number.

    Returns:
        The terms of the loss.
    """
    method, batch = passes.method, loaded.batch
    with part("forward"):
        outputs = passes.forward(loaded)
    with part("loss"):
        terms = method.loss(batch, outputs)
        each = torch.stack(list(terms.values()))
        total = each.sum()
        *values, whole = torch.cat([each.detach(), total.detach()[None]]).tolist()
    found = dict(zip(terms, values, strict=True))
    if refused is not None and not math.isfinite(whole):
        raise refused(found)
    with part("backward"):
        optimizer.zero_grad(set_to_none=True)
        passes.backward(total, loaded, outputs, optimizer)
    with part("optimiser"):
        method.before_step()
        optimizer.step()
    with part("memories"):
        method.after_step(batch, outputs)
    return found
