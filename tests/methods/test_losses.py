"""Every loss against slow loops over images and pairs."""

import math
from functools import partial

import pytest
import torch

from visir.methods.losses import (
    batch_hard,
    hetero_centre_triplet,
    nt_xent,
    squared_difference,
    weighted_triplet,
)


def slow(views, temperature, shift=None):
    """Row i and row i + n are two views of one image; `shift` breaks that."""
    rows = [view / view.norm() for view in views]
    half = len(rows) // 2 if shift is None else shift
    total = 0.0
    for i, row in enumerate(rows):
        others = {j: math.exp(float(row @ rows[j]) / temperature) for j in range(len(rows))}
        del others[i]
        total -= math.log(others[(i + half) % len(rows)] / sum(others.values()))
    return total / len(rows)


def test_nt_xent_equals_the_loop():
    views = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    for temperature in (0.1, 0.5):
        loss = float(nt_xent(views, temperature))
        assert math.isclose(loss, slow(views, temperature), rel_tol=1e-5)
        assert not math.isclose(loss, slow(views, temperature, shift=1), rel_tol=1e-2)


def a_batch(seed=0, people=4, images=3, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(people).repeat_interleave(images).repeat(2)
    infrared = torch.arange(len(labels)) >= people * images
    return scale * torch.randn(len(labels), 6, generator=rng), labels, infrared


def softly(distances, sign):
    """Softmax-weighted mean of the distances, towards the far (1) or the near (-1)."""
    weights = [math.exp(sign * d) for d in distances]
    return sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)


def pairs_of(features, labels, row):
    apart = [float((features[row] - other).norm()) for other in features]
    same = [d for d, label in zip(apart, labels, strict=True) if label == labels[row]]
    return same, [d for d, label in zip(apart, labels, strict=True) if label != labels[row]]


def test_weighted_triplets_are_the_double_loop():
    features, labels, _ = a_batch()
    expected = 0.0
    for row in range(len(features)):
        same, others = pairs_of(features, labels, row)
        expected += math.log1p(math.exp(softly(same, 1) - softly(others, -1)))
    expected /= len(features)
    assert float(weighted_triplet(features, labels)) == pytest.approx(expected, rel=1e-4)
    swapped = weighted_triplet(features, labels.roll(1))
    assert float(swapped) != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("sharpness", "scale"), [(1.0, 1.0), (2.0, 0.5)])
def test_squared_difference_is_the_double_loop(sharpness, scale):
    features, labels, _ = a_batch(seed=3)
    close = labels < 2  # two identities keep together, two do not: gaps of both signs
    features[close] = 0.2 * features[close] + 3 * torch.eye(6)[labels[close]]
    expected, signs = 0.0, set()
    for row in range(len(features)):
        same, others = pairs_of(features, labels, row)
        own = softly([sharpness * d for d in same], 1) / sharpness
        other = softly([sharpness * d for d in others], -1) / sharpness
        sign = 1 if other >= own else -1
        signs.add(sign)
        expected += math.log1p(math.exp(-sign * min(scale * (own - other) ** 2, 88)))
    expected /= len(features)
    assert signs == {1, -1}
    found = float(squared_difference(features, labels, sharpness, scale))
    assert found == pytest.approx(expected, rel=1e-3)
    assert float(weighted_triplet(features, labels)) != pytest.approx(expected, rel=1e-2)


def test_batch_hard_is_the_double_loop():
    features, labels, _ = a_batch(seed=1)
    expected = 0.0
    for row in range(len(features)):
        same, others = pairs_of(features, labels, row)
        expected += max(0.0, max(same) - min(others) + 0.3)
    found = float(batch_hard(features, labels, 0.3))
    assert found == pytest.approx(expected / len(features), rel=1e-4)
    assert float(batch_hard(features, labels, 0.0)) != pytest.approx(found, rel=1e-2)


def centre_loss(features, labels, infrared, margin):
    keys = sorted({(int(a), bool(b)) for a, b in zip(labels, infrared, strict=True)})
    centres = torch.stack(
        [features[(labels == label) & (infrared == kind)].mean(dim=0) for label, kind in keys]
    )
    expected = 0.0
    for row, (label, _) in enumerate(keys):
        apart = [float((centres[row] - other).norm()) for other in centres]
        own = max(d for d, (other, _) in zip(apart, keys, strict=True) if other == label)
        far = min(d for d, (other, _) in zip(apart, keys, strict=True) if other != label)
        expected += max(0.0, own - far + margin)
    return expected / len(keys)


def test_hetero_centres_are_the_double_loop_in_any_order():
    features, labels, infrared = a_batch(seed=2)
    expected = centre_loss(features, labels, infrared, 0.3)
    found = float(hetero_centre_triplet(features, labels, infrared))
    assert found == pytest.approx(expected, rel=1e-4)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    again = hetero_centre_triplet(features[order], labels[order], infrared[order])
    assert float(again) == pytest.approx(expected, rel=1e-4)
    assert float(batch_hard(features, labels)) != pytest.approx(expected, rel=1e-2)
    uneven = torch.tensor([0, 1, 2, 5, 12, 13, 14, 17, 18])  # some with fewer images
    parts = (features[uneven], labels[uneven], infrared[uneven])
    assert float(hetero_centre_triplet(*parts)) == pytest.approx(centre_loss(*parts, 0.3), rel=1e-4)


# findings/batch-of-26.sh
@pytest.mark.parametrize("loss", [weighted_triplet, partial(batch_hard, margin=100.0)])
@pytest.mark.parametrize("exact", [True, False])
def test_equal_images_give_a_gradient(loss, exact):
    """Their distance is 0 for whole numbers, else what rounding makes of it, above or below 0."""
    torch.manual_seed(0)
    features = torch.randint(-3, 4, (32, 64)).float() if exact else torch.randn(32, 64)
    features = features.repeat(2, 1).requires_grad_()
    loss(features, torch.arange(32).repeat(2)).backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [weighted_triplet, batch_hard])
def test_features_that_lie_far_apart_still_give_a_gradient(loss):
    features, labels, _ = a_batch(scale=200.0)  # exp of minus such distances is 0
    features.requires_grad_()
    loss(features, labels).backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad.abs().sum() > 0
