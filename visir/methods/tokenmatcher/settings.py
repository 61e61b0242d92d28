"""TokenMatcher's settings, each with its source, and presets of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from visir.cluster.adapt import Adapt
from visir.cluster.associate import AssociationName
from visir.core.bounds import CountFrom0, Positive, PositiveShare, Share
from visir.core.types import InputError
from visir.methods.contract import StageStart
from visir.nets.build import VitName


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (384, 128)  # input height, width in pixels [script]
    network: VitName = "base"  # ViT with ICS stems [paper]
    class_tokens: int = 4  # N [paper]
    drop_path: Share = 0.3  # [script]
    stage_epochs: tuple[CountFrom0, CountFrom0] = (50, 50)  # [script]
    stage_start: StageStart = "last"  # epoch later stages continue from [script: test-best]
    iterations: int = 200  # batches per epoch [script]
    visible_clusters: int = 4  # per batch, with two views of each image [script]
    infrared_clusters: int = 8  # per batch [script]
    instances: int = 16  # images of each cluster in a batch [script]
    eps: PositiveShare = 0.6  # DBSCAN radius, Jaccard distance [script]
    adapt: Adapt = "nothing"  # ours: what is changed if clustering fails
    min_samples: int = 4  # neighbours of a core point [script]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: Positive = 0.05  # [script]
    momentum: tuple[Share, Share] = (0.2, 0.2)  # weight of old prototypes, by stage [paper]
    mixed_momentum: Share = 0.8  # the same in the memories of both modalities [paper]
    diversity_weight: float = 1.0  # of the self-diverse constraint [script]
    camera_epochs: tuple[CountFrom0, CountFrom0] = (20, 25)  # per visible, infrared camera [script]
    camera_from: CountFrom0 = 10  # first epoch whose labels may be kept [script]
    camera_iterations: int = 50  # batches per epoch, of one camera [script]
    camera_clusters: int = 8  # per batch of one camera [script]
    camera_eps: tuple[PositiveShare, ...] = (0.2, 0.2, 0.6, 0.5, 0.5, 0.2)  # each, or all [script]
    neighbour_ratio: Share = 0.9  # of the highest similarity; a neighbour exceeds it [paper]
    agreeing_tokens: int = 4  # tokens that must agree on a neighbour [script]
    association: AssociationName = "greedy"  # of visible and infrared clusters [paper]
    vote_threshold: float = 0.5  # minimum cosine of voting images, association=count; ours
    sharers: int = 2  # λ: clusters that may take the same partner [paper]
    split_weight: float = 0.0  # of BMIL's split-and-contrast loss in stage 2; ours
    cross_weight: float = 0.4  # [paper]
    neighbour_weight: float = 0.5  # [paper]
    mate_weight: tuple[float, float] = (0.03, 0.12)  # before, after `mate_switch` [paper, script]
    mate_switch: CountFrom0 = 36  # epoch of stage 2 [script]
    lists: Literal["own", "first"] = "own"  # whose list an image uses [RegDB script: first]
    filter: Literal["all", "skipping"] = "all"  # conflicts dropped [script: skipping]
    groups: Literal["across", "any"] = "across"  # of stage 2: prefer other cameras [script: any]
    outlier_cluster: bool = False  # treat outliers as a cluster in silhouettes [script: true]
    updates: Literal["once", "between"] = "once"  # of memories in a step [script: between losses]
    optimizer: Literal["sgd", "adam"] = "sgd"  # [script]
    lr: tuple[Positive, Positive] = (3.5e-4, 3.5e-5)  # of stages 1 (and camera stage) and 2 [paper]
    least_lr: tuple[float, float] = (1e-6, 1e-7)  # at the end of each stage's cosine [script]
    weight_decay: float = 5e-4  # [script]
    pad: CountFrom0 = 10  # border before the random crop, pixels [script]
    jitter: Share = 0.5  # of brightness, contrast, saturation, hue [script]
    jitter_all: tuple[bool, bool] = (False, True)  # by stage; or second visible views [script]
    center_cameras: bool = False  # ours: subtract each camera's mean before clustering
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
        neighbour_ratio=0.7,  # at .9 lists of this network hold the image itself only
        mate_switch=20,
        optimizer="adam",
        lr=(1e-3, 1e-3),
        least_lr=(1e-4, 1e-4),
        pad=4,
        jitter=0.0,
        center_cameras=True,
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    stage_epochs=(1, 2),
    iterations=2,
    visible_clusters=2,
    infrared_clusters=2,
    instances=2,
    eps=0.7,
    min_samples=2,
    k1=4,
    k2=2,
    camera_epochs=(2, 1),
    camera_iterations=2,
    camera_clusters=2,
    camera_eps=(0.7,),
    precision="fp32",
)


def require_sound(config: Config) -> None:
    """Refuse settings that leave a part without effect.

    Raises:
        InputError: the settings, and what to set instead.
    """
    if not any(config.stage_epochs):
        raise InputError(
            "setting stage_epochs=0,0: nothing is trained; set an epoch for one of the stages"
        )
    if config.agreeing_tokens > config.class_tokens:
        raise InputError(
            f"setting agreeing_tokens={config.agreeing_tokens}: there are only class_tokens="
            f"{config.class_tokens}; set it to {config.class_tokens} at most"
        )
    for epochs in filter(None, config.camera_epochs):
        if epochs <= config.camera_from:
            raise InputError(
                f"setting camera_epochs: the {epochs} epochs of a camera end before camera_from="
                f"{config.camera_from}, so none of its labels is kept; set camera_from lower"
            )


def radii_of(name: str, radii: tuple[float, ...], cameras: list[int]) -> dict[int, float]:
    """The clustering radius of every camera, from one for all or one for each.

    Args:
        name: of the setting.
        radii: its value.
        cameras: their numbers, rising.

    Raises:
        InputError: neither one radius nor one per camera.
    """
    if len(radii) not in (1, len(cameras)):
        raise InputError(
            f"setting {name} has {len(radii)} radii, the data {len(cameras)} cameras "
            f"({', '.join(map(str, cameras))}); give one for all, or one for each"
        )
    if len(radii) == 1:
        return dict.fromkeys(cameras, radii[0])
    return dict(zip(cameras, radii, strict=True))
