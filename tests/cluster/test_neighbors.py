"""Nearest neighbours against sorted float64 products, and the bound that proves them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster import cells, estimates, neighbors
from visir.cluster.neighbors import nearest
from visir.core.types import InputError

pytestmark = pytest.mark.slow


def features(count=700, groups=20, dim=48, noise=0.6, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dim))
    rows = centres[rng.integers(groups, size=count)] + noise * rng.normal(size=(count, dim))
    return F.normalize(torch.from_numpy(rows + shift).float(), dim=1)


def by_sorting(sim, k):
    sim = sim.float()
    sim.fill_diagonal_(torch.inf)
    return sim.argsort(dim=1, descending=True, stable=True)[:, :k].numpy()


def slow(feats, k):
    return by_sorting(feats.double() @ feats.double().T, k)


@pytest.mark.parametrize("shift", [0.0, 2.0, 50.0])
@pytest.mark.parametrize("k", [1, 2, 30, 699, 1000])
def test_equals_sorted_products(shift, k):
    feats = features(shift=shift)
    assert (nearest(feats, k) == slow(feats, k)).all()


def test_products_of_rounded_features_alone_would_not_do():
    feats = features()
    low = feats.bfloat16().float()
    assert (by_sorting(low @ low.T, 30) != slow(feats, 30)).any()
    assert (by_sorting((feats @ feats.T).bfloat16(), 30) != slow(feats, 30)).any()


def test_the_second_look_is_needed(monkeypatch):
    feats = features()
    real = estimates.estimator
    monkeypatch.setattr(
        neighbors, "estimator", lambda of: real(of)._replace(slack_N=np.full(len(of), -1.0))
    )
    assert (nearest(feats, 30) != slow(feats, 30)).any()


@pytest.mark.parametrize("shift", [0.0, 1.0, 30.0])
def test_no_product_is_off_by_more_than_the_bound(shift):
    feats = features(shift=shift)
    space = estimates.estimator(feats)
    rows = np.arange(len(feats), dtype=np.int32)
    estimate = space.estimates(rows, space.side(rows)).double().numpy()
    exact = (feats.double() @ feats.double().T).numpy() - space.offset
    error = np.abs(estimate - exact) - estimates.OUTPUT_ROUNDING * np.abs(estimate)
    assert (error <= np.minimum(space.slack_N, space.slack_N[:, None])).all()
    assert (np.abs(estimate - exact) > space.slack_N[:, None] / 10).any()


# findings/own-neighbour.sh
def test_ties_by_row_and_itself_first():
    feats = F.normalize(torch.ones(6, 4), dim=1)
    assert nearest(feats, 3).tolist() == [
        [0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1], [5, 0, 1],
    ]  # fmt: skip


def test_repeated_images_are_ties():
    feats = features(60).repeat(5, 1)[torch.randperm(300, generator=torch.manual_seed(0))]
    assert (nearest(feats, 12) == slow(feats, 12)).all()


def test_blocks_threads_and_units_do_not_show(monkeypatch):
    feats, threads = features(1500), torch.get_num_threads()
    expected = nearest(feats, 10)
    monkeypatch.setattr(neighbors, "_BLOCK", 1500 * 70)
    torch.set_num_threads(3)
    assert (nearest(feats, 10) == expected).all()
    torch.set_num_threads(threads)
    monkeypatch.setattr(estimates, "multiplies_bf16", lambda device: False)
    assert (nearest(feats, 10) == expected).all()


@pytest.mark.parametrize("k", [2, 30])
def test_more_equal_features_than_candidates_are_held(k):
    feats = features(7)[np.random.default_rng(0).integers(7, size=900)]
    assert (nearest(feats, k) == slow(feats, k)).all()


def test_ever_nearer_features_replace_the_ones_before():
    angle = torch.linspace(3, 0, 1500)
    feats = torch.stack([angle.cos(), angle.sin()], dim=1)
    assert (nearest(feats, 30) == slow(feats, 30)).all()


@pytest.mark.parametrize("k", [2, 15, 30])
def test_a_sample_of_columns_to_begin_with_does_not_show(k, monkeypatch):
    feats = torch.cat([features(600), features(1).expand(40, -1)])
    monkeypatch.setattr(neighbors, "_SAMPLE", 20)
    begun = []
    real = neighbors.raise_floors

    def noted(*arguments):
        real(*arguments)
        begun.append(arguments[-1].copy())

    monkeypatch.setattr(neighbors, "raise_floors", noted)
    assert (nearest(feats, k) == slow(feats, k)).all()
    assert bool(begun) == (k < 20)
    assert all((floors > -32768).any() for floors in begun)


def recall(found, expected):
    pairs = zip(found, expected, strict=True)
    return np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in pairs])


@pytest.fixture
def small_cells(monkeypatch):
    monkeypatch.setattr(cells, "_CELL_SIZE", 64)


def test_cells_find_nearly_all_neighbours(small_cells, monkeypatch):
    feats = features(4000, 100, noise=1.0)
    exact = nearest(feats, 30)
    found = nearest(feats, 30, exact_up_to=1000)
    assert (found[:, 0] == np.arange(4000)).all()
    assert all(len(set(row)) == 30 for row in found.tolist())
    assert recall(found, exact) >= 0.95
    monkeypatch.setattr(cells, "_CENTRES_OF_A_ROW", 1)
    monkeypatch.setattr(neighbors, "_ACQUAINTANCES", 1)
    assert recall(nearest(feats, 30, exact_up_to=1000), exact) < 0.9


def test_cells_are_drawn_from_the_seed(small_cells):
    feats = features(3000, 150, noise=1.0)
    first, again, other = (nearest(feats, 30, exact_up_to=1000, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_rows_without_enough_neighbours_in_their_cells_search_everywhere(monkeypatch):
    monkeypatch.setattr(cells, "_CELL_SIZE", 4)
    monkeypatch.setattr(cells, "_CENTRES_OF_A_ROW", 1)
    found = nearest(features(400), 30, exact_up_to=10)
    assert found.min() == 0
    assert all(len(set(row)) == 30 for row in found.tolist())


def test_a_cell_of_equal_images_is_cut(monkeypatch):
    monkeypatch.setattr(cells, "_LARGEST", 128)
    feats = F.normalize(torch.ones(1000, 4), dim=1)
    assert max(map(len, cells.overlapping_cells(feats, 0))) <= 128
    found = nearest(feats, 30, exact_up_to=100)
    assert all(len(set(row)) == 30 for row in found.tolist())


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_fewer_images_than_neighbours(count):
    assert (nearest(features(count), 30) == slow(features(count), 30)).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_refused(value):
    feats = features(50)
    feats[17, 3] = value
    with pytest.raises(InputError, match="row 17 has a number that is not finite"):
        nearest(feats, 5)


@pytest.mark.parametrize("factor", [0.0, 0.5, 3.0])
def test_a_length_other_than_one_is_refused(factor):
    feats = features(50)
    feats[9] *= factor
    with pytest.raises(InputError, match=r"row 9 has length .* L2-normalise"):
        nearest(feats, 5)


def test_features_are_a_matrix():
    with pytest.raises(InputError, match="shape"):
        nearest(torch.ones(3), 2)


def test_features_of_half_precision_and_with_a_gradient_are_taken():
    feats = features(50)
    assert (nearest(feats.clone().requires_grad_(), 5) == nearest(feats, 5)).all()
    half = F.normalize(feats.bfloat16(), dim=1)
    assert (nearest(half, 5) == nearest(half.float(), 5)).all()
