"""Matches found block by block are those of whole matrices of cosines, bit for bit."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster import margins
from visir.cluster.matches import Side, mutual
from visir.cluster.unpaired import unpaired
from visir.core.types import Modality

VIS, IR = Modality.VISIBLE, Modality.INFRARED
SETTINGS = [
    {"scaled": scaled, "one_sided": one_sided, "chance": chance}
    for scaled in (0, 5)
    for one_sided in (1.0, 0.1)
    for chance in (1.0, 0.4)
]


def drawn(seed, vis=45, ir=90):
    """A cluster an image; people resemble each other more or less, as the seed has it."""
    rng = np.random.default_rng(seed)
    who = rng.normal(size=(max(vis, ir), 16))

    def side(count):
        rows = who[:count] + (0.2, 0.5, 1.0)[seed % 3] * rng.normal(size=(count, 16))
        return Side(F.normalize(torch.from_numpy(rows).float(), dim=1), np.arange(count))

    return side(vis), side(ir)


def tied(seed, vis=45, ir=90):
    """Cosines are multiples of 1/8, exact in any order of summation, so that many are equal."""
    rng = np.random.default_rng(seed)

    def side(count):
        rows = rng.choice([-0.25, 0.25], size=(count, 16))
        return Side(torch.from_numpy(rows).float(), np.arange(count))

    return side(vis), side(ir)


INPUTS = [of(seed, *sizes) for of in (drawn, tied) for seed in range(4)
          for sizes in ((45, 90), (90, 45))]  # fmt: skip


def spacings(row, within, one_person):
    """A cluster's margin and its margin by chance, by a loop over the clusters like it."""
    largest = np.argpartition(-row, min(64, len(row)) - 1)[:64]
    best = []
    for cluster in largest[np.argsort(-row[largest], kind="stable")]:
        if all(within[cluster, other] < one_person for other in best):
            best.append(cluster)
    if len(best) < 3:
        return np.nan, np.nan
    return row[best[0]] - row[best[1]], 2 * (row[best[1]] - row[best[2]])


def slow_p_values(sim, within, one_person=0.6):
    found = [spacings(row, within, one_person) for row in sim]
    null = [by_chance for _, by_chance in found if not np.isnan(by_chance)]
    larger = [
        sum(other >= margin for other in null) if not np.isnan(margin) else len(null)
        for margin, _ in found
    ]
    return ((np.array(larger) + 1) / (len(null) + 1)).astype(np.float32)


def slow_mutual(vis, ir, scaled, one_sided, chance, one_person=0.6):
    """From whole matrices of cosines, cluster by cluster."""
    vis, ir = vis.features, ir.features
    sim = (vis @ ir.T).numpy()
    sure_vis, sure_ir = np.ones(len(vis), bool), np.ones(len(ir), bool)
    if chance < 1:
        within = [(of @ of.T).numpy() for of in (ir, vis)]
        sure_vis, sure_ir = (
            margins.q_values(slow_p_values(rows, other, one_person)) <= chance
            for rows, other in zip((sim, sim.T), within, strict=True)
        )
    if scaled:
        near = [np.sort(rows, axis=1)[:, -scaled:].mean(axis=1) for rows in (sim, sim.T)]
        sim = 2 * sim - near[0][:, None] - near[1]
    there, back = np.zeros(sim.shape, np.float32), np.zeros(sim.T.shape, np.float32)
    for v, i in enumerate(sim.argmax(axis=1)):
        if sim[:, i].argmax() == v and (sure_vis[v] or sure_ir[i]):
            there[v, i] = back[i, v] = 1
    if one_sided < 1 and there.any():
        least = np.quantile(sim[there > 0], one_sided)
        for shares, rows, sure in ((there, sim, sure_vis), (back, sim.T, sure_ir)):
            for row in np.flatnonzero(sure & ~shares.any(axis=1)):
                if rows[row].max() > least:
                    shares[row, rows[row].argmax()] = 1
    return there, back


def agree(settings, **broken):
    """Whether the slow loop gives the same for all inputs."""
    return all(
        np.array_equal(*pair)
        for vis, ir in INPUTS
        for pair in zip(
            mutual(vis, ir, **settings), slow_mutual(vis, ir, **settings | broken), strict=True
        )
    )


@pytest.fixture(params=[7, 45, 512], ids=lambda size: f"blocks of {size}")
def block(request, monkeypatch):
    monkeypatch.setattr(margins, "_BLOCK", request.param)
    return request.param


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_matches_equal_those_of_whole_matrices(settings, block):
    assert agree(settings)


@pytest.mark.parametrize(
    "broken", [{"one_person": 2.0}, {"chance": 0.2}, {"scaled": 4}, {"one_sided": 0.5}], ids=str
)
def test_other_rules_give_other_matches(broken):
    assert not agree({"scaled": 5, "one_sided": 0.1, "chance": 0.4}, **broken)


def test_p_values_equal_those_of_whole_matrices(block):
    for vis, ir in INPUTS:
        found = margins.p_values(vis.features, ir.features)
        sim = (vis.features @ ir.features.T).numpy()
        for modality, rows, other in ((VIS, sim, ir), (IR, sim.T, vis)):
            within = (other.features @ other.features.T).numpy()
            assert np.array_equal(found[modality], slow_p_values(rows, within))


def test_no_more_than_a_block_is_compared_at_once(block):
    vis, ir = (side.features for side in tied(0))
    for modality, count in ((VIS, len(vis)), (IR, len(ir))):
        whole, sizes = np.full((len(vis), len(ir)), np.nan), []
        for rows, columns, sims in margins.compared(vis, ir, modality):
            whole[rows, columns] = sims
            sizes.append(sims.shape[0 if modality is VIS else 1])
        assert max(sizes) == min(block, count) and sum(sizes) == count
        assert np.array_equal(whole, (vis @ ir.T).numpy())


def test_a_modality_without_clusters_has_no_matches():
    vis, ir = drawn(0)
    none = Side(ir.features, np.full(len(ir.labels), -1))
    for shares in mutual(vis, none, 5, 0.1, 0.3):
        assert not shares.size
    assert unpaired(vis, none)[VIS] == (1.0, 1.0)
    values = margins.p_values(vis.features, ir.features[:0])
    assert values[VIS].tolist() == [1.0] * len(vis.labels) and not len(values[IR])
