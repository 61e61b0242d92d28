"""Agreed neighbours, blockwise, against dense tables."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.agreement import agreeing, agreeing_neighbours
from visir.core.types import InputError


def clustered(count, centres, seed, noise=0.2):
    """Different descriptors of the same images: who is on them does not depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.arange(count) % len(centres)
    return F.normalize(
        centres[chosen] + noise * torch.randn(count, centres.shape[1], generator=generator), dim=1
    )


@pytest.fixture
def views():
    centres = F.normalize(torch.randn(20, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    queries = [clustered(300, centres, seed) for seed in (1, 2, 3)]
    gallery = [clustered(200, centres, seed) for seed in (4, 5, 6)]
    return queries, gallery


def dense(queries, gallery):
    return [(q.double() @ g.double().T).float() for q, g in zip(queries, gallery, strict=True)]


@pytest.mark.parametrize("at_least", [1, 2, 3, None])
@pytest.mark.parametrize("rounded", [True, False])
def test_blocks_equal_the_dense_table(views, at_least, rounded, monkeypatch):
    monkeypatch.setattr("visir.cluster.agreement._ROWS", 70)
    monkeypatch.setattr("visir.cluster.estimates.multiplies_bf16", lambda device: rounded)
    found = agreeing_neighbours(*views, 0.7, at_least).toarray()
    assert (found == agreeing(dense(*views), 0.7, at_least).numpy()).all()
    assert 0 < found.mean() < 1
    assert (found != agreeing(dense(*views), 0.72, at_least).numpy()).any()


def test_features_all_alike_keep_their_differences():
    generator = torch.Generator().manual_seed(0)
    alike = F.normalize(torch.ones(80, 16) + 1e-3 * torch.randn(80, 16, generator=generator), dim=1)
    found = agreeing_neighbours([alike], [alike], 0.9999995).toarray()
    expected = agreeing(dense([alike], [alike]), 0.9999995).numpy()
    assert (found == expected).mean() > 0.999  # the last bit of a float32 decides
    assert expected.mean() < 0.5
    assert np.diag(found).all()


def test_an_image_is_its_own_neighbour_and_nobody_has_none(views):
    queries, gallery = views
    own = agreeing_neighbours(queries, queries, 0.9)
    assert own.diagonal().all()
    nobody = [of[:0] for of in gallery]
    assert agreeing_neighbours(queries, nobody, 0.9).shape == (300, 0)
    assert agreeing_neighbours(nobody, gallery, 0.9).shape == (0, 200)


def test_unusable_features_are_refused(views):
    queries, gallery = views
    queries[1][7] = torch.nan
    with pytest.raises(InputError, match="row 7"):
        agreeing_neighbours(queries, gallery, 0.9)
