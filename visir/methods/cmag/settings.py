"""CMAG's settings, each with its source, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from visir.core.bounds import CountFrom0, Positive, PositiveShare, Share
from visir.core.types import InputError, Modality
from visir.data.dataset import TrainingSet
from visir.methods import tokenmatcher
from visir.methods.cmag.carc import Conflicts
from visir.methods.cmag.cats import Closing
from visir.methods.cmag.dcam import Scope


@dataclass(frozen=True)
class Config(tokenmatcher.Config):
    """TokenMatcher's settings and those of the modules; [paper] is CMAG's."""

    stage_epochs: tuple[CountFrom0, CountFrom0] = (50, 100)  # [paper]
    mate_weight: tuple[float, float] = (0.03, 0.03)  # before, after `mate_switch` [test script]
    camera_epochs: tuple[CountFrom0, CountFrom0] = (20, 25)  # if carc=false [tokenmatcher: script]
    cats: bool = True  # cycle-aware topology, a loss on the batch
    cats_k: int = 10  # nearest neighbours of a node [paper]
    cats_p: int = 3  # edges of a path that an edge back closes [paper]
    cats_temperature: Positive = 0.07  # [paper]
    cats_closing: Closing = "transpose"  # closing edge backward [figure], or forward [text]
    cats_simple: bool = False  # only paths over four different images; ours
    cats_extra_edge: bool = True  # from the last to the first neighbour [paper]
    cats_exclude_self: bool = True  # from the sum of the loss [paper: false]
    cats_weight: float = 0.1  # ours
    cats_convolution: bool = False  # graph-convolution branch; its use is ours
    cats_convolution_weight: float = 0.1  # ours
    dcam: bool = True  # cross-modal attention over class tokens
    dcam_reduction: int = 8  # of queries and keys [paper]
    dcam_scope: Scope = "batch_tokens"  # keys of a token; the paper is ambiguous
    dcam_value: Literal["full", "reduced"] = "full"  # its width; the paper is ambiguous
    dcam_gate: float = 0.0  # initial value of the learned factor; ours
    dcam_weight: float = 0.5  # ours
    gsmem: bool = True  # graph over the batch and a queue of earlier features
    gsmem_size: int = 4096  # rows of the queue; ours
    gsmem_start: int = 512  # rows in the queue before it is used; ours
    gsmem_layers: int = 2  # ours
    gsmem_least: int = 3  # minimum number of neighbours of a node [paper]
    gsmem_base: int = 10  # neighbours of a node at density 0 [paper]
    gsmem_beta: float = 0.5  # fewer neighbours per unit of density [paper]
    gsmem_radius: Positive = 0.3  # cosine distance for the density [paper; metric ours]
    gsmem_per_radius: bool = True  # divide the density by the radius [paper]
    gsmem_weight: float = 0.1  # ours
    carc: bool = True  # camera-aware lists instead of TokenMatcher's camera stage
    carc_eps: tuple[PositiveShare, ...] = (0.6,)  # DBSCAN radius in cameras, all or each [paper]
    carc_p0: Share = 0.8  # initial probability for conflicts [paper]
    carc_conflicts: Conflicts = "drop_decays"  # the paper is ambiguous
    ramp: int = 5  # epochs of stage 2 over which module losses grow; ours
    weighting: Literal["fixed", "uncertainty"] = "fixed"  # or learned log-variances; ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(
        **{
            **vars(tokenmatcher.PRESETS["regdb"]),
            "stage_epochs": (50, 100),
            "carc": False,  # one camera of each kind
        }
    ),
    "tiny": Config(
        **{
            **vars(tokenmatcher.PRESETS["tiny"]),
            "camera_epochs": (0, 0),
            "gsmem_size": 512,
            "gsmem_start": 128,
            "carc_eps": (0.5,),
        }
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    stage_epochs=(2, 2),
    iterations=2,
    visible_clusters=2,
    infrared_clusters=2,
    instances=2,
    eps=0.7,
    min_samples=2,
    k1=4,
    k2=2,
    gsmem_size=16,
    gsmem_start=4,
    carc_eps=(0.7,),
    precision="fp32",
)


def require_sound(config: Config, data: TrainingSet) -> None:
    """Refuse settings that leave a module without effect.

    Raises:
        InputError: the settings, and what to set instead.
    """
    if config.cats_simple and config.cats_p != 3:
        raise InputError("setting cats_simple: needs paths of three edges; set cats_p=3")
    start, images = config.gsmem_start, len(data.cams)
    if config.gsmem and start > min(config.gsmem_size, images):
        raise InputError(
            f"setting gsmem_start={start}: a queue of gsmem_size={config.gsmem_size} over {images} "
            "images never holds that many; set gsmem_start lower"
        )
    if config.carc and not config.neighbour_weight:
        raise InputError(
            "setting carc: corrects neighbour lists, but neighbour_weight=0 uses none; set "
            "carc=false"
        )
    if config.carc and all(
        len(np.unique(data.cams[data.rows(modality)])) < 2 for modality in Modality
    ):
        raise InputError(
            "setting carc: needs a modality with several cameras, but each has one here; set "
            "carc=false"
        )
