"""What gives way if clustering fails in an epoch: the radius, or the memories' momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from visir.cluster.metrics import cluster_sizes, failure
from visir.core.types import InputError, IntArray

Adapt = Literal["nothing", "eps", "momentum"]

_TRIES = 6  # further radii: 1.25^6 reaches from a quarter of a radius to four times it
_STEP = 1.25  # factor from one radius to the next, until a too small and a too large one are known
_MAX_EPS = 0.99  # images at distance 1 share no neighbour
_STEADY = 0.99  # momentum that keeps prototypes nearly in place (SDCL's remedy for a first epoch)


def adapt_eps(
    cluster: Callable[[float], IntArray], eps: float, adapt: bool
) -> tuple[IntArray, float, list[str]]:
    """Pseudo-labels at a radius or, if `adapt` is set and the radius fails, at another one.

    A radius is too large if one cluster holds most images, too small if most images are outliers.
    Other radii are tried in steps of 1.25, and between one that is too large and one that is too
    small at their geometric mean. If all fail, the first with at least two clusters is taken.

    Args:
        cluster: labels at a radius, -1 for outliers.
        eps: the radius.
        adapt: try other radii.

    Returns:
        The labels, their radius, and a warning if it is not `eps`.

    Raises:
        InputError: fewer than two clusters at every radius that was tried.
    """
    small, large, radius = 0.0, np.inf, eps
    tried: dict[float, IntArray] = {}
    for _ in range(1 + _TRIES if adapt else 1):
        tried[radius] = cluster(radius)
        failed = failure(tried[radius])
        if failed == "too large":
            large = radius
        elif failed == "too small":
            small = radius
        radius = _between(small, large)
        if not failed or radius in tried:
            break
    usable = [radius for radius, labels in tried.items() if len(cluster_sizes(labels)) >= 2]
    if not usable:
        raise _unusable(tried)
    radius = min(usable, key=lambda of: bool(failure(tried[of])))
    said = [] if radius == eps else [f"clustering failed at eps {eps:g}; eps {radius:.3g} was used"]
    return tried[radius], radius, said


def _between(small: float, large: float) -> float:
    """The next radius to try; 0 and infinity stand for an unknown limit."""
    if large == np.inf:
        return min(small * _STEP, _MAX_EPS)
    return (small * large) ** 0.5 or large / _STEP


def _unusable(tried: Mapping[float, IntArray]) -> InputError:
    labels = next(iter(tried.values()))
    radii = f"{min(tried):.3g}" if len(tried) == 1 else f"{min(tried):.3g} to {max(tried):.3g}"
    count = len(cluster_sizes(labels))
    return InputError(
        f"clustering gave {count} cluster(s) at eps {radii} on {len(labels)} images; "
        "set another eps or min_samples, add images, or start from a pre-trained network (--start)"
    )


def adapt_momentum(momentum: float, labels: Sequence[IntArray]) -> tuple[float, list[str]]:
    """The memories' momentum for an epoch, raised if one cluster holds most images.

    The prototype of such a cluster would attract all images; with a high momentum it hardly moves
    (SDCL's published remedy for a first epoch that diverges).

    Returns:
        The momentum, and a warning if it was raised.
    """
    if momentum >= _STEADY or "too large" not in map(failure, labels):
        return momentum, []
    return _STEADY, [f"clustering has collapsed; momentum {_STEADY} was used in this epoch"]
