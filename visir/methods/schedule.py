"""Learning rates and weight decay that several methods share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, assert_never

import torch
from torch import Tensor, nn


def cosine(lr: float, epoch: int, epochs: int, warmup: int = 0) -> float:
    """The rate of an epoch: it rises by equal steps, then falls as a cosine.

    Args:
        lr: the highest rate.
        epoch: counted from 0.
        epochs: after which the rate would be 0.
        warmup: epochs during which it rises.
    """
    if epoch < warmup:
        return lr * (epoch + 1) / (warmup + 1)
    along = (epoch - warmup) / max(epochs - warmup, 1)
    return lr * (1 + math.cos(math.pi * along)) / 2


def fused(weights: Iterable[Tensor]) -> bool | None:
    """The argument of PyTorch's optimisers: on a GPU a few kernels step all weights.

    None, their default, for weights on a CPU.
    """
    return True if all(weight.device.type == "cuda" for weight in weights) else None


def adam(module: nn.Module, lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam over all weights of a network."""
    weights = list(module.parameters())
    return torch.optim.Adam(weights, lr=lr, weight_decay=weight_decay, fused=fused(weights))


def adamw(modules: Iterable[nn.Module], lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all weights that are trained; norms, biases and other vectors do not decay."""
    trained = [w for module in modules for w in module.parameters() if w.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [w for w in trained if w.ndim > 1], "weight_decay": weight_decay},
            {"params": [w for w in trained if w.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        fused=fused(trained),
    )


def sgd_or_adam(
    module: nn.Module, name: Literal["sgd", "adam"], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """SGD with momentum .9, or Adam, over all weights of a network."""
    match name:
        case "adam":
            return adam(module, lr, weight_decay)
        case "sgd":
            weights = list(module.parameters())
            return torch.optim.SGD(
                weights, lr=lr, momentum=0.9, weight_decay=weight_decay, fused=fused(weights)
            )
        case _:
            assert_never(name)
