"""SG-MRA and MG-MRA: memory regulation and alignment (Chen, Wu, Wu, Wan; arXiv 2021), with labels.

Memory regulation and alignment toward generalizer RGB-infrared person. On HCT or AGW, both
modalities share one memory: every position of the last feature map reads a weighted mean of learned
prototypes and adds it to its features; the pooled sum is trained with an identity loss and centre
triplets. SG-MRA reads part prototypes. MG-MRA averages parts to instances and instances to classes,
reads classes, and aligns the parts that different strips read. The memory is used in training only:
a trained network of MRA is one of HCT, or AGW.

| paper | function |
|---|---|
| memory read with hard shrinkage | `visir.methods.mra.regulation.read` |
| hierarchy of prototypes with learnt weights | `visir.methods.mra.regulation.Regulation.coarser` |
| part alignment | `visir.methods.mra.regulation.alignment` |
| losses of the memory branch | `Mra.loss` |

Deviations: all strips are read in one call; the read of instances, which the released code
computes and discards, is left out; the order of strips is drawn from the seed, so a resumed run
repeats it. On AGW the memory reads the last feature map before the pooling: the paper reports
results on AGW but not this place, so it is ours. `reading=chained` is the figure, `parallel` the
released code. With 6,180 prototypes almost no weight passes the threshold at the start, so nearly
all reads are zero: `memory_alive` in the metrics shows it; `addressing=cosine`, ours, avoids it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.bounds import CountFrom0, Positive, Share
from visir.core.device import product_dtype, to_device
from visir.core.types import Batch, InputError
from visir.data.dataset import TrainingSet
from visir.data.rng import generator
from visir.methods import agw, hct, labelled
from visir.methods.contract import Means, Method, Plan
from visir.methods.mra.regulation import Recalled, Regulation, alignment
from visir.nets.features import Features
from visir.nets.two_stream import Width, in_strips, require_strips


@dataclass(frozen=True)
class Config(hct.Config):
    """Defaults are the authors' for SYSU-MM01 unless marked otherwise."""

    base: Literal["hct", "agw"] = "hct"  # what the memory is attached to [paper: both]
    non_local: Width = "published"  # of AGW, see that method; ours
    granularity: Literal["single", "multi"] = "multi"  # SG-MRA, or MG-MRA [paper]
    classes: CountFrom0 = 206  # coarsest prototypes; 0: one per identity [script: both sets]
    instances: int = 5  # prototypes per class [script]
    parts: int = 6  # prototypes per instance [script]
    threshold: Share = 0.0025  # minimum weight that is used [script]
    reading: Literal["parallel", "chained"] = "parallel"  # of levels [script]; or [figure]
    layout: Literal["mixed", "plain"] = "mixed"  # reshape as released [script], or as intended
    addressing: Literal["dot", "cosine"] = "dot"  # [script]; "cosine" is ours
    address_temperature: Positive = 0.01  # of cosines; ours
    memory_weight: float = 0.1  # weight of the identity loss on the memory branch [script]
    memory_triplets: float = 1.0  # weight of the centre triplets on it [script]
    align_weight: float = 0.1  # weight of the part alignment, MG-MRA [script]
    align_offset: float = 0.1  # subtracted from it, without effect on gradients [script]
    lr: Positive = 0.01  # [readme]
    strip_weight: float = 2.0  # weight of the triplets of single strips [script]
    smoothing: Share = 0.1  # label smoothing [script]


_REGDB: dict[str, Any] = {"lr": 0.1, "people": 8, "images": 4}  # [readme]
# As AGW itself is trained, on every data set [AGW: script].
_AGW: dict[str, Any] = {
    "base": "agw",
    "share_net": 1,
    "people": 8,
    "images": 4,
    "epochs": 81,
    "lr": 0.1,
}
PRESETS = {
    "sysu": Config(),
    "regdb": Config(**_REGDB, power=10.0),  # [HCT's; in the released file of MG-MRA 3]
    "tiny": Config(**hct.TINY, classes=0),
    "sysu-agw": Config(**_AGW),
    "regdb-agw": Config(**_AGW),
    "tiny-agw": Config(
        **{**_AGW, **labelled.TINY, "strips": 4, "classes": 0, "non_local": "intended"}
    ),
    "smoke": Config(**hct.SMOKE, classes=0),
}


class Mra(Method):
    """A base method with a memory that reads its last feature map.

    Raises:
        InputError: strips that do not divide the map, or cannot be halved for the alignment.
    """

    presets: ClassVar[dict[str, Config]] = PRESETS
    config: Config
    learns_from_labels: ClassVar[bool] = True

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        _require_sound(config)
        self.base = _base(config, data, device, seed)
        self.model, self.epochs = self.base.model, config.epochs
        width = self.model.map_dim
        self.branch = nn.ModuleDict(
            {
                "memory": Regulation(
                    width,
                    classes=config.classes or int(labelled.known(data).max()) + 1,
                    instances=config.instances,
                    parts=config.parts,
                    granularity=config.granularity,
                    reading=config.reading,
                    layout=config.layout,
                    addressing=config.addressing,
                    threshold=config.threshold,
                    temperature=config.address_temperature,
                ),
                "bottleneck": nn.BatchNorm1d(width),
                "classifier": labelled.classifier(width, data, bias=False),
            }
        ).to(device)
        self.epoch, self.step = 0, 0
        self.log = Means()

    def optimizer(self) -> torch.optim.Optimizer:
        """The base's gradient descent; the memory branch learns at the backbone's rate."""
        base = self.base
        return labelled.sgd(
            self.config, [base.backbone, self.branch], [base.bottleneck, base.classifier]
        )

    def plan(self, epoch: int) -> Plan:
        """The base's plan; measures of the memory are added to its log."""
        self.epoch, self.step, self.log = epoch, 0, Means()
        return replace(self.base.plan(epoch), log=self.log)

    def steps(self, epoch: int) -> int | None:
        """Those of the method it extends."""
        return self.base.steps(epoch)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """The base's terms, and those of the feature map plus what it reads."""
        config, maps = self.config, outputs.maps
        assert maps is not None
        # (strips, images, positions of a strip, C): the rows of a strip stand together.
        rows = in_strips(maps.float(), config.strips).permute(2, 0, 3, 1)
        flat = rows.flatten(0, 2)
        recalled = self.branch["memory"](flat, product_dtype(self.device, config.precision))
        self._measure(flat, recalled)
        pooled = (rows + recalled.whole.view(rows.shape)).mean(dim=(0, 2))
        logits = self.branch["classifier"](self.branch["bottleneck"](pooled))
        identity = F.cross_entropy(logits, batch.labels, label_smoothing=config.smoothing)
        triplets = hct.centre_triplets(config, pooled, batch)
        terms = {
            **self.base.loss(batch, outputs),
            "memory_identity": config.memory_weight * identity,
            "memory_triplets": config.memory_triplets * triplets,
        }
        if config.granularity == "multi":
            order = generator(self.seed, self.epoch, self.step).permutation(config.strips)
            parts = recalled.parts.view(config.strips, -1, recalled.parts.shape[1])
            apart = alignment(parts, to_device(torch.from_numpy(order), parts.device))
            terms["alignment"] = config.align_weight * (apart - config.align_offset)
        return terms

    @torch.no_grad()
    def _measure(self, inputs: Tensor, recalled: Recalled) -> None:
        """Log the share of positions with a nonzero read, and the norm of reads by features."""
        lengths = {name: of.norm(dim=1) for name, of in recalled._asdict().items()}
        shares = lengths["whole"] / inputs.norm(dim=1).clamp(min=1e-12)
        self.log.add("memory_alive", (lengths["parts"] > 0).float().mean())
        self.log.add("memory_share", shares.mean())

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Count the steps; the order of the strips is drawn from it."""
        self.step += 1

    def state(self) -> dict[str, Any]:
        """The base's state, and the memory branch."""
        return {"base": self.base.state(), "branch": self.branch.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.base.load_state(state["base"])
        self.branch.load_state_dict(state["branch"])

    def step_state(self) -> dict[str, Any]:
        """The number of the step, and the measures of the epoch so far."""
        return {"step": self.step, "seen": self.log.state()}

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        self.step = state["step"]
        self.log.load_state(state["seen"])


def _base(config: Config, data: TrainingSet, device: torch.device, seed: int) -> labelled.Learner:
    if config.base == "hct":
        return hct.Hct(config, data, device, seed)
    known = {field.name for field in fields(agw.Config)}
    shared = {name: value for name, value in vars(config).items() if name in known}
    return agw.Agw(agw.Config(**shared), data, device, seed)


def _require_sound(config: Config) -> None:
    require_strips(config.size[0], config.strips)
    if config.granularity == "multi" and config.strips % 2:
        raise InputError(
            f"setting strips={config.strips} is odd; the alignment compares one half of the strips "
            "with the other: set an even number, or granularity=single"
        )
