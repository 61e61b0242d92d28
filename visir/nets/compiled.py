"""Networks compiled by `torch.compile`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from visir.core.types import InputError

HOW: dict[str, Any] = {"backend": "inductor", "options": {"fallback_random": True}}
"""Arguments of `torch.compile`; stochastic depth draws the same numbers as uncompiled."""


class _Trial(nn.Module):
    """The smallest network to compile: PyTorch 2.11 passes over a bare layer without a word."""

    def forward(self, values: Tensor) -> Tensor:
        """The values without the negative ones."""
        return values.relu()


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile a network in place; its weights and their names stay as they are.

    It is compiled when it first runs, for training and for embedding apart.

    Args:
        network: that will run.
        device: where.

    Raises:
        InputError: nothing can be compiled for this device.
    """
    try:
        tried = _Trial()
        tried.compile(**HOW)
        tried(torch.zeros(8, device=device))
    except (RuntimeError, OSError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise InputError(
            f"--compile: torch.compile does not work here ({reason}); leave the option out, or "
            "install what it needs: a C++ compiler (on Debian: apt-get install g++), for a GPU "
            "also Triton"
        ) from error
    network.compile(**HOW)
