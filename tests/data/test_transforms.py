"""Augmentation: channel operations, erasing, cropping, and draws that depend on nothing else."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from visir.data import transforms
from visir.data.rng import key, uniforms
from visir.data.transforms import (
    ERASED,
    GRAY,
    MEAN,
    STD,
    Augmentation,
    View,
    augment,
    erase,
    exchange,
    jitter_colours,
    normalise,
    turn_hue,
)


def pixels(count=8, height=24, width=12):
    values = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    return torch.from_numpy(values)


def test_normalise_is_the_imagenet_one():
    image = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    expected = (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(normalise(image)[0, :, 0, 0], expected, atol=1e-6)


def test_exchange_copies_one_channel_and_never_leaves_an_image_as_it_is():
    images = torch.rand(3, 3, 4, 4)
    out = exchange(images, torch.tensor([0.1, 0.5, 0.9]), View.EXCHANGE)
    for row in range(3):
        assert torch.equal(out[row], images[row, row].expand(3, -1, -1))


def test_adaptive_gray_branches_and_their_frequencies():
    images = torch.rand(5, 3, 4, 4)
    out = exchange(images, torch.tensor([0.1, 0.3, 0.6, 0.8, 0.95]), View.GRAY)
    gray = sum(weight * images[3, channel] for channel, weight in enumerate(GRAY))
    assert torch.allclose(out[3], gray.expand(3, -1, -1), atol=1e-6)
    assert torch.allclose(out[4], images[4], atol=1e-6)
    for row in range(3):
        assert torch.equal(out[row], images[row, row].expand(3, -1, -1))
    many = torch.rand(1, 3, 1, 1).expand(20_000, 3, 1, 1)
    draws = torch.from_numpy(uniforms(3, np.arange(20_000), 1)[:, 0])
    kept = (exchange(many, draws, View.GRAY) - many).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert kept.float().mean() == pytest.approx(1 / 8, abs=0.01)


def test_erasing_fills_one_box_of_the_stated_area_in_half_of_the_images():
    images = torch.full((4000, 3, 40, 20), 9.0)
    out = erase(images, np.arange(4000), key(1))
    erased = (out != 9.0).all(dim=1)
    share = erased.float().mean(dim=(1, 2))
    hit = share > 0
    assert hit.float().mean() == pytest.approx(0.5, abs=0.03)
    assert share[hit].min() > 0.01
    assert share[hit].max() < 0.43
    for mask in erased[hit][:50]:
        rows, cols = torch.nonzero(mask, as_tuple=True)
        box = (rows.max() - rows.min() + 1) * (cols.max() - cols.min() + 1)
        assert int(box) == int(mask.sum())
    assert torch.allclose(out[hit][0][:, erased[hit][0]][:, 0], torch.tensor(ERASED))


def test_a_view_is_a_window_of_the_padded_image_possibly_mirrored():
    source = pixels(1).expand(64, -1, -1, -1)
    views = augment(source, np.arange(64), Augmentation(View.PLAIN), key(5), pad=2)
    padded = torch.nn.functional.pad(source[:1], (0, 0, 2, 2, 2, 2))
    windows = {}
    for top in range(5):
        for left in range(5):
            window = padded[:, top : top + 24, left : left + 12]
            windows[top, left, False] = normalise(window)[0]
            windows[top, left, True] = normalise(window.flip(2))[0]
    fill = torch.tensor(ERASED).view(3, 1, 1)
    seen = set()
    for view in views:
        kept = (view != fill).any(dim=0)
        match = [
            name
            for name, window in windows.items()
            if torch.allclose(view[:, kept], window[:, kept], atol=1e-5)
        ]
        assert len(match) == 1
        seen.add(match[0])
    assert {name[2] for name in seen} == {True, False}
    assert len(seen) > 20


def test_augmentation_depends_on_row_and_stream_alone():
    source = pixels()
    rows = np.arange(8)
    whole = augment(source, rows, Augmentation(View.GRAY), key(7), pad=3)
    half = augment(source[4:], rows[4:], Augmentation(View.GRAY), key(7), pad=3)
    assert torch.equal(whole[4:], half)
    assert not torch.equal(whole, augment(source, rows, Augmentation(View.GRAY), key(8), pad=3))


def test_draws_are_uniform_and_differ_by_every_part_of_the_key():
    draws = uniforms(key(1, 2, 3), np.arange(50_000), 2)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert draws.mean() == pytest.approx(0.5, abs=0.005)
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.02
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.02
    assert len({key(1, 2), key(2, 1), key(1), key(1, 2, 0), key(-1)}) == 5


def test_turning_the_hue_is_torchvisions():
    images = pixels(2).permute(0, 3, 1, 2).float() / 255
    images[0, :, :4] = 0.3  # grey has no hue to turn
    for turn in (-0.5, -0.21, 0.0, 0.34, 0.5):
        turned = turn_hue(images, torch.full((2, 1, 1, 1), turn))
        assert torch.allclose(turned, reference.adjust_hue(images, turn), atol=1e-5)


def test_jitter_is_torchvisions_in_an_order_of_each_image():
    images, rows, stream = pixels(24), np.arange(24), key(3)
    draws = uniforms(stream, rows, 8)
    changes = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    orders = set()
    found = jitter_colours(images, rows, stream, 0.5)
    for row in range(24):
        image = images[row].permute(2, 0, 1).float() / 255
        order = np.argsort(draws[row, 4:])
        orders.add(tuple(order))
        for number in order:
            amount = draws[row, number] - 0.5
            image = changes[number](image, amount if number == 3 else 1 + amount)
        expected = (255 * image).round().permute(1, 2, 0)
        assert (found[row].float() - expected).abs().max() <= 1
    assert len(orders) > 12
    assert torch.equal(jitter_colours(images[5:6], rows[5:6], stream, 0.5)[0], found[5])


def test_a_view_is_jittered_only_when_asked():
    images, rows = pixels(4), np.arange(4)
    plain = augment(images, rows, Augmentation(View.PLAIN), 7, pad=2)
    assert torch.equal(plain, augment(images, rows, Augmentation(View.PLAIN, 0.0), 7, pad=2))
    assert not torch.equal(plain, augment(images, rows, Augmentation(View.PLAIN, 0.5), 7, pad=2))


def test_chances_of_the_operations_are_the_ones_asked_for():
    images, rows = pixels(2000, 6, 4), np.arange(2000)
    many = torch.rand(1, 3, 1, 1).expand(20_000, 3, 1, 1)
    draws = torch.from_numpy(uniforms(3, np.arange(20_000), 1)[:, 0])
    kept = (exchange(many, draws, View.GRAY, gray=0.8) - many).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert kept.float().mean() == pytest.approx(0.2 / 4, abs=0.01)
    whole = augment(images, rows, Augmentation(View.PLAIN, erasing=0.0), key(3), pad=0)
    mirrored = [normalise(images), normalise(images.flip(2))]
    assert all(any(torch.equal(one, of[row]) for of in mirrored) for row, one in enumerate(whole))
    bleached = augment(images, rows, Augmentation(View.PLAIN, erasing=0.0, bleach=0.3), key(3), 0)
    colours = bleached * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)
    gray = (colours - colours.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert gray.float().mean() == pytest.approx(0.3, abs=0.04)
    assert torch.equal(bleached[~gray], whole[~gray])
    luma = reference.rgb_to_grayscale(images.permute(0, 3, 1, 2))[gray].float()
    found = 255 * colours[gray]
    off = torch.stack([(found - luma).abs(), (found.flip(3) - luma).abs()]).amax(dim=(2, 3, 4))
    assert (off.amin(dim=0) <= 1.01).all()


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("threads", [1, 3])
def test_views_made_one_by_one_are_those_of_the_whole_batch(view, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    images, rows, how = pixels(40), np.arange(40), Augmentation(view)
    found = augment(images, rows, how, 5, pad=4)
    together = transforms._together(images, rows, how, 5, 4)
    assert found.stride() == together.stride()  # convolutions depend on it
    assert torch.equal(found, together)
    assert not torch.allclose(found, transforms._together(images, rows, how, 6, 4), atol=0.1)


def test_the_memory_of_a_batch_is_used_again_only_when_no_one_holds_it():
    images, how = pixels(40), Augmentation(View.PLAIN)
    first = augment(images, np.arange(40), how, 1)
    kept, part = first.clone(), first[3:5]
    place = first.data_ptr()
    del first
    second = augment(images, np.arange(40), how, 2)
    assert second.data_ptr() != place
    assert torch.equal(part, kept[3:5])
    del part
    third = augment(images, np.arange(40), how, 1)
    assert third.data_ptr() == place
    assert torch.equal(third, kept)


def test_colours_moved_one_by_one_are_those_of_the_whole_batch():
    images, rows = pixels(60), np.arange(60)
    images[0], images[1, :, :, 1:] = 0, 0  # black, and of one channel only
    draws = torch.from_numpy(uniforms(7, rows, 8))
    order = draws[:, 4:].argsort(dim=1)
    expected = transforms._jitter_together(images, order, (2 * draws[:, :4] - 1) * 0.5)
    found = jitter_colours(images, rows, 7, 0.5)
    assert torch.equal(found, expected)
    other = transforms._jitter_together(images, order.flip(1), (2 * draws[:, :4] - 1) * 0.5)
    assert (found != other).float().mean() > 0.1
