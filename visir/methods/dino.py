"""DINO: self-distillation without labels (Caron et al., ICCV 2021), to pre-train a backbone.

The pre-training behind TransReID-SSL's checkpoints, so that the project does not depend on them. A
student network gets large and small crops of an image. A teacher, the moving average of the
student, gets only the large ones, and the student learns to predict the teacher's outputs. Loss and
heads come from the package lightly.

| paper | function |
|---|---|
| head, 3-layer MLP and weight-normed last layer | `lightly.models.modules.DINOProjectionHead` |
| centred, sharpened cross-entropy, Eq. 1-3 | `lightly.loss.DINOLoss` |
| multi-crop | `Dino._small_crops` |
| momentum teacher | `lightly.models.utils.update_momentum` |

Deviations: views are this project's (crop within a border, flip, erasing, the channel operations of
CAJ, and colour jitter if set), without blur or solarisation; both modalities share one stem and
saved weights hold it twice; small crops are cut from the large views on the device.
"""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.bounds import CountFrom0, Positive, Share
from visir.core.device import to_device
from visir.core.types import Batch, InputError, Modality
from visir.data.dataset import TrainingSet
from visir.data.rng import key, uniforms
from visir.data.samplers import pairs_of_views
from visir.methods.contract import Method, Plan
from visir.methods.schedule import adamw, cosine
from visir.nets.features import Features
from visir.nets.foreign import grid_of
from visir.nets.slices import places
from visir.nets.vit import Block, Vit

_FREEZE_LAST = 1  # epochs in which the last layer of the head does not learn


@dataclass(frozen=True)
class Config:
    """[DINO]: the paper's value for ViT-S; [TransReID-SSL]: its script's value."""

    size: tuple[int, int] = (256, 128)  # height, width of large crops in pixels [TransReID-SSL]
    small_size: tuple[int, int] = (128, 64)  # of small crops [TransReID-SSL]
    network: Literal["micro", "small", "base"] = "small"
    drop_path: Share = 0.1  # [DINO]
    epochs: int = 100  # [TransReID-SSL]
    iterations: int = 500  # batches per epoch; ours
    batch: int = 64  # images of each modality, two large views of each; ours
    small_crops: int = 8  # of an image, half of them from each large view [DINO]
    small_area: tuple[float, float] = (0.05, 0.4)  # share of a large view [DINO]
    outputs: int = 65536  # of the head [DINO]
    hidden: int = 2048  # width of the head [DINO]
    bottleneck: int = 256  # of the head [DINO]
    head_norm: bool = False  # batch norm in the head [DINO: with convolutional networks]
    student_temperature: float = 0.1  # [DINO]
    teacher_temperature: tuple[float, float] = (0.04, 0.07)  # from, to [DINO]
    warmup: CountFrom0 = 10  # epochs in which rate [DINO] and teacher temperature (ours) rise
    teacher_momentum: float = 0.996  # of the start; rises to 1 [DINO]
    lr: Positive = 5e-4  # AdamW; cosine to zero after the warm-up [DINO: for 256 images]
    weight_decay: float = 0.04  # [DINO: rises to .4]
    clip: float = 3.0  # maximum norm of a weight's gradient [DINO]
    pad: CountFrom0 = 10  # pixels; ours
    jitter: Share = 0.0  # of the colours; ours
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(iterations=100),
    "tiny": Config(
        size=(64, 32),
        small_size=(32, 16),
        network="micro",
        drop_path=0.0,
        epochs=10,
        iterations=80,
        batch=16,
        small_crops=2,
        small_area=(0.2, 0.6),
        outputs=512,
        hidden=256,
        bottleneck=64,
        head_norm=True,
        teacher_temperature=(0.04, 0.04),
        warmup=2,
        teacher_momentum=0.99,
        lr=2e-3,
        pad=8,
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    small_size=(16, 8),
    epochs=3,
    iterations=2,
    batch=6,
    small_crops=2,
    outputs=32,
    hidden=16,
    bottleneck=8,
    precision="fp32",
)


class Dino(Method):
    """A student, its teacher, and the head of each.

    Raises:
        InputError: lightly is not installed, or small crops do not fit the patches.
    """

    presets: ClassVar[dict[str, Config]] = PRESETS
    config: Config
    needs_both_modalities: ClassVar[bool] = False
    model: Vit

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        _require_lightly()
        from lightly.loss import DINOLoss

        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs, self.epoch, self.step = config.epochs, 0, 0
        self.model = Vit(config.network, config.size, drop_path=config.drop_path)
        self.model.ir_stem = self.model.vis_stem
        _require_fitting(config, self.model)
        self.head, self.teacher_head = _head(config, self.model), _head(config, self.model)
        self.teacher = deepcopy(self.model)
        self.teacher_head.load_state_dict(self.head.state_dict())
        for block in self.teacher.blocks:
            assert isinstance(block, Block)
            block.drop_path = 0.0
        for module in (self.model, self.head, self.teacher, self.teacher_head):
            module.to(device)
        for module in (self.teacher, self.teacher_head):
            module.requires_grad_(requires_grad=False)
        self.criterion = DINOLoss(
            output_dim=config.outputs,
            warmup_teacher_temp=config.teacher_temperature[0],
            teacher_temp=config.teacher_temperature[1],
            warmup_teacher_temp_epochs=config.warmup,
            student_temp=config.student_temperature,
        ).to(device)

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW over the student and its head; biases and norms do not decay."""
        return adamw([self.model, self.head], self.config.lr, self.config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Shuffled images of the modalities in the data."""
        self.epoch, self.step = epoch, 0
        return Plan(
            stage="pre-training",
            batches=pairs_of_views(
                self.data,
                self.config.batch,
                steps=self.config.iterations,
                seed=self.seed,
                epoch=epoch,
                jitter=self.config.jitter,
            ),
            steps=self.config.iterations,
            lr=cosine(self.config.lr, epoch, self.epochs, self.config.warmup),
        )

    def steps(self, epoch: int) -> int:
        """As set."""
        return self.config.iterations

    def forward(self, batch: Batch) -> Features:
        """Student on large and small crops, then teacher: tokens (B, 2 + crops of a view, dim)."""
        infrared = batch.host.infrared
        large = self.model(batch.images, infrared)
        tokens = [large.tokens]
        for number in range(self.config.small_crops // 2):
            tokens.append(self.model(self._small_crops(batch, number), infrared).tokens)
        with torch.no_grad():
            tokens.append(self.teacher(batch.images, infrared).tokens)
        return Features(large.embedding, torch.cat(tokens, dim=1))

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Cross-entropy of the student's outputs on all crops with the teacher's on large ones."""
        *seen, taught = outputs.tokens.unbind(dim=1)
        with torch.no_grad():
            teacher = self.teacher_head(taught)
        student = [self.head(tokens) for tokens in seen]
        halves = [view for whole in student for view in _by_view(whole, batch)]
        loss: Tensor = self.criterion(_by_view(teacher, batch), halves, epoch=self.epoch)
        return {"dino": loss}

    def _small_crops(self, batch: Batch, number: int) -> Tensor:
        """A small window of every view, (B, 3, h, w): its area and aspect drawn, bilinear."""
        config = self.config
        stream = key(self.seed, self.epoch, self.step, number)
        draws = uniforms(stream, places(len(batch.rows)), 5)
        smallest, largest = config.small_area
        area = smallest + (largest - smallest) * draws[:, 0]
        aspect = (3 / 4) ** (1 - 2 * draws[:, 1])
        tall = np.minimum(np.sqrt(area / aspect), 1)
        wide = np.minimum(np.sqrt(area * aspect), 1)
        turn = np.where(draws[:, 4] < 0.5, -1, 1)
        centre_x, centre_y = (
            (2 * draws[:, i] - 1) * (1 - side) for i, side in ((2, wide), (3, tall))
        )
        zero = np.zeros(len(draws))
        theta = np.stack([[wide * turn, zero, centre_x], [zero, tall, centre_y]]).transpose(2, 0, 1)
        matrix = to_device(torch.from_numpy(theta), batch.images.device).to(batch.images.dtype)
        shape = (len(batch.rows), 3, *config.small_size)
        grid = F.affine_grid(matrix, list(shape), align_corners=False)
        return F.grid_sample(batch.images, grid, align_corners=False, padding_mode="border")

    def before_step(self) -> None:
        """Clip each weight's gradient; the head's last layer does not learn in the first epochs."""
        for weight in (*self.model.parameters(), *self.head.parameters()):
            if weight.grad is not None:
                weight.grad *= (self.config.clip / weight.grad.norm().clamp(min=1e-6)).clamp(max=1)
        for weight in self.head.last_layer.parameters():
            if weight.grad is not None and self.epoch < _FREEZE_LAST:
                weight.grad.zero_()

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Update the teacher; its momentum rises to 1 along a cosine."""
        from lightly.models.utils import update_momentum

        self.step += 1
        done = (self.epoch * self.config.iterations + self.step) / (
            self.epochs * self.config.iterations
        )
        start = self.config.teacher_momentum
        momentum = 1 - (1 - start) * (1 + math.cos(math.pi * done)) / 2
        update_momentum(self.model, self.teacher, momentum)
        update_momentum(self.head, self.teacher_head, momentum)

    def state(self) -> dict[str, Any]:
        """The heads, the teacher, and the centre of its outputs."""
        return {name: module.state_dict() for name, module in self._kept().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, module in self._kept().items():
            module.load_state_dict(state[name])

    def step_state(self) -> dict[str, Any]:
        """The number of the step."""
        return {"step": self.step}

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        self.step = state["step"]

    def _kept(self) -> dict[str, torch.nn.Module]:
        return {
            "head": self.head,
            "teacher": self.teacher,
            "teacher_head": self.teacher_head,
            "criterion": self.criterion,
        }


def _head(config: Config, net: Vit) -> Any:  # noqa: ANN401 - lightly has no types
    from lightly.models.modules import DINOProjectionHead

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its weight norm
        return DINOProjectionHead(
            net.embedding_dim,
            config.hidden,
            config.bottleneck,
            config.outputs,
            batch_norm=config.head_norm,
        )


def _by_view(whole: Tensor, batch: Batch) -> list[Tensor]:
    """The first views of all images, and the second ones; parts come as first, second, ..."""
    found: list[list[Tensor]] = [[], []]
    for modality in Modality:
        for place, view in enumerate(whole[batch.of(modality)].chunk(2)):
            found[place].append(view)
    return [torch.cat(views) for views in found]


def _require_lightly() -> None:
    try:
        import lightly  # noqa: F401
    except ImportError as error:
        raise InputError(
            "pre-training needs the package lightly; install visir with its extra: "
            "pip install 'visir[pretrain]'"
        ) from error


def _require_fitting(config: Config, net: Vit) -> None:
    rows, columns = net.grid
    if grid_of(rows * columns) != net.grid:
        raise InputError(
            f"setting size={config.size[0]},{config.size[1]}: the weights file does not "
            "store the grid, and readers assume a height of two or three times the width; choose "
            "such a size"
        )
    if config.small_crops % 2:
        raise InputError(
            f"setting small_crops={config.small_crops}: must be even, as two views share them"
        )
    if any(side % net.patch for side in config.small_size):
        raise InputError(
            f"setting small_size={config.small_size[0]},{config.small_size[1]}: must be multiples "
            f"of {net.patch}, the network's patch"
        )
