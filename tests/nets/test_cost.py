"""Memory of a training: the tensors kept for the backward pass, compared with a count by hand."""

import pytest
import torch
from torch import nn

from visir.nets.build import build
from visir.nets.cost import Cost, cost
from visir.nets.features import Features


class Small(nn.Module):
    """A linear layer of 5 outputs and a ReLU over images of 4 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 4 * 2, 5)

    def forward(self, images, infrared):
        rows = torch.relu(self.layer(images.flatten(1)))
        return Features(rows, rows[:, None], rows)


def test_a_layer_keeps_its_input_and_a_relu_its_output() -> None:
    found = cost(Small(), (4, 2))
    assert found == Cost(weights=24 * 5 + 5, view=4 * (24 + 5))


def test_memory_and_views_are_inverse() -> None:
    found = Cost(weights=1000, view=200)
    assert found.memory(10) == 16_000 + 2000
    assert found.views(18_000) == 10
    assert found.views(18_199) == 10
    assert found.views(0) == 1


@pytest.mark.parametrize("network", ["hybrid-micro", "resnet-micro"])
def test_more_pixels_keep_more(network: str) -> None:
    small, large = (cost(build(network, size), size) for size in ((64, 32), (128, 64)))
    assert 3 < large.view / small.view < 5  # four times the pixels
    assert abs(small.weights - large.weights) < 0.05 * small.weights  # positions only
