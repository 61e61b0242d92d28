"""What a training of a network needs in memory, counted in one small step on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch

from visir.nets.build import Network

ADAM = 16
"""Bytes of a weight in float32 with its gradient and Adam's two means."""
_VIEWS = 4  # batch norm needs more than one of each modality


class Cost(NamedTuple):
    """Memory of a training in float32.

    weights: their number; view: bytes that one view keeps from the forward to the backward pass.
    """

    weights: int
    view: int

    def memory(self, views: int) -> int:
        """Bytes of weights, gradients, Adam's means, and a batch of so many views.

        What losses, memories, the optimiser's step and the libraries take beside is not in it.
        """
        return ADAM * self.weights + views * self.view

    def views(self, memory: int) -> int:
        """How many views fit into so many bytes, at least 1."""
        return max(1, (memory - ADAM * self.weights) // self.view)


def cost(net: Network, size: tuple[int, int]) -> Cost:
    """Count the tensors that a forward pass keeps for the backward pass.

    Args:
        net: on the CPU, not used afterwards: the means of its batch norms change.
        size: (height, width) of its images, in pixels.
    """
    own = {weight.untyped_storage().data_ptr() for weight in net.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(of: torch.Tensor) -> torch.Tensor:
        storage = of.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return of

    infrared = torch.arange(_VIEWS) % 2 == 1
    with (
        torch.random.fork_rng(devices=[]),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda of: of),
    ):
        net.train()(torch.zeros(_VIEWS, 3, *size), infrared)
    saved = sum(storage.nbytes() for storage in kept.values())
    return Cost(sum(weight.numel() for weight in net.parameters()), saved // _VIEWS)
