"""ResNets are torchvision's, and no search waits for torchvision's import."""

import subprocess
import sys

import pytest
import torch
from torchvision import models

from visir.nets import resnet


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_and_maps_are_torchvisions(name):
    torch.manual_seed(1)
    own = getattr(resnet, name)()
    torch.manual_seed(1)
    theirs = getattr(models, name)()
    drawn, expected = own.state_dict(), theirs.state_dict()
    assert list(drawn) == list(expected)
    assert all(torch.equal(drawn[key], expected[key]) for key in drawn)
    maps = reference = torch.randn(2, 3, 64, 32)
    for part in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        maps, reference = getattr(own, part)(maps), getattr(theirs, part)(reference)
    torch.testing.assert_close(maps, reference)


def test_the_ready_model_loads_without_torchvision():
    code = (
        "import sys, visir; visir.load('builtin'); "
        "assert not {'torchvision', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
