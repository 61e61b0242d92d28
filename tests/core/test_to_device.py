"""Copies to a device that do not wait for it."""

import pytest
import torch

from visir.core.device import to_device


class Values:
    """Stands for a tensor, as there is no GPU; says how it is copied."""

    def __init__(self, count, device="cpu", pinned=False):
        self.count, self.device, self.pinned = count, torch.device(device), pinned

    def numel(self):
        return self.count

    def pin_memory(self):
        return Values(self.count, pinned=True)

    def to(self, device, non_blocking=False):
        return str(device), self.pinned, non_blocking


@pytest.mark.parametrize(("values", "device", "copied"), [
    (Values(3), "cuda:1", ("cuda:1", True, True)),
    (Values(0), "cuda:1", ("cuda:1", False, True)),  # no memory that could be pinned
    (Values(3, "cuda:0"), "cuda:1", ("cuda:1", False, True)),
    (Values(3), "cpu", ("cpu", False, True)),
])  # fmt: skip
def test_only_what_goes_from_the_cpu_to_a_gpu_is_pinned(values, device, copied):
    assert to_device(values, torch.device(device)) == copied


def test_on_a_cpu_it_is_the_same_tensor():
    values = torch.arange(3)
    assert to_device(values, torch.device("cpu")) is values
