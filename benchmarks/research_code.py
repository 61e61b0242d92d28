"""TokenMatcher's training and embedding, written as research code is: for `throughput.py`.

Images are decoded and augmented one by one by the workers of a DataLoader; the network is float32,
with attention spelled out; visible and infrared images take their own arguments; losses over
neighbours and updates of memories are loops over the batch. Names of weights are visir's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

SIZE = (384, 128)
DEPTH, DIM, HEADS, TOKENS, DROP = 12, 768, 12, 4, 0.3
NORMALISE = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class Erase:
    """A random box, in one image of two."""

    def __call__(self, image: Tensor) -> Tensor:
        """(3, H, W)."""
        if random.random() >= 0.5:
            return image
        _, height, width = image.shape
        for _ in range(100):
            area = random.uniform(0.02, 0.4) * height * width
            aspect = random.uniform(0.3, 1 / 0.3)
            h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
            if h < height and w < width:
                top, left = random.randint(0, height - h), random.randint(0, width - w)
                for channel, value in enumerate((0.4914, 0.4822, 0.4465)):
                    image[channel, top : top + h, left : left + w] = value
                break
        return image


class OneChannel:
    """One channel for all three; with `gray` also their luma, or the image as it is."""

    def __init__(self, gray: bool) -> None:
        self.gray = gray

    def __call__(self, image: Tensor) -> Tensor:
        """(3, H, W)."""
        chosen = random.randint(0, 3 if self.gray else 2)
        if chosen < 3:
            return image[chosen].expand(3, -1, -1).clone()
        if random.random() < 0.5:
            luma = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
            return luma.expand(3, -1, -1).clone()
        return image


def view(jitter: float, channels: OneChannel | None = None) -> T.Compose:
    """The transforms of one training view."""
    steps: list = [T.Resize(SIZE, T.InterpolationMode.BICUBIC)]
    steps += [T.ColorJitter(jitter, jitter, jitter, jitter)] if jitter else []
    steps += [T.Pad(10), T.RandomCrop(SIZE), T.RandomHorizontalFlip(), T.ToTensor(), NORMALISE]
    return T.Compose([*steps, Erase(), *([channels] if channels else [])])


class Crops(Dataset):
    """Image files, each with the views that are made of it: (views, 3, H, W)."""

    def __init__(self, files: Sequence[tuple[Path, Sequence[T.Compose]]]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Tensor:
        path, views = self.files[row]
        image = Image.open(path).convert("RGB")
        return torch.stack([of(image) for of in views])


def training_loader(
    visible: Sequence[Path], infrared: Sequence[Path], batch: tuple[int, int], jitter: bool,
    batches: int, workers: int,
) -> DataLoader:  # fmt: skip
    """Batches of visible images in two views and infrared ones in one; `jitter`: in all views."""
    every = 0.5 if jitter else 0.0
    two = [view(every), view(0.5, OneChannel(gray=False))]
    files = [(path, two) for path in visible]
    files += [(path, [view(every, OneChannel(gray=True))]) for path in infrared]
    rng, chosen = np.random.default_rng(0), []
    for _ in range(batches):
        vis = rng.integers(len(visible), size=batch[0])
        ir = len(visible) + rng.integers(len(infrared), size=batch[1])
        chosen.append([*vis.tolist(), *ir.tolist()])
    return DataLoader(
        Crops(files), batch_sampler=chosen, num_workers=workers, collate_fn=torch.cat,
        persistent_workers=True,
    )  # fmt: skip


class IBN(nn.Module):
    """Instance norm on half of the channels, batch norm on the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        first, second = torch.split(x, self.half, 1)
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], 1)


class Stem(nn.Module):
    """Three convolutions and a projection: (B, 3, H, W) to (B, T, DIM)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, norm in enumerate((IBN(width), IBN(width), nn.BatchNorm2d(width))):
            kernel = (3, width, 7, 2, 3) if number == 0 else (width, width, 3, 1, 1)
            layers += [nn.Conv2d(*kernel, bias=False), norm, nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, DIM, 8, stride=8)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, T, DIM)."""
        return self.proj(self.conv(x)).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention with the table of all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, DIM) to the same shape."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) * (c // HEADS) ** -0.5).softmax(dim=-1)
        return self.proj((attention @ v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(DIM, 4 * DIM), nn.GELU(), nn.Linear(4 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, DIM) to the same shape."""
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """A transformer block with stochastic depth."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(DIM, eps=1e-6), Attention()
        self.norm2, self.mlp, self.drop = nn.LayerNorm(DIM, eps=1e-6), Mlp(), drop

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, DIM) to the same shape."""
        x = x + self.path(self.attn(self.norm1(x)))
        return x + self.path(self.mlp(self.norm2(x)))

    def path(self, x: Tensor) -> Tensor:
        """Drop the branch of some images."""
        if not self.training or self.drop == 0:
            return x
        keep = 1 - self.drop
        return x.div(keep) * (torch.rand(len(x), 1, 1) + keep).floor()


class Net(nn.Module):
    """The transformer with a stem for each modality and several class tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.vis_stem, self.ir_stem = Stem(), Stem()
        patches = SIZE[0] * SIZE[1] // 256
        self.cls_token = nn.Parameter(torch.zeros(1, TOKENS, DIM))
        self.pos_embed = nn.Parameter(torch.zeros(1, TOKENS + patches, DIM))
        self.blocks = nn.ModuleList(Block(DROP * i / (DEPTH - 1)) for i in range(DEPTH))
        self.norm = nn.LayerNorm(DIM, eps=1e-6)
        self.bottlenecks = nn.ModuleList(nn.BatchNorm1d(DIM) for _ in range(TOKENS))
        for bottleneck in self.bottlenecks:
            bottleneck.bias.requires_grad_(False)

    def forward(self, vis: Tensor | None, ir: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """(B, 4 * DIM) features, and the class tokens before their bottlenecks, (B, DIM) each."""
        stems = [(self.vis_stem, vis), (self.ir_stem, ir)]
        x = torch.cat([stem(images) for stem, images in stems if images is not None])
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        tokens = list(self.norm(x)[:, :TOKENS].unbind(1))
        return torch.cat([of(x) for of, x in zip(self.bottlenecks, tokens, strict=True)], 1), tokens


@torch.no_grad()
def embed(net: Net, paths: Sequence[Path], workers: int) -> np.ndarray:
    """Features of visible images, averaged with those of their mirror images."""
    net.eval()
    steps = [T.Resize(SIZE, T.InterpolationMode.LANCZOS), T.ToTensor(), NORMALISE]
    crops = Crops([(path, [T.Compose(steps)]) for path in paths])
    found = []
    for images in DataLoader(crops, batch_size=64, num_workers=workers, collate_fn=torch.cat):
        both = [F.normalize(net(of, None)[0]) for of in (images, images.flip(3))]
        found.append(F.normalize(both[0] + both[1]).cpu())
    return torch.cat(found).numpy()


class Memory:
    """Prototypes of clusters, updated image by image."""

    def __init__(self, rows: Tensor, momentum: float, temperature: float = 0.05) -> None:
        self.rows, self.momentum, self.temperature = rows, momentum, temperature

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy; images labelled -1 do not count."""
        known = labels >= 0
        logits = F.normalize(features[known]).mm(self.rows.t()) / self.temperature
        return F.cross_entropy(logits, labels[known])

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Blend every image in, one after the other."""
        for x, y in zip(F.normalize(features.detach()), labels.tolist(), strict=True):
            if y >= 0:
                self.rows[y] = self.momentum * self.rows[y] + (1 - self.momentum) * x
                self.rows[y] /= self.rows[y].norm()


def diversity(tokens: Sequence[Tensor]) -> Tensor:
    """Cosines of all pairs of tokens, by their softmax."""
    pairs = []
    for i in range(len(tokens)):
        for j in range(i + 1, len(tokens)):
            pairs.append(F.cosine_similarity(tokens[i], tokens[j]).abs())
    alike = torch.stack(pairs, 1)
    return (alike.softmax(1) * alike).sum(1).mean()


def towards_neighbours(features: Tensor, images: Tensor, mask: Tensor) -> Tensor:
    """Mean cross-entropy towards the neighbours of each image, (B, N) where `mask` is 1."""
    logged = F.log_softmax(F.normalize(features).mm(images.t()) / 0.05, dim=1)
    return -(logged * mask).sum() / mask.sum().clamp(min=1)
