"""The preset `own`: settings for one's own images, without labels, sized by what there is.

`own_settings` is the only place that decides them. Their values are ours: they follow the presets
`tiny`, which were tuned on synthetic people, and no value has been measured on photographs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from visir.core.config import apply
from visir.core.device import memory_of
from visir.core.types import Benchmark, InputError, Modality
from visir.methods import METHODS
from visir.methods.contract import Method
from visir.nets.build import build
from visir.nets.cost import cost
from visir.nets.shipped import BUILTIN, NETWORKS, PERSON, start_file
from visir.nets.weights import read_about

OWN = "own"
START = "person"
_READY = NETWORKS[BUILTIN]
_NETWORK = "hybrid-micro"  # the shipped start of the transformers
_BACKBONES = {"cpu": "micro", "cuda": "small"}  # `visir pretrain` writes no hybrid
_MEMORY_SHARE = 0.5  # of the device's memory, for what `Cost.memory` counts
_LARGE = 64  # views in a batch, at least, for a network to be worth its training


class Facts(NamedTuple):
    """What the settings are sized by.

    images, cameras: number of training images and of their cameras, of each modality; device:
    "cpu" or "cuda"; memory: of the device, in bytes.
    """

    images: Mapping[Modality, int]
    cameras: Mapping[Modality, int]
    device: str
    memory: int


def facts_of(benchmark: Benchmark, device: torch.device) -> Facts:
    """What of a data set and a device the settings depend on."""
    sides = {m: [r for r in benchmark.train if r.modality is m] for m in Modality}
    return Facts(
        images={m: len(side) for m, side in sides.items()},
        cameras={m: len({record.cam for record in side}) for m, side in sides.items()},
        device=device.type,
        memory=memory_of(device),
    )


def require_own(method: str) -> type[Method]:
    """The class of a method that has this preset.

    Raises:
        InputError: the method learns from labels.
    """
    found = METHODS.find(method)
    if found.learns_from_labels:
        raise InputError(
            f"preset {OWN!r}: is for methods without labels, and {method} learns from labels; "
            "choose another preset, or a method such as pairs"
        )
    return found


def own_settings(method: str, facts: Facts, asked: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - each method has a Config of its own
    """Settings of a method for one's own images.

    Settings that a method does not have are left out, so this serves methods of other packages too.

    Args:
        method: its name.
        facts: what there is.
        asked: settings that the user replaces; the others are sized for these.

    Raises:
        InputError: the method learns from labels, or the network does not fit into the memory.
    """
    found = require_own(method)
    asked = asked or {}
    config = _with(found.presets["tiny"], _network(found, facts))
    config = apply(config, {key: asked[key] for key in ("network", "size") if key in asked})
    if "network" in asked and "size" not in asked:
        config = _with(config, _usual_size(found, config.network))
    if vars(config).get("network") != _READY:  # another start matches few, and has to learn much
        config = _with(config, {"chance": 1.0, "least_matched": 0.0, "average": 0.0})
    config = _with(config, _neighbourhoods(config, facts))
    config = _with(config, _of_cameras(config, facts))
    config = _with(config, _batches(method, config, facts))
    config = _with(config, _epochs(config, facts))
    return apply(config, asked)


def own_start(config: Any) -> str | None:  # noqa: ANN401 - as above
    """The start that goes with the settings: shipped weights, if the network has some."""
    network = getattr(config, "network", None)
    if network == _READY:
        return BUILTIN
    return START if network in PERSON else None


def _with(config: Any, wanted: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    names = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{k: v for k, v in wanted.items() if k in names})


def _network(method: type[Method], facts: Facts) -> dict[str, Any]:
    """The network with shipped weights; for a method that only makes a start, one without."""
    if not method.needs_both_modalities:
        network = _BACKBONES.get(facts.device, "micro")
        size = (64, 32) if network == "micro" else (256, 128)
        return {"network": network, "size": size, "small_size": (size[0] // 2, size[1] // 2)}
    network = method.presets["tiny"].network
    network = network if network == _READY else _NETWORK
    return {"network": network, "size": _shipped_size(network)}


def _usual_size(method: type[Method], network: str) -> dict[str, Any]:
    """The size that a network was trained at, or the published one for the large networks."""
    if network in (_READY, *PERSON):
        return {"size": _shipped_size(network)}
    large = network in ("small", "base", "resnet18", "resnet50", "mobilenet-v2", "hybrid-mobilenet")
    published = method.presets.get("sysu")
    return {"size": published.size} if large and published is not None else {}


def _shipped_size(network: str) -> tuple[int, int]:
    path = start_file(BUILTIN if network == _READY else f"{START}-{network}", network)
    assert path is not None
    height, width = read_about(path)["net"]["image_size"]
    return height, width


def _neighbourhoods(config: Any, facts: Facts) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Neighbourhoods of a tenth of the smaller modality, at most those of the preset `tiny`."""
    few = min((count for count in facts.images.values() if count), default=1)
    k1 = min(16, max(4, few // 10))
    return {
        "k1": k1,
        "k1_after": k1,
        "k2": min(vars(config).get("k2", k1), k1),
        "ranked": min(10, few),
        "smoothing": min(5, few),
    }


def _of_cameras(config: Any, facts: Facts) -> dict[str, Any]:  # noqa: ANN401 - as above
    """One radius for all cameras; no camera stage where a modality has one camera."""
    several = [facts.cameras[m] > 1 for m in (Modality.VISIBLE, Modality.INFRARED)]
    epochs = vars(config).get("camera_epochs", (0, 0))
    return {
        "camera_eps": (0.5,),
        "carc_eps": (0.5,),
        "carc": any(several),
        "camera_epochs": tuple(n if more else 0 for n, more in zip(epochs, several, strict=True)),
    }


def _batches(method: str, config: Any, facts: Facts) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Batches that fit into the memory, of half of the images at most, and a pass in an epoch."""
    visible, infrared = (facts.images[m] for m in (Modality.VISIBLE, Modality.INFRARED))
    room = _room(method, config, facts)
    gpu = facts.device == "cuda"
    instances = 8 if gpu and room >= 256 else 4
    usual = vars(config).get("visible_clusters", 8), vars(config).get("infrared_clusters", 16)
    # Visible images are used in two views, so each side takes half of the room.
    fitting = room // (4 * instances), room // (2 * instances)
    clusters = [
        max(2, min(most, fits, count // (2 * instances)))
        for most, fits, count in zip(usual, fitting, (visible, infrared), strict=True)
    ]
    most, queue = (200, 4096) if gpu else (40, 512)
    iterations = min(most, max(10, math.ceil(max(visible, infrared) / instances / min(clusters))))
    batch = min(128 if gpu else 32, room // 4)  # images of each modality, in two views
    if "batch" in vars(config):
        iterations = min(most, max(config.iterations, math.ceil(max(visible, infrared) / batch)))
    rows = visible + infrared
    return {
        "visible_clusters": clusters[0],
        "infrared_clusters": clusters[1],
        "instances": instances,
        "batch": batch,
        "iterations": iterations,
        "iterations_after": iterations,
        "gsmem_size": queue,
        "gsmem_start": max(1, min(queue // 4, rows // 2)),
    }


def _room(method: str, config: Any, facts: Facts) -> int:  # noqa: ANN401 - as above
    """How many views of the network fit into the memory.

    Raises:
        InputError: too few to train on.
    """
    if "network" not in vars(config):
        return 512
    net = build(config.network, config.size, vars(config).get("class_tokens", 1))
    needed = cost(net, config.size)
    room = needed.views(int(_MEMORY_SHARE * facts.memory))
    if room < _LARGE:
        raise InputError(
            f"preset {OWN!r}: {method} with the network {config.network} at "
            f"{config.size[0]}x{config.size[1]} pixels needs {needed.memory(_LARGE) / 2**30:.0f} "
            f"GiB for a batch of {_LARGE} views, more than half of the {facts.memory / 2**30:.0f} "
            "GiB of the device; set a smaller network or size"
        )
    return room


def _epochs(config: Any, facts: Facts) -> dict[str, Any]:  # noqa: ANN401 - as above
    """Those of the preset `tiny`; twice as many on a GPU."""
    times = 2 if facts.device == "cuda" else 1
    names = ("stage_epochs", "epochs", "switch", "cross_from", "lr_step", "mate_switch", "warmup")
    usual = {name: value for name, value in vars(config).items() if name in names}
    return {
        name: tuple(times * part for part in value) if isinstance(value, tuple) else times * value
        for name, value in usual.items()
    }
