"""How a batch passes through the network: whole, or in slices.

A batch is divided over the processes, and within a process into slices that are computed one after
the other, to need less memory. The outputs of all slices are brought together; the loss is computed
on the whole batch, in every process, and its gradient for the outputs goes back through each slice
(Gao et al., Scaling deep contrastive learning batch size under memory limited setup, 2021). So
memories, queues and pseudo-labels are those of the whole batch, and no method knows of slices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from visir.core import ranks
from visir.core.device import autocast, to_device
from visir.core.types import Batch, BoolArray, Facts, InputError, IntArray, Modality
from visir.data.dataset import Part, TrainingSet, joined
from visir.methods.contract import Method
from visir.nets.features import Features
from visir.nets.slices import Slice, computing, know_slices
from visir.training.settings import Division

_BUCKET = 1 << 24  # gradients added up at once, in numbers


class Loaded(NamedTuple):
    """A batch, and the slices of it that this process computes; none if it is not divided.

    batch: the whole batch, without images if it is divided; slices: their positions in it and
    their images; by_rank: the positions that each process computes, slice after slice.
    """

    batch: Batch
    slices: Sequence[tuple[IntArray, Batch]] = ()
    by_rank: Sequence[IntArray] = ()


class Passes:
    """Forward and backward pass of a method's network.

    Args:
        method: what is trained.
        data: its training images.
        device: of the network.
        division: how batches are divided.
    """

    def __init__(
        self, method: Method, data: TrainingSet, device: torch.device, division: Division
    ) -> None:
        self.method, self.data, self.device, self.division = method, data, device, division
        self.divided = division.slices > 1
        self.graph: Features | None = None  # of the only slice, for the backward pass
        self.before: list[Tensor] = []  # states of the generators before the forward pass
        if self.divided:
            for part in [*vars(method).values(), method.model]:
                if isinstance(part, nn.Module):
                    know_slices(part)

    def load(self, parts: Sequence[Part], stream: int) -> Loaded:
        """Augment what this process computes of a batch; `stream` names seed, epoch and step.

        Raises:
            InputError: there are fewer images than slices.
        """
        pad = self.method.config.pad
        if not self.divided:
            return Loaded(self.data.batch(parts, stream, pad, self.device))
        facts = self.data.facts(parts)
        batch = joined(torch.empty(0, 3, *self.data.pixels.shape[1:3], device=self.device), facts)
        divided = [self._places(rank, facts.infrared.numpy()) for rank in range(ranks.count())]
        slices = []
        for places in divided[ranks.rank()]:
            images = self.data.images(parts, stream, pad, self.device, places)
            own = joined(images, Facts(*(of[torch.from_numpy(places)] for of in facts)))
            slices.append((places, own))
        return Loaded(batch, slices, [np.concatenate(places) for places in divided])

    def forward(self, loaded: Loaded) -> Features:
        """The outputs for the whole batch; gradients reach them, and `backward` the network."""
        if not self.divided:
            with autocast(self.device, self.method.config.precision):
                return self.method.forward(loaded.batch)
        self.before = generator_states(self.device)
        once = len(loaded.slices) == 1
        with torch.set_grad_enabled(once):
            found = [self._slice(loaded, number) for number in range(len(loaded.slices))]
        self.graph = found[0] if once else None
        return self._whole(loaded, found)

    def backward(
        self, total: Tensor, loaded: Loaded, outputs: Features, optimizer: torch.optim.Optimizer
    ) -> None:
        """Set the gradients of all weights, summed over the slices of all processes."""
        torch.autograd.backward(total)
        if not self.divided:
            return
        weights = self._weights(optimizer)
        after = generator_states(self.device)
        sums: list[Tensor | None] = [None] * len(weights)
        for number, (places, _) in enumerate(loaded.slices):
            own = self.graph or self._slice(loaded, number, again=True)
            rows = to_device(torch.from_numpy(places), self.device)
            ends = [
                (end, whole.grad[rows])
                for end, whole in zip(own, outputs, strict=True)
                if end is not None and whole is not None and end.requires_grad
                if whole.grad is not None
            ]
            self.graph = None
            if not ends:  # the loss reads none of the outputs
                continue
            grads = torch.autograd.grad(
                [end for end, _ in ends], weights, [grad for _, grad in ends], allow_unused=True
            )
            sums = [_plus(a, b) for a, b in zip(sums, grads, strict=True)]
        set_generators(after, self.device)
        self._add_up(weights, sums)

    def finite_images(self, loaded: Loaded) -> list[bool]:
        """Of every image of the batch, whether all its numbers are finite."""

        def finite(batch: Batch) -> Tensor:
            return batch.images.isfinite().flatten(1).all(dim=1)

        found = finite(loaded.batch)
        if self.divided:
            own = [Features(finite(part), finite(part)) for _, part in loaded.slices]
            found = self._whole(loaded, own).embedding
        return [bool(one) for one in found.tolist()]

    def _slice(self, loaded: Loaded, number: int, again: bool = False) -> Features:
        """The outputs for one slice; the generators stand as after those for the whole batch."""
        places, own = loaded.slices[number]
        set_generators(self.before, self.device)
        part = Slice(places, len(loaded.batch.rows), self.division.batch_norm == "shared", again)
        with computing(part), autocast(self.device, self.method.config.precision):
            return self.method.forward(own)

    def _places(self, rank: int, infrared: BoolArray) -> list[IntArray]:
        """The positions in the batch of each slice of a process; each has both modalities.

        Every slice gets one image of each modality in turn.
        """
        slices, found = self.division.slices, []
        for modality in Modality:
            rows = np.flatnonzero(infrared == (modality is Modality.INFRARED))
            if 0 < len(rows) < slices or len(infrared) < 2 * slices:
                raise InputError(
                    f"a batch has {len(rows)} {modality.value} of {len(infrared)} images, too few "
                    f"for {self.division.said}, each with two images and some of each modality; "
                    "use fewer --devices or a smaller --accumulate, or set larger batches"
                )
            found.append(rows)
        steps = range(self.division.accumulate)
        starts = [step + self.division.accumulate * rank for step in steps]
        return [np.sort(np.concatenate([of[start::slices] for of in found])) for start in starts]

    def _whole(self, loaded: Loaded, found: Sequence[Features]) -> Features:
        """The outputs of all slices of all processes, in the order of the batch."""
        order = to_device(torch.from_numpy(np.concatenate(loaded.by_rank)), self.device)
        sizes = [len(places) for places in loaded.by_rank]

        def joined(*parts: Tensor | None) -> Tensor | None:
            known = [part for part in parts if part is not None]
            if not known:
                return None
            rows = ranks.gathered(torch.cat(known).detach(), sizes)
            whole = torch.empty_like(rows)
            whole[order] = rows
            return whole.requires_grad_(whole.is_floating_point())

        kept = found if self.method.reads_maps else [one._replace(maps=None) for one in found]
        return Features(*map(joined, *kept))  # type: ignore[arg-type]

    def _weights(self, optimizer: torch.optim.Optimizer) -> list[Tensor]:
        """Everything that learns, each weight once."""
        found = [weight for group in optimizer.param_groups for weight in group["params"]]
        found += self.method.model.parameters()
        return list({id(weight): weight for weight in found if weight.requires_grad}.values())

    def _add_up(self, weights: Sequence[Tensor], sums: Sequence[Tensor | None]) -> None:
        """Add the slices' gradients to those that the loss gives a weight itself.

        The latter are the same in every process: each adds its share, so that all have equal bits.
        """
        share = 1 / ranks.count()
        found = []
        for weight, of_slices in zip(weights, sums, strict=True):
            whole = None if weight.grad is None else weight.grad * share
            grad = _plus(whole, of_slices)
            if grad is not None:
                found.append((weight, grad))
        for bucket in _buckets(found):
            flat = torch.cat([grad.flatten() for _, grad in bucket])
            ranks.add_up(flat)
            ends = torch.split(flat, [grad.numel() for _, grad in bucket])
            for (weight, _), end in zip(bucket, ends, strict=True):
                weight.grad = end.view_as(weight)


def _buckets(found: Sequence[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Weights and gradients of one type, up to a size."""
    bucket: list[tuple[Tensor, Tensor]] = []
    size = 0
    for weight, grad in found:
        if bucket and (size > _BUCKET or grad.dtype != bucket[0][1].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append((weight, grad))
        size += grad.numel()
    if bucket:
        yield bucket


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def generator_states(device: torch.device) -> list[Tensor]:
    """The states of PyTorch's generators that a network on this device draws from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def set_generators(states: Sequence[Tensor], device: torch.device) -> None:
    """Restore what `generator_states` returned."""
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda" and len(states) > 1:
        torch.cuda.set_rng_state(states[1].cpu(), device)


@contextmanager
def naming_memory(where: str, division: Division) -> Iterator[None]:
    """Turn a lack of memory into one sentence.

    Raises:
        InputError: the memory of a GPU or of the machine was used up.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _lacks_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200] or "no reason given"
        raise InputError(
            f"{where}: {ranks.named()}ran out of memory ({reason}); what was saved is kept: start "
            "another run with smaller batches, more --devices or a larger --accumulate "
            f"(now {division.accumulate}), or free memory and continue with --resume"
        ) from error


def _lacks_memory(error: RuntimeError) -> bool:
    """PyTorch has no type of its own for the memory of a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
