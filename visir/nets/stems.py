"""Stems of the transformers: from an image to tokens, one stem for each modality.

ICS is that of TransReID-SSL (Luo et al., 2021: an IBN-convolution stem before ViT); the others are
the first layers of a convolutional network (the hybrid of Dosovitskiy et al., ICLR 2021), which
learn much from few images or come from ImageNet.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn

from visir.nets.resnet import narrow_resnet


class VitSize(NamedTuple):
    """A transformer's sizes.

    dim: width of a token; depth: number of blocks; heads: of the attention; stem: width of the
    stem's first layer ("mobilenet": of its last); patch: stride from image to tokens, in pixels;
    kind: the stem, ICS or the first layers of a convolutional network.
    """

    dim: int
    depth: int
    heads: int
    stem: int
    patch: int
    kind: Literal["ics", "resnet", "mobilenet"] = "ics"


def make_stem(size: VitSize) -> nn.Module:
    """The stem of one modality, with random weights: (B, 3, H, W) to (B, T, dim)."""
    match size.kind:
        case "ics":
            return Stem(size)
        case "resnet":
            return Convolutions(resnet_stem(size.stem), size, 4 * size.stem)
        case "mobilenet":
            return Convolutions(mobilenet_stem(), size, size.stem)
        case _:
            assert_never(size.kind)


class IBN(nn.Module):
    """Instance norm on half of the channels, batch norm on the others (Pan et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        return torch.cat([self.IN(x[:, : self.split]), self.BN(x[:, self.split :])], dim=1)


class Stem(nn.Module):
    """ICS: three convolutions at half resolution, then one projection to tokens."""

    def __init__(self, size: VitSize) -> None:
        super().__init__()
        width = size.stem
        self.conv = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            IBN(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            IBN(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        kernel = size.patch // 2
        self.proj = nn.Conv2d(width, size.dim, kernel, stride=kernel)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, T, dim), tokens in row-major order."""
        tokens: Tensor = self.proj(self.conv(images))
        return tokens.flatten(2).transpose(1, 2)


class Convolutions(nn.Module):
    """The first layers of a convolutional network, then one projection to tokens.

    Args:
        layers: the first layers.
        size: of the transformer.
        width: channels of the last of the layers.
    """

    def __init__(self, layers: nn.Sequential, size: VitSize, width: int) -> None:
        super().__init__()
        self.layers = layers
        self.proj = nn.Conv2d(width, size.dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, T, dim), tokens in row-major order."""
        # Channels last in memory: faster on CPUs.
        tokens: Tensor = self.proj(self.layers(images.to(memory_format=torch.channels_last)))
        return tokens.flatten(2).transpose(1, 2)


def resnet_stem(width: int) -> nn.Sequential:
    """The stem and the first three layers of `resnet-micro`: stride 16, 4 * `width` channels."""
    backbone = narrow_resnet(width)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    return nn.Sequential(OrderedDict((name, getattr(backbone, name)) for name in names))


def mobilenet_stem() -> nn.Sequential:
    """MobileNetV2 (Sandler et al., 2018) up to its fourteenth block: stride 16, 96 channels."""
    from torchvision.models import mobilenet_v2  # loads PyTorch's compiler, in seconds

    return nn.Sequential(*mobilenet_v2().features[:14])
