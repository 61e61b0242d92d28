"""TokenMatcher's settings, each with its source, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visir.cluster.health import Adapt
from visir.core.types import InputError


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (384, 128)  # input height, width in pixels [script]
    network: Literal["micro", "small", "base"] = "base"  # ViT with ICS stems [paper]
    class_tokens: int = 4  # N [paper]
    drop_path: float = 0.3  # [script]
    stage_epochs: tuple[int, int] = (50, 50)  # [script]
    stage_start: Literal["last", "test-best"] = "last"  # of stage 1, for later ones [script: test]
    iterations: int = 200  # batches an epoch [script]
    visible_clusters: int = 4  # in a batch, of `instances` images, two views each [script]
    infrared_clusters: int = 8  # [script]
    instances: int = 16  # images of a cluster in a batch [script]
    eps: float = 0.6  # DBSCAN radius, Jaccard distance [script]
    adapt: Adapt = "nothing"  # ours: "eps" or "momentum" gives way where clustering fails
    min_samples: int = 4  # neighbours of a core point [script]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: float = 0.05  # [script]
    momentum: tuple[float, float] = (0.2, 0.2)  # weight of old prototypes, by stage [paper]
    mixed_momentum: float = 0.8  # the same in memories of both modalities [paper]
    diversity_weight: float = 1.0  # of the self-diverse constraint [script]
    camera_epochs: tuple[int, int] = (20, 25)  # of each visible, infrared camera [script]
    camera_from: int = 10  # epoch whose labels may be the first to be kept [script]
    camera_iterations: int = 50  # batches an epoch, of one camera [script]
    camera_clusters: int = 8  # in a batch of one camera [script]
    camera_eps: tuple[float, ...] = (0.2, 0.2, 0.6, 0.5, 0.5, 0.2)  # of each, or of all [script]
    neighbour_ratio: float = 0.9  # of the best similarity, above which an image counts [paper]
    agreeing_tokens: int = 4  # that have to agree on a neighbour [script]
    sharers: int = 2  # λ: clusters that may take the same partner [paper]
    cross_weight: float = 0.4  # [paper]
    neighbour_weight: float = 0.5  # [paper]
    mate_weight: tuple[float, float] = (0.03, 0.12)  # before, after `mate_switch` [paper, script]
    mate_switch: int = 36  # epoch of stage 2 [script]
    lists: Literal["own", "first"] = "own"  # whose list an image learns from [RegDB script: first]
    filter: Literal["all", "skipping"] = "all"  # camera conflicts dropped [script: skipping]
    groups: Literal["across", "any"] = "across"  # of stage 2: other cameras first [script: any]
    outlier_cluster: bool = False  # silhouettes take outliers for a cluster [script: they do]
    updates: Literal["once", "between"] = "once"  # memories' within a step [script: between losses]
    optimizer: Literal["sgd", "adam"] = "sgd"  # [script]
    lr: tuple[float, float] = (3.5e-4, 3.5e-5)  # of stages 1 (and camera stage) and 2 [paper]
    least_lr: tuple[float, float] = (1e-6, 1e-7)  # at the end of a stage's cosine [script]
    weight_decay: float = 5e-4  # [script]
    pad: int = 10  # border before the random crop, pixels [script]
    jitter: float = 0.5  # of brightness, contrast, saturation, hue [script]
    jitter_all: tuple[bool, bool] = (False, True)  # by stage: or second visible views only [script]
    center_cameras: bool = False  # ours: cluster and match features less their camera's mean
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(
        class_tokens=6,
        agreeing_tokens=6,
        stage_epochs=(35, 35),
        iterations=100,
        eps=0.2,
        camera_epochs=(0, 0),  # one camera of each kind
        neighbour_weight=0.1,
        mate_weight=(0.01, 0.01),
        mate_switch=35,
        momentum=(0.8, 0.2),
        lr=(3.5e-5, 3.5e-5),
        least_lr=(1e-7, 1e-7),
        jitter_all=(True, True),
    ),
    "tiny": Config(
        size=(64, 32),
        network="micro",
        drop_path=0.0,
        stage_epochs=(10, 20),
        iterations=40,
        visible_clusters=8,
        infrared_clusters=16,
        instances=4,
        eps=0.5,
        adapt="eps",
        k1=16,
        camera_epochs=(2, 2),
        camera_from=0,
        camera_iterations=10,
        camera_eps=(0.5,),
        neighbour_ratio=0.7,  # at .9 a list of this network holds the image alone
        mate_switch=20,
        optimizer="adam",
        lr=(1e-3, 1e-3),
        least_lr=(1e-4, 1e-4),
        pad=4,
        jitter=0.0,
        center_cameras=True,
    ),
}


def require_sound(config: Config) -> None:
    """Refuse settings that leave a part without effect.

    Raises:
        InputError: which, and the mend.
    """
    if not any(config.stage_epochs):
        raise InputError("--set: stage_epochs=0,0 trains nothing; give one of the stages an epoch")
    if config.agreeing_tokens > config.class_tokens:
        raise InputError(
            f"--set: agreeing_tokens={config.agreeing_tokens} of class_tokens="
            f"{config.class_tokens} can never agree; set it to {config.class_tokens} at most"
        )
    for epochs in filter(None, config.camera_epochs):
        if epochs <= config.camera_from:
            raise InputError(
                f"--set: a camera's {epochs} epochs (camera_epochs) end before camera_from="
                f"{config.camera_from}, so none of its labels is kept; set camera_from lower"
            )


def radii_of(name: str, radii: tuple[float, ...], cameras: list[int]) -> dict[int, float]:
    """The clustering radius of every camera, from one for all or one for each.

    Args:
        name: of the setting.
        radii: its value.
        cameras: their numbers, rising.

    Raises:
        InputError: as many radii as neither.
    """
    if len(radii) not in (1, len(cameras)):
        raise InputError(
            f"--set: {name} has {len(radii)} radii, the data {len(cameras)} cameras "
            f"({', '.join(map(str, cameras))}); give one for all, or one for each"
        )
    return dict(zip(cameras, radii * (len(cameras) if len(radii) == 1 else 1), strict=True))
