"""Build networks by name."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from visir.core.config import did_you_mean
from visir.core.types import InputError
from visir.nets import two_stream
from visir.nets.features import Features as Features
from visir.nets.two_stream import TwoStream, Width, require_strips
from visir.nets.vit import Vit

ResNetName = Literal["resnet50", "resnet18", "resnet-mini", "resnet-micro", "mobilenet-v2"]
VitName = Literal["micro", "hybrid-micro", "hybrid-mobilenet", "small", "base"]
NetworkName = Literal[ResNetName, VitName]
Network: TypeAlias = Vit | TwoStream


def build(
    name: str,
    image_size: tuple[int, int],
    class_tokens: int = 1,
    drop_path: float = 0.0,
    shallow: bool = False,
    share_net: int = 1,
    non_local: Width = "off",
    power: float = 3.0,
    strips: int = 0,
) -> Network:
    """Build a network with random weights.

    Args:
        name: a `ResNetName`, or a `VitName` for a vision transformer.
        image_size: (height, width) in pixels.
        class_tokens: transformers only.
        drop_path: transformers only.
        shallow: transformers only: SDCL's shallow embedding beside the deep one.
        share_net: ResNets only, like all arguments below; see `TwoStream`.
        non_local: width of the non-local attention.
        power: p of GeM pooling.
        strips: number of horizontal strips of the last map.

    Raises:
        InputError: the network is unknown, or does not accept the image size.
    """
    if name not in get_args(NetworkName):
        raise InputError(
            f"network {name!r} is unknown; {did_you_mean(name, get_args(NetworkName))}"
        )
    if name in two_stream.SIZES:
        require_strips(image_size[0], strips)
        return TwoStream(name, share_net, non_local, power, strips)
    return Vit(name, image_size, class_tokens, drop_path, shallow)
