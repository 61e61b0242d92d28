"""Vision transformer with one ICS stem per modality and N class tokens.

The backbone of TransReID-SSL (Luo et al., 2021: ICS, an IBN-convolution stem before ViT) in the
two-stem, many-token form of TokenMatcher and CMAG: visible and infrared images have separate stems
and share every transformer block; the outputs are N class tokens, each with its own batch-norm
bottleneck. The concatenated N outputs of the bottlenecks are the embedding.

SDCL (Yang et al., CVPR 2024) computes a second, shallow embedding with the same network: one more
block and norm are applied to the patch embeddings before any block, with the deep class tokens as
queries.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.types import InputError
from visir.nets.features import Features, by_stem
from visir.nets.slices import uniform
from visir.nets.stems import VitSize, make_stem

SIZES = {
    # visir's own, for CPUs: 0.8 M weights
    "micro": VitSize(dim=128, depth=3, heads=4, stem=32, patch=8),
    # visir's own: the first layers of resnet-micro, or of ImageNet's MobileNetV2, as stems
    "hybrid-micro": VitSize(dim=128, depth=2, heads=4, stem=16, patch=16, kind="resnet"),
    "hybrid-mobilenet": VitSize(dim=192, depth=2, heads=6, stem=96, patch=16, kind="mobilenet"),
    "small": VitSize(dim=384, depth=12, heads=6, stem=64, patch=16),
    "base": VitSize(dim=768, depth=12, heads=12, stem=64, patch=16),
}


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, read: int | None = None) -> Tensor:
        """(B, T, dim) to the same shape, or to (B, read, dim): what the first tokens attend to."""
        dim = x.shape[2]
        if read is None:
            q, k, v = (self._by_head(of) for of in self.qkv(x).chunk(3, dim=2))
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            q = self._by_head(F.linear(x[:, :read], weight[:dim], bias[:dim]))
            both = F.linear(x, weight[dim:], bias[dim:])
            k, v = (self._by_head(of) for of in both.chunk(2, dim=2))
        out: Tensor = self.proj(_attend(q, k, v).transpose(1, 2).flatten(2))
        return out

    def _by_head(self, x: Tensor) -> Tensor:
        """(B, T, dim) to (B, heads, T, dim / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, dim) to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block; stochastic depth drops each branch per sample."""

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)
        self.drop_path = drop_path

    def forward(self, x: Tensor, read: int | None = None) -> Tensor:
        """(B, T, dim) to the same shape, or to (B, read, dim) if only the first tokens are read."""
        x = x[:, :read] + self._drop(self.attn(self.norm1(x), read))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        mask = uniform(len(branch), branch.device) < keep
        return branch * (mask / keep).to(branch.dtype)


class Vit(nn.Module):
    """The two-stem transformer.

    Args:
        size: one of `SIZES`.
        image_size: (height, width) in pixels, each a multiple of the size's patch.
        class_tokens: N, the number of class tokens.
        drop_path: stochastic depth of the last block; earlier blocks rise to it linearly from 0.
        shallow: append SDCL's shallow tokens to the deep ones.

    Attributes:
        described: the arguments of `visir.nets.build.build` for this network, except the image
            size.
        embedding_dim: width of the embedding.
        patch: side of a patch in pixels.
        grid: (rows, columns) of patches.

    Raises:
        InputError: the size is unknown, or the image size is not a multiple of the patch.
    """

    def __init__(
        self,
        size: str = "micro",
        image_size: tuple[int, int] = (96, 48),
        class_tokens: int = 1,
        drop_path: float = 0.0,
        shallow: bool = False,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise InputError(f"network size {size!r} is unknown; choose one of {', '.join(SIZES)}")
        shape = SIZES[size]
        if any(side % shape.patch for side in image_size):
            raise InputError(
                f"image size {image_size[0]}x{image_size[1]} does not fit the network {size}: "
                f"both sides must be multiples of {shape.patch}"
            )
        self.patch = shape.patch
        rows, columns = self.grid = image_size[0] // shape.patch, image_size[1] // shape.patch
        self.vis_stem = make_stem(shape)
        self.ir_stem = make_stem(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, class_tokens, shape.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, class_tokens + rows * columns, shape.dim))
        rates = [drop_path * i / max(shape.depth - 1, 1) for i in range(shape.depth)]
        self.blocks = nn.ModuleList(Block(shape.dim, shape.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(shape.dim, eps=1e-6)
        outputs = class_tokens * (2 if shallow else 1)
        self.bottlenecks = nn.ModuleList(nn.BatchNorm1d(shape.dim) for _ in range(outputs))
        self.described = {"size": size, "class_tokens": class_tokens, "shallow": shallow}
        self.class_tokens = class_tokens
        self.embedding_dim = outputs * shape.dim
        self.apply(_initialise)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.normal_(parameter, std=0.02)  # trunc_normal_ draws otherwise by torch version
        self.pos_embed.data[:, class_tokens:] = _positions(shape.dim, rows, columns)
        for bottleneck in self.bottlenecks:
            bottleneck.bias.requires_grad_(False)
        # Both modalities start with the same weights, like two copies of one pre-trained stem.
        self.ir_stem.load_state_dict(self.vis_stem.state_dict())
        self.shallow = nn.ModuleDict() if shallow else None
        if self.shallow is not None:
            self.shallow["block"] = deepcopy(self.blocks[-1])
            self.shallow["norm"] = deepcopy(self.norm)

    def forward(self, images: Tensor, infrared: Tensor) -> Features:
        """Compute the features of a mixed batch.

        Args:
            images: (B, 3, H, W), normalised; for another size than the network's, the position
                embeddings are resized.
            infrared: (B,) bool, True for images that use the infrared stem.
        """
        patches = by_stem(self.vis_stem, self.ir_stem, images, infrared)
        tokens = self.cls_token.to(patches.dtype).expand(len(patches), -1, -1)
        embedded = torch.cat([tokens, patches], dim=1) + self._positions_of(images)
        x = embedded
        for block in self.blocks[:-1]:
            x = block(x)
        read = self.class_tokens
        tokens = self.norm(self.blocks[-1](x, read))
        if self.shallow is not None:
            query = torch.cat([x[:, :read], embedded[:, read:]], dim=1)
            shallow = self.shallow["norm"](self.shallow["block"](query, read))
            tokens = torch.cat([tokens, shallow], dim=1)
        tokens = tokens.float()
        return Features(self.embed_tokens(tokens).float(), tokens)

    def _spread(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy the state of a network with one class token for all class tokens of this one."""
        drawn, positions = self.pos_embed.detach()[:, : self.class_tokens], state["pos_embed"]
        spread = {
            **state,
            "cls_token": state["cls_token"].expand(-1, self.class_tokens, -1),
            "pos_embed": torch.cat(
                [positions[:, :1] + drawn.to(positions), positions[:, 1:]], dim=1
            ),
        }
        for name, value in state.items():
            if name.startswith("bottlenecks.0."):
                for number in range(1, self.class_tokens):
                    spread[name.replace(".0.", f".{number}.", 1)] = value
        return spread

    def _positions_of(self, images: Tensor) -> Tensor:
        """Position embeddings, (1, N + T, dim), for images of this size."""
        grid = images.shape[2] // self.patch, images.shape[3] // self.patch
        if grid == self.grid:
            return self.pos_embed
        of_tokens = self.pos_embed[:, : self.class_tokens]
        of_grid = self.pos_embed[:, self.class_tokens :]
        return torch.cat([of_tokens, resize_positions(of_grid, self.grid, grid)], dim=1)

    def embed_tokens(self, tokens: Tensor, keep_statistics: bool = False) -> Tensor:
        """Apply each token's bottleneck and concatenate: (B, N, dim) to (B, N * dim).

        Args:
            tokens: one for each bottleneck.
            keep_statistics: normalise by the batch without updating the running statistics, for an
                additional pass in training.
        """
        if keep_statistics:
            found = []
            for token, of in zip(tokens.unbind(1), self.bottlenecks, strict=True):
                weight, bias = of.parameters()
                found.append(F.batch_norm(token, None, None, weight, bias, training=True))
            return torch.cat(found, dim=1)
        return torch.cat([of(tokens[:, i]) for i, of in enumerate(self.bottlenecks)], dim=1)

    def complete(
        self, state: dict[str, Tensor], image_size: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """Return a state with the tensors that it lacks for this network.

        A single class token is copied for all class tokens, each with this network's random
        position added; a missing shallow branch is copied from the deep one; positions are resized.

        Args:
            state: of a network of this size.
            image_size: (height, width) in pixels of its images; this network's if None.
        """
        rows, columns = (side // self.patch for side in image_size or (0, 0))
        if image_size and (rows, columns) != self.grid and "pos_embed" in state:
            positions = state["pos_embed"].float()
            tokens = positions.shape[1] - rows * columns
            moved = resize_positions(positions[:, tokens:], (rows, columns), self.grid)
            state = {**state, "pos_embed": torch.cat([positions[:, :tokens], moved], dim=1)}
        if "cls_token" in state and state["cls_token"].shape[1] == 1 < self.class_tokens:
            state = self._spread(state)
        if self.shallow is None or any(name.startswith("shallow.") for name in state):
            return state
        last, copies = len(self.blocks) - 1, dict(state)
        for name, value in state.items():
            if name.startswith(f"blocks.{last}."):
                copies[name.replace(f"blocks.{last}.", "shallow.block.", 1)] = value
            elif name.startswith("norm."):
                copies[f"shallow.{name}"] = value
            elif name.startswith("bottlenecks."):
                _, number, field = name.split(".")
                copies[f"bottlenecks.{int(number) + self.class_tokens}.{field}"] = value
        return copies


def resize_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize position embeddings (1, rows * columns, dim) to another grid, bilinearly."""
    image = positions.reshape(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=new, mode="bilinear", align_corners=False)
    return image.flatten(2).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention; on a CPU that trains in bf16, with the float32 kernel.

    The bf16 backward kernel for CPUs is four times slower than the float32 one.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v)


def _initialise(module: nn.Module) -> None:
    """Xavier for linear layers, He for convolutions.

    With the usual N(0, .02) the branches of a narrow transformer are so small that it hardly learns
    without a pre-trained start.
    """
    if isinstance(module, Attention):
        for weight in module.qkv.weight.data.chunk(3):
            nn.init.xavier_uniform_(weight)
        nn.init.xavier_uniform_(module.proj.weight)
    elif isinstance(module, Mlp):
        for layer in (module.fc1, module.fc2):
            nn.init.xavier_uniform_(layer.weight)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _positions(dim: int, rows: int, columns: int) -> Tensor:
    """Sines and cosines of both coordinates, (rows * columns, dim), about as large as a token."""
    rate = 100.0 ** -(torch.arange(dim // 4) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [axis.flatten()[:, None] * rate for axis in (y, x)]
    return 0.5 * torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)
