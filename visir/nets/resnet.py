"""ResNet (He et al., CVPR 2016) with torchvision's names, and a narrow one.

Not imported from torchvision, whose package also loads PyTorch's compiler: that takes longer than
everything else a search starts with. Weights files of torchvision fit; the same seed draws the same
random weights.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, for ResNet-18 and narrower ones."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return cast(Tensor, self.relu(out + shortcut))


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two 1 x 1 ones and a shortcut, for ResNet-50.

    The 3 x 3 convolution has the stride, as in torchvision.
    """

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, 4 * width, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return cast(Tensor, self.relu(out + shortcut))


class ResNet(nn.Module):
    """The layers, for others to take apart; there is no forward pass.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        blocks: number of blocks in each of the four layers.
        width: channels of the stem; each layer has twice those of the one before.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        blocks: tuple[int, int, int, int],
        width: int = 64,
    ) -> None:
        super().__init__()
        self.channels = width  # after the layers built so far
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._layer(block, width, blocks[0], stride=1)
        self.layer2 = self._layer(block, 2 * width, blocks[1], stride=2)
        self.layer3 = self._layer(block, 4 * width, blocks[2], stride=2)
        self.layer4 = self._layer(block, 8 * width, blocks[3], stride=2)
        self.fc = nn.Linear(self.channels, 1000)

    def _layer(
        self, block: type[BasicBlock | Bottleneck], width: int, blocks: int, stride: int
    ) -> nn.Sequential:
        found = nn.Sequential()
        for number in range(blocks):
            step, shortcut = stride if number == 0 else 1, None
            after = width * block.expansion
            if step > 1 or self.channels != after:
                shortcut = nn.Sequential(
                    nn.Conv2d(self.channels, after, 1, step, bias=False), nn.BatchNorm2d(after)
                )
            found.append(block(self.channels, width, step, shortcut))
            self.channels = after
        return found


def resnet50() -> ResNet:
    """ResNet-50."""
    return _with_its_weights(ResNet(Bottleneck, (3, 4, 6, 3)))


def resnet18() -> ResNet:
    """ResNet-18."""
    return _with_its_weights(ResNet(BasicBlock, (2, 2, 2, 2)))


def _with_its_weights(net: ResNet) -> ResNet:
    """Random weights of the usual spread (He et al., ICCV 2015)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def narrow_resnet(width: int) -> ResNet:
    """A ResNet of one basic block a layer; ResNet-18 has a width of 64 and two blocks a layer.

    Its random weights are PyTorch's usual ones, from which it learns more on few people.
    """
    return ResNet(BasicBlock, (1, 1, 1, 1), width)
