"""Translate published checkpoints: detect their format, and map their tensors to visir's names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from visir.core.types import InputError
from visir.nets.build import Network
from visir.nets.imagenet import MOBILENETS, from_mobilenet, is_mobilenet
from visir.nets.two_stream import HEADS, LAYERS, TwoStream
from visir.nets.vit import SIZES, Vit, resize_positions

SAME = "use the size, class_tokens, share_net, non_local and strips of the file's network"
"""The fix if the tensors of a file do not fit a network."""

_VIS, _IR, _SHARED = "visible_module.visible.", "thermal_module.thermal.", "base_resnet.base."
_BACKBONES = (_VIS, _IR, _SHARED)
# visir's prefixes and those of two-stream checkpoints; NL_2.0 is the first block in layer 2.
_TWO_STREAM = {
    "vis_stem.": _VIS,
    "ir_stem.": _IR,
    "layers.": _SHARED,
    "bottleneck.": "bottleneck.",
    "strip_heads.": "local_conv_list.",
}
_TRAINING_ONLY = ("classifier.", "fc_list.", "mem_rep.", "bn.")


class Translation(NamedTuple):
    """The tensors of a file under the names of a network.

    Attributes:
        state: tensors by the network's names.
        unused: names in the file that are known to be unused.
        may_stay: prefixes of the network's tensors that may be missing in the file.
    """

    state: dict[str, Tensor]
    unused: tuple[str, ...]
    may_stay: tuple[str, ...] = ()


def translate(whole: Mapping[str, Tensor], net: Network) -> Translation:
    """Translate a checkpoint for a network.

    Supported are torchvision's ResNets and MobileNetV2, the two-stream checkpoints of AGW, CAJ,
    ADCA, HCT and MRA, and the transformers of TransReID-SSL, TokenMatcher and CMAG.

    Raises:
        InputError: the checkpoint has another architecture, or a tensor that does not fit.
    """
    form = _format(whole)
    if form == "mobilenet":
        return _from_mobilenet(whole, net)
    if isinstance(net, TwoStream):
        if form in ("transreid", "tokenmatcher"):
            raise InputError(
                "a transformer's checkpoint cannot start a ResNet; set network=base or small"
            )
        read = _from_two_stream if form == "two-stream" else _from_imagenet
        found = read(whole, net)
    elif form == "tokenmatcher":
        found = _from_tokenmatcher(whole, net)
    elif form == "transreid":
        found = _from_transreid(whole, net)
    elif form == "plain":
        raise InputError(
            "its transformer has no ICS stem (patch_embed.conv); use a TransReID-SSL checkpoint "
            "with ics in its name"
        )
    else:
        raise InputError(
            "a ResNet's checkpoint can start a ResNet only; set network=resnet50, or give a "
            ".safetensors file of visir"
        )
    return found


def describe(whole: Mapping[str, Tensor], power: float | None = None) -> dict[str, Any]:
    """Describe the network of a trained checkpoint: the arguments of `build`, and its method.

    Args:
        whole: the checkpoint.
        power: p of GeM pooling, which checkpoints do not contain; 1 is the mean. Networks with
            attention have 3 if it is omitted, all others need it.

    Raises:
        InputError: the checkpoint is not of a known trained network, or the power is missing.
    """
    form = _format(whole)
    if form == "tokenmatcher":
        tokens, positions = whole["cls_token"].shape[1], whole["pos_embed"].shape[1]
        name, image_size = _vit_size(whole), grid_of(positions - tokens)
        patch = SIZES[name].patch
        net = {
            "size": name,
            "image_size": [side * patch for side in image_size],
            "class_tokens": tokens,
        }
        return {"net": net, "method": "tokenmatcher", "precision": "auto"}
    if form == "two-stream":
        return _describe_two_stream(whole, power)
    raise InputError(
        "the file is not a trained network of AGW, CAJ, HCT, MRA, ADCA, TokenMatcher or CMAG; "
        "to start a training from it, use visir train --start"
    )


def _describe_two_stream(whole: Mapping[str, Tensor], power: float | None) -> dict[str, Any]:
    if power is not None and not 0 < power < math.inf:
        raise InputError(f"--gem-p {power}: must be a number above 0; most use 3, HCT also 10")
    own = {name.removeprefix(_VIS).split(".")[0] for name in whole if name.startswith(_VIS)}
    strips = len(_numbers(whole, "local_conv_list."))
    attention = whole.get("NL_2.0.theta.weight")
    if strips and power is None:
        raise InputError(
            "the file does not contain the GeM power of its strips (HCT and MRA use 10 on RegDB "
            "and 3 on SYSU-MM01); give it: visir convert FILE OUT --gem-p 10"
        )
    if not strips and attention is None and power is None:
        raise InputError(
            "the file does not say how its features are pooled: GeM with power 3 (ADCA, and AGW "
            "without attention) or the mean (AGW's method base); give it: visir convert FILE OUT "
            "--gem-p 3, or --gem-p 1 for the mean"
        )
    net = {
        "size": "resnet50",
        "image_size": [288, 144],
        "share_net": 1 if _has_whole_backbones(whole) else len(own & {"conv1", *LAYERS}),
        "non_local": "off",
        "strips": strips,
        "power": 3.0 if power is None else power,
    }
    method = "hct" if strips else "adca"
    if attention is not None:
        net["non_local"] = "published" if attention.shape[0] == 1 else "intended"
        method = "agw"
    if "mem_rep.memory.weight" in whole:
        method = "mra"
    return {"net": net, "method": method, "precision": "auto"}


def _has_whole_backbones(names: Iterable[str]) -> bool:
    """Whether every backbone holds all layers, as in AGW's files; only the shared copy is used."""
    return {f"{backbone}layer4.0.conv1.weight" for backbone in _BACKBONES} <= set(names)


def _numbers(names: Iterable[str], prefix: str) -> set[str]:
    """The part of the names between the prefix and the next dot."""
    return {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}


def _format(names: Iterable[str]) -> str:
    names = list(names)
    if is_mobilenet(names):
        return "mobilenet"
    if any(name.startswith("b1.0.") for name in names):
        return "tokenmatcher"
    if any(name.startswith(_BACKBONES) for name in names):
        return "two-stream"
    if "patch_embed.conv.0.weight" in names:
        return "transreid"
    return "plain" if "patch_embed.proj.weight" in names else "resnet"


def _vit_size(whole: Mapping[str, Tensor]) -> str:
    dim = whole["pos_embed"].shape[2]
    depth = len(_numbers(whole, "blocks."))
    for name, size in SIZES.items():
        if (size.dim, size.depth) == (dim, depth):
            return name
    raise InputError(
        f"a transformer of width {dim} and depth {depth} is none of {', '.join(SIZES)}; use a "
        "checkpoint of one of these"
    )


def grid_of(positions: int) -> tuple[int, int]:
    """(rows, columns) of a grid that is two or three times as high as wide.

    Raises:
        InputError: the positions form no such grid.
    """
    for ratio in (2, 3):
        columns = math.isqrt(positions // ratio)
        if ratio * columns * columns == positions:
            return ratio * columns, columns
    raise InputError(
        f"pos_embed has {positions} positions, which form no grid of 1:2 or 1:3; use a preset "
        "with the image size the file was trained at"
    )


def renamed(
    whole: Mapping[str, Tensor],
    sources: Mapping[str, str],
    spare: tuple[str, ...],
    may_stay: tuple[str, ...] = (),
) -> Translation:
    """Translate by names only; tensors with a prefix in `spare` may remain unused.

    Args:
        whole: the file's tensors.
        sources: name in the file by the name in the network.
        spare: prefixes of names in the file.
        may_stay: prefixes of the network's tensors that may be missing in the file.

    Raises:
        InputError: another tensor of the file is in no source.
    """
    unused = sorted(whole.keys() - sources.values())
    left_over = [name for name in unused if not name.startswith(spare)]
    if left_over:
        raise InputError(f"tensor {left_over[0]} has no place in this network; {SAME}")
    state = {name: whole[source] for name, source in sources.items()}
    return Translation(state, tuple(unused), may_stay)


def _from_imagenet(whole: Mapping[str, Tensor], net: TwoStream) -> Translation:
    """Torchvision's ResNets; the layers of each modality are filled twice."""
    sources = {}
    for name in net.state_dict():
        part, _, rest = name.partition(".")
        if part in ("vis_stem", "ir_stem", "layers") and rest in whole:
            sources[name] = rest
    return renamed(whole, sources, ("fc.",), tuple(HEADS))


def _from_mobilenet(whole: Mapping[str, Tensor], net: Network) -> Translation:
    """Torchvision's MobileNetV2; a transformer uses the first blocks as stems."""
    size = net.described["size"]
    if size not in MOBILENETS:
        raise InputError(
            f"a MobileNetV2 cannot start the network {size}; set network to "
            f"{' or '.join(MOBILENETS)}"
        )
    sources = from_mobilenet(whole, net.state_dict())
    if isinstance(net, TwoStream):
        return renamed(whole, sources, ("classifier.",), tuple(HEADS))
    own = ("cls_token", "pos_embed", "blocks.", "norm.", "bottlenecks.", "shallow.")
    stems = tuple(f"{stem}.proj." for stem in ("vis_stem", "ir_stem"))
    unused = ("classifier.", *(f"features.{number}." for number in range(14, 19)))
    return renamed(whole, sources, unused, (*own, *stems))


def _from_two_stream(whole: Mapping[str, Tensor], net: TwoStream) -> Translation:
    """AGW and its descendants: they hold up to three whole backbones, of which parts are used.

    Memories, classifiers and, in networks with strips, the bottleneck are used in training only.
    """
    if _has_whole_backbones(whole) and net.described["share_net"] != 1:
        raise InputError(
            "its networks share all layers after the stem (the other copies in the file were "
            "never used); set share_net=1"
        )
    sources = {}
    for name in net.state_dict():
        source = _two_stream_name(name, list(net.non_local))
        if source in whole:
            sources[name] = source
    spare = (*_TRAINING_ONLY, *_BACKBONES)
    return renamed(whole, sources, (*spare, "bottleneck.") if net.strips else spare)


def _two_stream_name(name: str, attended: Sequence[str]) -> str:
    """The checkpoints' name of a tensor of visir; `attended`: names of the non-local blocks."""
    if name.startswith("non_local."):
        place, rest = name.removeprefix("non_local.").split(".", 1)
        layer = place.split("_")[0]
        number = [other for other in attended if other.startswith(layer)].index(place)
        rest = rest.replace("g.", "g.0.", 1) if rest.startswith("g.") else rest
        return f"NL_{layer.removeprefix('layer')}.{number}.{rest}"
    part = f"{name.partition('.')[0]}."
    return _TWO_STREAM[part] + name.removeprefix(part)


def _from_tokenmatcher(whole: Mapping[str, Tensor], net: Vit) -> Translation:
    """TokenMatcher and CMAG: the last block and norm that they use are stored as b1."""
    tokens = whole["cls_token"].shape[1] if "cls_token" in whole else net.class_tokens
    if tokens != net.class_tokens:
        raise InputError(
            f"the file has {tokens} class tokens, the network {net.class_tokens}; set "
            f"class_tokens={tokens}"
        )
    last = len(net.blocks) - 1
    replaced = (f"blocks.{last}.", "norm.", "bottleneck.")
    moved = {_VIS: "vis_stem.", _IR: "ir_stem.", "b1.0.": f"blocks.{last}.", "b1.1.": "norm."}
    sources = {}
    for name in whole:
        if name.startswith(replaced):
            continue
        prefix = next((prefix for prefix in moved if name.startswith(prefix)), "")
        sources[moved.get(prefix, "") + name.removeprefix(prefix)] = name
    return renamed(whole, sources, replaced)


def _from_transreid(whole: Mapping[str, Tensor], net: Vit) -> Translation:
    """TransReID-SSL: one stem for both modalities, one class token, positions of another grid.

    Several class tokens keep their random positions: they would be identical otherwise.
    """
    sources = {}
    for name in whole:
        if name.startswith("patch_embed."):
            rest = name.removeprefix("patch_embed.")
            sources[f"vis_stem.{rest}"] = sources[f"ir_stem.{rest}"] = name
        elif name.startswith(("blocks.", "norm.")) or name in ("cls_token", "pos_embed"):
            sources[name] = name
    if whole["cls_token"].shape[1] != 1:
        raise InputError(
            f"the file has {whole['cls_token'].shape[1]} class tokens, a backbone has one; "
            "give the run folder of its training"
        )
    spare = ("head", "dist", "pre_logits", "fc.", "classifier", "bottleneck")
    found = renamed(whole, sources, spare, ("bottlenecks.",))
    state, tokens = found.state, net.class_tokens
    state["cls_token"] = state["cls_token"].expand(-1, tokens, -1)
    own, source = net.pos_embed.detach(), state["pos_embed"]
    grid = resize_positions(source[:, 1:], grid_of(source.shape[1] - 1), net.grid)
    state["pos_embed"] = torch.cat([source[:, :1] if tokens == 1 else own[:, :tokens], grid], dim=1)
    return Translation(net.complete(state), found.unused, found.may_stay)


def to_transreid(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state of a one-token transformer as in TransReID-SSL, with the visible stem."""
    kept = {}
    for name, value in state.items():
        if name.startswith("vis_stem."):
            kept["patch_embed." + name.removeprefix("vis_stem.")] = value
        elif not name.startswith(("ir_stem.", "bottlenecks.", "shallow.")):
            kept[name] = value
    return kept
