"""Two-stream ResNet: a stem per modality, shared layers, one pooled descriptor.

The network of AGW (Ye et al., TPAMI 2021) without non-local blocks, as ADCA uses it: the stems see
their own modality only, the four layers all images, the last of them at full stride. Generalised
mean pooling gives the descriptor, a batch-norm bottleneck the embedding.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from visir.nets.features import Features, by_stem

LAYERS = ("layer1", "layer2", "layer3", "layer4")
_POWER = 3.0  # of the generalised mean


def _resnet50() -> ResNet:
    return ResNet(Bottleneck, [3, 4, 6, 3])


def _resnet_micro() -> ResNet:
    return ResNet(BasicBlock, [1, 1, 1, 1])


SIZES = {"resnet50": _resnet50, "resnet-micro": _resnet_micro}  # the second is ours, for CPUs


class TwoStream(nn.Module):
    """The two-stream encoder; it takes images of any size.

    Args:
        size: one of `SIZES`.

    Attributes:
        described: what `visir.nets.build.build` makes it from again, beside the image size.
        embedding_dim: width of the embedding.
    """

    def __init__(self, size: str = "resnet50") -> None:
        super().__init__()
        trunk = SIZES[size]()
        _keep_stride(trunk.layer4)
        stem = {name: getattr(trunk, name) for name in ("conv1", "bn1", "relu", "maxpool")}
        self.vis_stem = nn.Sequential(OrderedDict(stem))
        # Both modalities start alike, as two copies of one pre-trained stem do.
        self.ir_stem = deepcopy(self.vis_stem)
        self.layers = nn.Sequential(OrderedDict((name, getattr(trunk, name)) for name in LAYERS))
        self.described = {"size": size}
        self.embedding_dim = trunk.fc.in_features
        self.bottleneck = nn.BatchNorm1d(self.embedding_dim)
        nn.init.normal_(self.bottleneck.weight, 1.0, 0.01)
        self.bottleneck.bias.requires_grad_(False)

    def forward(self, images: Tensor, infrared: Tensor) -> Features:
        """Encode a mixed batch.

        Args:
            images: (B, 3, H, W), normalised.
            infrared: (B,) bool, True where the infrared stem is to be used.
        """
        maps = self.layers(by_stem(self.vis_stem, self.ir_stem, images, infrared))
        with torch.autocast(images.device.type, enabled=False):
            pooled = generalised_mean(maps.float())
            return Features(self.bottleneck(pooled), pooled[:, None])


def generalised_mean(maps: Tensor, power: float = _POWER) -> Tensor:
    """GeM pooling (Radenovic et al., TPAMI 2019): (B, C, H, W) to (B, C)."""
    return (maps.pow(power).mean(dim=(2, 3)) + 1e-12).pow(1 / power)


def _keep_stride(layer: nn.Module) -> None:
    """Last stride 1: twice as many rows and columns leave the network."""
    for module in layer.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
