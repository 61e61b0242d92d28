"""Memory regulation (SG-MRA, MG-MRA): positions of a feature map read learned prototypes.

A read is a softmax over all prototypes; only weights above a threshold are used. With thousands of
prototypes no weight passes for many positions. These cost one product here and nothing in the
backward pass. Of the other positions a few weights pass, and on a CPU the rest is left out of the
products with the items and of their gradients; the softmax still has a gradient for all.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TINY = 1e-12
_ROWS = 1024  # read at once on a CPU, where a small table stays near the processor
_TABLE = 1 << 27  # numbers of a table on another device, which is waited for once a table
_FEW = 64  # weights of which at most one passes, so that the others are left out
_ENTRIES = 1 << 13  # of them added at once


def read(
    inputs_TC: Tensor,
    keys_MC: Tensor,
    items_MC: Tensor,
    threshold: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """What each input reads: a mean of the items, weighted by softmax with hard shrinkage.

    a = softmax(x keys^T); a <- relu(a - t) a / (|a - t| + 1e-12); a <- a / |a|_1; y = a items.

    Args:
        inputs_TC: (T, C) x.
        keys_MC: (M, C) the keys; as published these are the items.
        items_MC: (M, C).
        threshold: t, of the weights.
        dtype: of the products and their results; the softmax, its gradient, sums over few
            weights and the weights kept for the backward pass are float32.

    Returns:
        (T, C) float32, zero if no weight passes the threshold.
    """
    found: Tensor = _Read.apply(inputs_TC, keys_MC, items_MC, threshold, dtype)
    return found


class _Read(torch.autograd.Function):
    """`read`, block by block, with gradients for inputs with a nonzero read."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        inputs: Tensor,
        keys: Tensor,
        items: Tensor,
        threshold: float,
        dtype: torch.dtype,
    ) -> Tensor:
        few, many = inputs.detach().to(dtype), keys.detach().to(dtype)
        alive, weights = [], []
        at_once = _ROWS if few.device.type == "cpu" else max(_ROWS, _TABLE // max(len(many), 1))
        for start in range(0, len(few), at_once):
            soft = (few[start : start + at_once] @ many.T).float().softmax(dim=1)
            rows = (soft.amax(dim=1) > threshold).nonzero()[:, 0]
            alive.append(rows + start)
            weights.append(soft[rows])
        rows, soft = torch.cat(alive), torch.cat(weights)
        outputs = inputs.new_zeros(len(inputs), items.shape[1], dtype=torch.float32)
        passing = _passing(soft, threshold)
        if passing is not None:
            shrunk = _shrunk(soft[passing], threshold, _Sums(passing, len(rows)))
            _add(outputs, rows[passing[0]], shrunk, items.detach(), passing[1])
        elif len(rows):
            shrunk = _shrunk(soft, threshold, _Sums()).to(dtype)
            outputs[rows] = (shrunk @ items.detach().to(dtype)).float()
        ctx.threshold, ctx.dtype, ctx.passing = threshold, dtype, passing
        ctx.save_for_backward(inputs, keys, items, rows, soft)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        inputs, keys, items, rows, soft = ctx.saved_tensors
        to_inputs, to_keys, to_items = (torch.zeros_like(of) for of in (inputs, keys, items))
        if len(rows):
            towards = _dense_scores if ctx.passing is None else _sparse_scores
            changed, scores = towards(ctx, grads[0][rows], items, soft, to_items)
            rows = rows[changed]
            to_keys.copy_(scores.T @ inputs[rows].to(ctx.dtype))
            to_inputs[rows] = (scores @ keys.to(ctx.dtype)).to(to_inputs.dtype)
        return to_inputs, to_keys, to_items, None, None


Passing: TypeAlias = tuple[Tensor, Tensor]


def _passing(soft: Tensor, threshold: float) -> Passing | None:
    """Rows and columns of the weights above the threshold, on a CPU if they are few; else None.

    There a sum over these alone is faster than a product with all items.
    """
    if soft.device.type != "cpu":
        return None
    rows, columns = (soft > threshold).nonzero(as_tuple=True)
    return (rows, columns) if len(rows) * _FEW <= soft.numel() else None


class _Sums:
    """Sums over each row of a table, or over its entries that pass, (E,), given back to each.

    Args:
        passing: rows and columns of the entries; None for all.
        count: rows of the table, of which some entries are given.
    """

    def __init__(self, passing: Passing | None = None, count: int = 0) -> None:
        self.passing, self.count = passing, count

    def of_rows(self, values: Tensor) -> Tensor:
        """(R, 1)."""
        if self.passing is None:
            return values.sum(dim=1, keepdim=True)
        return values.new_zeros(self.count).index_add_(0, self.passing[0], values)[:, None]

    def __call__(self, values: Tensor) -> Tensor:
        """As `of_rows`, in a shape that goes with that of `values`."""
        sums = self.of_rows(values)
        return sums if self.passing is None else sums[self.passing[0], 0]


def _add(into: Tensor, at: Tensor, weights: Tensor, rows: Tensor, chosen: Tensor) -> None:
    """Add weighted rows: into[at[e]] += weights[e] * rows[chosen[e]]."""
    for some in torch.split(torch.arange(len(at)), _ENTRIES):
        into.index_add_(0, at[some], weights[some, None] * rows[chosen[some]])


def _dense_scores(
    ctx: Any,  # noqa: ANN401
    grad: Tensor,
    items: Tensor,
    soft: Tensor,
    to_items: Tensor,
) -> tuple[slice | Tensor, Tensor]:
    """The gradient of the scores from that of what R rows read; sets `to_items`.

    Returns:
        Which of the R rows have one, and the gradients of these, (r, M).
    """
    sums, content, grad = _Sums(), items.to(ctx.dtype), grad.to(ctx.dtype)
    shrunk = _shrunk(soft, ctx.threshold, sums)
    to_items.copy_(shrunk.to(ctx.dtype).T @ grad)
    slope = _to_soft((grad @ content.T).float(), soft, shrunk, ctx.threshold, sums)
    return slice(None), (soft * (slope - sums(slope * soft))).to(ctx.dtype)


def _sparse_scores(
    ctx: Any,  # noqa: ANN401
    grad: Tensor,
    items: Tensor,
    soft: Tensor,
    to_items: Tensor,
) -> tuple[Tensor, Tensor]:
    """As `_dense_scores`, from the weights that pass alone.

    A row with one such weight reads that item whatever the weight is: its scores have no gradient.
    """
    rows, columns = ctx.passing
    sums, kept = _Sums(ctx.passing, len(soft)), soft[rows, columns]
    shrunk = _shrunk(kept, ctx.threshold, sums)
    _add(to_items, columns, shrunk, grad, rows)
    towards = [
        (grad[a] * items[b]).sum(dim=1)
        for a, b in zip(rows.split(_ENTRIES), columns.split(_ENTRIES), strict=True)
    ]
    slope = kept * _to_soft(torch.cat(towards), kept, shrunk, ctx.threshold, sums)
    several = rows.bincount(minlength=len(soft)) > 1
    changed, place = several.nonzero()[:, 0], several.cumsum(0) - 1
    scores = soft[changed] * -sums.of_rows(slope)[changed]
    inside = several[rows]
    scores[place[rows[inside]], columns[inside]] += slope[inside]
    return changed, scores.to(ctx.dtype)


def _shrunk(soft: Tensor, threshold: float, sums: _Sums) -> Tensor:
    """Softmax weights after the threshold, each row's sum 1."""
    over = soft - threshold
    kept = over.clamp(min=0) * soft / (over.abs() + _TINY)
    return kept / sums(kept).clamp(min=_TINY)


def _to_soft(grad: Tensor, soft: Tensor, shrunk: Tensor, threshold: float, sums: _Sums) -> Tensor:
    """The gradient of softmax weights from that of the shrunk ones."""
    over = (soft - threshold).clamp(min=0)
    kept_sum = sums(over * soft / (over + _TINY)).clamp(min=_TINY)
    grad = (grad - sums(grad * shrunk)) / kept_sum
    return grad * (over / (over + _TINY) + (over > 0) * soft * _TINY / (over + _TINY).square())


class Recalled(NamedTuple):
    """What positions read: `whole` enters the network, `parts` is aligned; (T, C) each."""

    whole: Tensor
    parts: Tensor


class Regulation(nn.Module):
    """A memory of part prototypes, and of coarser ones averaged from them.

    Args:
        width: C of the feature map.
        classes: number of the coarsest prototypes.
        instances: per class.
        parts: prototypes per instance.
        granularity: "single" reads parts only; "multi" averages parts to instances and instances
            to classes, with learned weights, and reads classes.
        reading: "parallel" reads each level with the input, "chained" with the result of the
            finer level.
        layout: how rows are grouped to instances: "mixed" as in the released code, which reshapes
            to every sixth number of a block; "plain" uses whole rows.
        addressing: "dot" products, or "cosine" over `temperature`, with which reads stay nonzero.
        threshold: minimum weight that is used.
        temperature: of cosines.
    """

    def __init__(
        self,
        width: int,
        classes: int = 206,
        instances: int = 5,
        parts: int = 6,
        granularity: Literal["single", "multi"] = "multi",
        reading: Literal["parallel", "chained"] = "parallel",
        layout: Literal["mixed", "plain"] = "mixed",
        addressing: Literal["dot", "cosine"] = "dot",
        threshold: float = 0.0025,
        temperature: float = 0.01,
    ) -> None:
        super().__init__()
        self.shape = (classes, instances, parts)
        self.granularity, self.reading, self.layout = granularity, reading, layout
        self.addressing, self.threshold, self.temperature = addressing, threshold, temperature
        bound = width**-0.5
        self.weight = nn.Parameter(
            torch.empty(classes * instances * parts, width).uniform_(-bound, bound)
        )
        if granularity == "multi":
            self.reweight_parts = nn.Conv1d(parts, parts, 1)
            self.reweight_instances = nn.Conv1d(instances, instances, 1)

    def forward(self, inputs_TC: Tensor, dtype: torch.dtype = torch.float32) -> Recalled:
        """Read for every position.

        Args:
            inputs_TC: (T, C) positions of maps.
            dtype: of the products.
        """
        parts = self._read(inputs_TC, self.weight, dtype)
        if self.granularity == "single":
            return Recalled(parts, parts)
        instances, classes = self.coarser()
        if self.reading == "chained":
            middle = self._read(parts, instances, dtype)
            return Recalled(self._read(middle, classes, dtype), parts)
        return Recalled(self._read(inputs_TC, classes, dtype), parts)

    def coarser(self) -> tuple[Tensor, Tensor]:
        """Prototypes of instances (classes * instances, C), and of classes (classes, C)."""
        classes, instances, parts = self.shape
        width = self.weight.shape[1]
        kernel, bias = self.reweight_parts.parameters()
        mixes = kernel[:, :, 0]
        if self.layout == "mixed":  # as they lie in memory: the parts of a block vary fastest
            blocks = self.weight.reshape(-1, width, parts)
            gates = (blocks @ mixes.T + bias).sigmoid()
            of_instances = (gates * blocks).mean(dim=2)
        else:
            blocks = self.weight.reshape(-1, parts, width)
            gates = (mixes @ blocks + bias[:, None]).sigmoid()
            of_instances = (gates * blocks).mean(dim=1)
        blocks = of_instances.reshape(classes, instances, width)
        of_classes = (self.reweight_instances(blocks).sigmoid() * blocks).mean(dim=1)
        return of_instances, of_classes

    def _read(self, inputs: Tensor, items: Tensor, dtype: torch.dtype) -> Tensor:
        if self.addressing == "dot":
            return read(inputs, items, items, self.threshold, dtype)
        keys = F.normalize(items, dim=1) / self.temperature
        return read(F.normalize(inputs, dim=1), keys, items, self.threshold, dtype)


def alignment(parts_STC: Tensor, order: Tensor) -> Tensor:
    """Part alignment (MG-MRA): the reads of shuffled strips, one half against the other.

    Args:
        parts_STC: (S, T, C) of each strip, S even.
        order: (S,) permutation of the strips.
    """
    first, second = parts_STC[order].chunk(2)
    return F.mse_loss(first, second)
