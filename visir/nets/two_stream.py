"""Two-stream ResNet: stems and early layers per modality, the other layers shared.

The network of AGW (Ye et al., TPAMI 2021), of ADCA, and of HCT (Liu et al., TMM 2020). The last
layer has stride 1. Either the whole map is pooled into one feature, and a batch-norm bottleneck
makes it the embedding; or horizontal strips of the map are pooled, each strip has a small head, and
the concatenated outputs are the embedding.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from visir.core.types import InputError
from visir.nets.features import Features, by_stem
from visir.nets.resnet import ResNet, narrow_resnet, resnet18, resnet50

STEM = ("conv1", "bn1", "relu", "maxpool")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
STRIDE = 16  # pixels per position of the last map
STRIP_DIM = 256  # width of a strip's feature
Width = Literal["off", "published", "intended"]
HEADS = {"bottleneck.": "strips", "non_local.": "non_local", "strip_heads.": "strips"}
"""Prefixes of the tensors beside the layers, and the argument that they depend on."""
_ATTENDED = {"layer2": 2, "layer3": 3}  # last blocks of a layer that a non-local block follows


def _mobilenet() -> nn.Module:
    """MobileNetV2 (Sandler et al., 2018), its blocks grouped by stride like a ResNet's layers."""
    from torchvision.models import mobilenet_v2  # loads PyTorch's compiler, in seconds

    features = mobilenet_v2().features
    conv, norm, relu = features[0]
    parts = {"conv1": conv, "bn1": norm, "relu": relu, "maxpool": nn.Identity()}
    ends = (1, 4, 7, 14, 19)
    parts |= {name: features[a:b] for name, a, b in zip(LAYERS, ends[:-1], ends[1:], strict=True)}
    backbone = nn.ModuleDict(parts)
    backbone["fc"] = nn.Linear(features[-1][0].out_channels, 1000)
    return backbone


# resnet-micro and resnet-mini are visir's own, for CPUs.
SIZES: dict[str, Callable[[], nn.Module]] = {
    "resnet50": resnet50,
    "resnet18": resnet18,
    "resnet-mini": partial(narrow_resnet, 32),
    "resnet-micro": partial(narrow_resnet, 16),
    "mobilenet-v2": _mobilenet,
}


class TwoStream(nn.Module):
    """The two-stream network; it accepts images of any size that its strips divide.

    Args:
        size: one of `SIZES`.
        share_net: number of stages (the stem, then the four layers) that each modality has
            separately: 0 none, 1 the stem (AGW, ADCA), 2 also the first layer (HCT), 5 all.
        non_local: attention over the whole map after the last blocks of layers 2 and 3, of width 1
            ("published", as in AGW's checkpoints) or of half the channels ("intended").
        power: p of GeM pooling.
        strips: number of horizontal strips with a feature each; 0 pools the whole map.

    Attributes:
        described: the arguments of `visir.nets.build.build` for this network, except the image
            size.
        embedding_dim: width of the embedding.
        map_dim: channels of the last map.

    Raises:
        InputError: `share_net` is not 0 to 5, or leaves no shared layer for the non-local blocks.
    """

    def __init__(
        self,
        size: str = "resnet50",
        share_net: int = 1,
        non_local: Width = "off",
        power: float = 3.0,
        strips: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= share_net <= 5:
            raise InputError(
                f"setting share_net: must be 0 to 5, got {share_net}; HCT uses 2, AGW 1"
            )
        if non_local != "off" and share_net > 2:
            raise InputError(
                f"setting share_net: {share_net} leaves no shared layer 2 for the non-local "
                "blocks; set share_net to at most 2, or non_local=off"
            )
        backbone: Any = SIZES[size]()
        _keep_stride(backbone.layer4)
        stages: list[dict[str, nn.Module]] = [{name: getattr(backbone, name) for name in STEM}]
        stages += [{name: getattr(backbone, name)} for name in LAYERS]
        own = {name: part for stage in stages[:share_net] for name, part in stage.items()}
        shared = {name: part for stage in stages[share_net:] for name, part in stage.items()}
        self.vis_stem = nn.Sequential(OrderedDict(own))
        # Both modalities start with the same weights, like two copies of one pre-trained stem.
        self.ir_stem = deepcopy(self.vis_stem)
        self.layers = nn.Sequential(OrderedDict(shared))
        self.map_dim: int = backbone.fc.in_features
        self.power, self.strips = power, strips
        self.described: dict[str, Any] = {
            "size": size,
            "share_net": share_net,
            "non_local": non_local,
            "power": power,
            "strips": strips,
        }
        self.non_local = _non_local(backbone, non_local)
        self.embedding_dim = strips * STRIP_DIM if strips else self.map_dim
        if strips:
            self.strip_heads = nn.ModuleList(_strip_head(self.map_dim) for _ in range(strips))
        else:
            self.bottleneck = nn.BatchNorm1d(self.map_dim)
            nn.init.normal_(self.bottleneck.weight, 1.0, 0.01)
            self.bottleneck.bias.requires_grad_(False)

    def forward(self, images: Tensor, infrared: Tensor) -> Features:
        """Compute the features of a mixed batch.

        Args:
            images: (B, 3, H, W), normalised.
            infrared: (B,) bool, True for images that use the infrared stem.
        """
        images = images.to(memory_format=torch.channels_last)  # faster on CPUs
        maps = self._shared(by_stem(self.vis_stem, self.ir_stem, images, infrared))
        # In half precision the tenth power overflows or loses its digits.
        with torch.autocast(images.device.type, enabled=False):
            exact = maps.float()
            if self.strips:
                pooled = generalised_mean(in_strips(exact, self.strips), self.power)
                rows = pooled[..., None, None].unbind(dim=2)
                found = [head(row) for head, row in zip(self.strip_heads, rows, strict=True)]
                tokens = torch.stack(found, dim=1)[..., 0, 0]
                return Features(tokens.flatten(1), tokens, maps)
            pooled = generalised_mean(exact.flatten(2), self.power)
            return Features(self.bottleneck(pooled), pooled[:, None], maps)

    def _shared(self, maps: Tensor) -> Tensor:
        if not self.non_local:
            return self.layers(maps)  # type: ignore[no-any-return]
        for layer, part in self.layers.named_children():
            if layer not in _ATTENDED:
                maps = part(maps)
                continue
            for number, block in enumerate(part.children()):
                maps = block(maps)
                attend = f"{layer}_{number}"
                maps = self.non_local[attend](maps) if attend in self.non_local else maps
        return maps


class NonLocal(nn.Module):
    """Attention over all positions (Wang et al., CVPR 2018): dot products divided by their number.

    Args:
        channels: of the map.
        width: of queries, keys and values.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.g, self.theta, self.phi = (nn.Conv2d(channels, width, 1) for _ in range(3))
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)  # the block is the identity at the start
        self.W = nn.Sequential(nn.Conv2d(width, channels, 1), norm)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        theta, phi, g = (part(maps).flatten(2) for part in (self.theta, self.phi, self.g))
        # (theta phi^T) g computed as theta (phi^T g): no matrix of all pairs is needed.
        attended = (g @ phi.transpose(1, 2)) @ theta / theta.shape[2]
        change: Tensor = self.W(attended.view(*attended.shape[:2], *maps.shape[2:]))
        return maps + change


def in_strips(maps: Tensor, strips: int) -> Tensor:
    """(B, C, H, W) to (B, C, strips, positions of a strip), from the top."""
    return maps.reshape(*maps.shape[:2], strips, -1)


def require_strips(height: int, strips: int) -> None:
    """Refuse strips that do not divide the rows of the last map.

    Args:
        height: of the images, in pixels.
        strips: number of strips; 0 for none.

    Raises:
        InputError: the message names a height that fits.
    """
    rows = math.ceil(height / STRIDE)
    if strips and rows % strips:
        raise InputError(
            f"setting strips: {strips} strips do not divide the {rows} rows of the last map of "
            f"images {height} pixels high; set a size that is {STRIDE * strips} pixels high (or a "
            "multiple), or another number of strips"
        )


def generalised_mean(positions: Tensor, power: float = 3.0) -> Tensor:
    """GeM pooling (Radenovic et al., TPAMI 2019) over the last dimension."""
    return (positions.pow(power).mean(dim=-1) + 1e-12).pow(1 / power)


def _non_local(backbone: ResNet, width: Width) -> nn.ModuleDict:
    """The non-local blocks by layer and number of the block that they follow."""
    found = nn.ModuleDict()
    if width == "off":
        return found
    for layer, last in _ATTENDED.items():
        blocks = getattr(backbone, layer)
        channels = next(m for m in reversed(list(blocks.modules())) if isinstance(m, nn.Conv2d))
        half = channels.out_channels // 2
        for number in range(max(len(blocks) - last, 0), len(blocks)):
            found[f"{layer}_{number}"] = NonLocal(2 * half, 1 if width == "published" else half)
    return found


def _strip_head(channels: int) -> nn.Sequential:
    """The head of a strip: a linear layer, batch norm and ReLU, written as convolutions."""
    return nn.Sequential(
        nn.Conv2d(channels, STRIP_DIM, 1), nn.BatchNorm2d(STRIP_DIM), nn.ReLU(inplace=True)
    )


def _keep_stride(layer: nn.Module) -> None:
    """Set the stride of a layer to 1, so that the map keeps its rows and columns."""
    for module in layer.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
