"""Detect people in a picture with a torchvision detector whose weights the user provides."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection

from visir.core.device import resolve_device
from visir.core.types import ByteArray, InputError
from visir.sources.tracks import Box

Detector = Callable[[ByteArray], list[Box]]
"""Finds the people in a (H, W, 3) uint8 RGB picture."""

NAMES = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
)
# Their COCO weights were trained with batch normalisation without an epsilon.
_WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
_COUNTER = "num_batches_tracked"  # only some files have it; not used after training
_PERSON = 1  # COCO's category
_MIN_SCORE = 0.6
_MIN_SIDE = 16  # pixels; `visir check` warns of smaller images


def load_detector(path: Path, device: str = "cpu") -> Detector:
    """Load a detector; its architecture is detected from the tensors in the weights file.

    Args:
        path: torchvision's COCO weights of one of `NAMES`.
        device: "cpu", "cuda", "cuda:<n>" or "auto".

    Raises:
        InputError: the file is missing or does not hold weights of one of `NAMES`.
    """
    state = _read(path)
    shapes = _shapes(state)
    for name in NAMES:
        with torch.device("meta"):
            fits = _shapes(_build(name).state_dict()) == shapes
        if fits:
            break
    else:
        raise InputError(
            f"{path}: not the COCO weights of a supported detector; use torchvision's file for "
            f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
        )
    net = _build(name)
    counters = {key: value for key, value in net.state_dict().items() if key.endswith(_COUNTER)}
    net.load_state_dict({**counters, **state}, strict=True)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and name in _WITHOUT_EPSILON:
            module.eps = 0.0
    target = resolve_device(device)
    return partial(_detect, net.to(target).eval(), target)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name the detector's weights file") from None
    except Exception as error:  # unpickling raises exceptions without a common base class
        raise InputError(
            f"{path}: not a file of PyTorch weights that can be read safely ({error}); use "
            "torchvision's unmodified file"
        ) from error
    return state if isinstance(state, dict) else {}


def _build(name: str) -> nn.Module:
    net: nn.Module = getattr(detection, name)(weights=None, weights_backbone=None)
    return net


def _shapes(state: dict[str, Any]) -> dict[str, Any]:
    return {
        key: getattr(value, "shape", None)
        for key, value in state.items()
        if not str(key).endswith(_COUNTER)
    }


@torch.inference_mode()
def _detect(net: nn.Module, device: torch.device, pixels: ByteArray) -> list[Box]:
    picture = torch.from_numpy(pixels).to(device).permute(2, 0, 1).float() / 255
    (found,) = net([picture])
    people = (found["labels"] == _PERSON) & (found["scores"] >= _MIN_SCORE)
    rows = torch.cat([found["boxes"], found["scores"][:, None]], dim=1)[people].tolist()
    boxes = [Box(*row) for row in rows]
    return [b for b in boxes if min(b.right - b.left, b.bottom - b.top) >= _MIN_SIDE]
