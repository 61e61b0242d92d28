"""Re-ranking compared with slow implementations of the formulas, and its name in results."""

import numpy as np
import pytest

from visir.core.types import Exclusion, InputError
from visir.data.registry import open_benchmark
from visir.evaluation.evaluate import evaluate, merge, score_features
from visir.evaluation.ranking import score
from visir.evaluation.rerank import RERANKERS, camera_graph, camera_means, k_reciprocal, random_walk

NOTHING = Exclusion()


def features(queries=14, gallery=30, people=7, seed=0):
    """Unit rows around a few people, and who they are."""
    rng = np.random.default_rng(seed)
    pids = rng.integers(0, people, queries + gallery)
    rows = rng.normal(size=(people, 12))[pids] + 0.6 * rng.normal(size=(len(pids), 12))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows[:queries], rows[queries:], pids[:queries], pids[queries:]


def reciprocal(rank, i, k):
    return {int(j) for j in rank[i, : k + 1] if i in rank[j, : k + 1]}


def k_reciprocal_slowly(query, gallery, k1, k2, weight, expand=True):
    """One image after the other, in float64, with all distances in memory."""
    whole = np.concatenate([query, gallery]).astype(np.float64)
    apart = ((whole[:, None] - whole[None]) ** 2).sum(axis=2)
    apart = apart / apart.max(axis=1, keepdims=True)
    rank = np.argsort(apart, axis=1, kind="stable")
    codes = np.zeros_like(apart)
    for i in range(len(whole)):
        own = reciprocal(rank, i, k1)
        larger = set(own)
        for candidate in own if expand else ():
            theirs = reciprocal(rank, candidate, round(k1 / 2))
            if len(theirs & own) > 2 / 3 * len(theirs):
                larger |= theirs
        members = sorted(larger)
        codes[i, members] = np.exp(-apart[i, members])
        codes[i] /= codes[i].sum()
    codes = np.stack([codes[rank[i, :k2]].mean(axis=0) for i in range(len(whole))])
    found = np.zeros((len(query), len(gallery)))
    for i in range(len(query)):
        for j in range(len(gallery)):
            shared = np.minimum(codes[i], codes[len(query) + j]).sum()
            jaccard = 1 - shared / (2 - shared)
            found[i, j] = (1 - weight) * jaccard + weight * apart[i, len(query) + j]
    return found


@pytest.mark.parametrize("lengths", [1.0, 3.0])
@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (6, 1, 0.3), (8, 3, 0.0)])
def test_k_reciprocal_is_the_formula(k1, k2, weight, lengths):
    query, gallery, *_ = features()
    query, gallery = query * lengths, gallery * np.float32(lengths)
    gallery[::2] *= 1.1
    expected = k_reciprocal_slowly(query, gallery, k1, k2, weight)
    found = k_reciprocal(query, gallery, k1, k2, weight)
    assert found.dtype == np.float32
    assert np.abs(-found - expected).max() < 1e-5
    broken = k_reciprocal_slowly(query, gallery, k1, k2, weight, expand=False)
    assert np.abs(-found - broken).max() > 1e-3


def test_blocks_do_not_show(monkeypatch):
    query, gallery, *_ = features()
    whole = k_reciprocal(query, gallery)
    monkeypatch.setattr("visir.evaluation.rerank._BLOCK", 5 * 44)
    assert np.allclose(k_reciprocal(query, gallery), whole, atol=1e-6)


def random_walk_slowly(query, gallery, stay, diagonal=0.0):
    own = gallery.astype(np.float64) @ gallery.T
    np.fill_diagonal(own, diagonal)
    steps = np.exp(own) / np.exp(own).sum(axis=1, keepdims=True)
    limit = (1 - stay) * np.linalg.inv(np.eye(len(gallery)) - stay * steps)
    return query.astype(np.float64) @ gallery.T @ limit.T


@pytest.mark.parametrize("stay", [0.5, 0.95])
def test_the_random_walk_is_the_formula(stay):
    query, gallery, *_ = features()
    found = random_walk(query, gallery, stay)
    expected = random_walk_slowly(query, gallery, stay)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - random_walk_slowly(query, gallery, stay, diagonal=1.0)).max() > 1e-3


def test_people_in_groups_are_found_better():
    found = []
    for seed in range(5):
        query, gallery, own, theirs = features(20, 60, 7, seed)
        rules = (own, theirs, np.zeros(20), np.ones(60))
        plain, better = (
            score(sim, *rules, exclusion=NOTHING, unique_identities=False).mAP
            for sim in (query @ gallery.T, k_reciprocal(query, gallery))
        )
        found.append(better - plain)
    assert np.mean(found) > 0.02


def nearest_in_cameras(i, rows, cams, count):
    """{image: cosine} of the nearest others of image i in every camera."""
    found = {}
    for cam in sorted(set(cams.tolist())):
        of = [j for j in range(len(rows)) if cams[j] == cam and j != i]
        of.sort(key=lambda j: -float(rows[j] @ rows[i]))
        found |= {j: max(0.0, float(rows[j] @ rows[i])) for j in of[:count]}
    return found


def camera_graph_slowly(query, gallery, cams, count, rounds, keep):
    """One image after the other, in float64; `cams` of the queries, then of the gallery."""
    own = np.concatenate([query, gallery]).astype(float)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    own = np.stack(
        [row - own[cams == cam].mean(axis=0) for row, cam in zip(own, cams, strict=True)]
    )
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    near = [nearest_in_cameras(i, own, cams, count) for i in range(len(own))]
    moved = own
    for _ in range(rounds):
        rows = []
        for i in range(len(own)):
            links = {j: cosine for j, cosine in near[i].items() if i in near[j]}
            total = sum(links.values())
            mean = sum(cosine * moved[j] for j, cosine in links.items()) / total if total else 0
            both = keep * own[i] + (1 - keep) * mean
            rows.append(both / np.linalg.norm(both))
        moved = np.stack(rows)
    return moved[: len(query)] @ moved[len(query) :].T


@pytest.mark.parametrize(("count", "rounds", "keep"), [(4, 2, 0.3), (1, 1, 0.5), (2, 3, 0.8)])
def test_the_camera_graph_is_the_formula(count, rounds, keep, monkeypatch):
    query, gallery, *_ = features()
    cams = np.random.default_rng(0).integers(0, 3, len(query) + len(gallery))
    ours, theirs = cams[: len(query)], cams[len(query) :]
    settings = count, rounds, keep
    expected = camera_graph_slowly(query, gallery, cams, *settings)
    found = camera_graph(query, gallery * 2, ours, theirs, *settings)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found - camera_graph_slowly(query, gallery, 0 * cams, *settings)).max() > 1e-3
    monkeypatch.setattr("visir.evaluation.rerank._BLOCK", 5 * 44)
    again = camera_graph(query, gallery, ours, theirs, *settings)
    assert np.allclose(again, found, atol=1e-6)


def test_a_camera_with_one_image_and_one_that_is_like_nothing():
    query, gallery = np.eye(3, dtype=np.float32)[[0]], np.eye(3, dtype=np.float32)
    found = camera_graph(query, gallery, np.array([3]), np.array([0, 1, 2]))
    assert np.allclose(found, [[1, 0, 0]])


def test_the_camera_graph_finds_people_across_cameras_that_differ():
    rng = np.random.default_rng(0)
    people, cameras, shots = 12, 4, 4
    of = np.repeat(np.arange(people), cameras * shots)
    cams = np.tile(np.repeat(np.arange(cameras), shots), people)
    look = 0.9 * rng.normal(size=(cameras, 16))
    rows = rng.normal(size=(people, 16))[of] + look[cams] + 0.7 * rng.normal(size=(len(of), 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    asked, held = cams == 0, cams != 0
    rules = of[asked], of[held], cams[asked], cams[held]
    plain, better = (
        score(sim, *rules, exclusion=NOTHING, unique_identities=False).mAP
        for sim in (
            rows[asked] @ rows[held].T,
            camera_graph(rows[asked], rows[held], cams[asked], cams[held]),
        )
    )
    assert better > plain + 0.05


def test_camera_means_are_subtracted_from_the_images_of_each_camera():
    query = np.array([[0.6, 0.8]], np.float32)
    gallery = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    found = camera_means(query, gallery, np.array([0]), np.array([1, 1, 0]))
    # Camera 0 has equal images, which stay; camera 1 leaves (.5, -.5) and (-.5, .5).
    assert np.allclose(found, [[-0.2 * np.sqrt(0.5), 0.2 * np.sqrt(0.5), 1]], atol=1e-6)


@pytest.mark.parametrize("rerank", RERANKERS.values(), ids=list(RERANKERS))
def test_what_cannot_be_ranked_is_refused(rerank):
    query, gallery, *_ = features()
    cams = np.zeros(len(query), int), np.ones(len(gallery), int)
    with pytest.raises(InputError, match="no query or no gallery"):
        rerank(query[:0], gallery, cams[0][:0], cams[1])
    gallery[3, 2] = np.nan
    with pytest.raises(InputError, match="not a finite number"):
        rerank(query, gallery, *cams)


def test_a_small_gallery_is_ranked_too():
    query, gallery, *_ = features()
    found = k_reciprocal(query[:1], gallery[:3])
    assert np.abs(-found - k_reciprocal_slowly(query[:1], gallery[:3], 20, 6, 0.3)).max() < 1e-5


@pytest.mark.parametrize("rerank", RERANKERS)
def test_scores_say_what_they_went_through(rerank, people):
    benchmark = open_benchmark(people)
    rng = np.random.default_rng(0)
    pids = np.array([record.pid for record in benchmark.test])
    rows = rng.normal(size=(pids.max() + 1, 16))[pids] + rng.normal(size=(len(pids), 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    keys = ["all-single-seeded"]
    plain, again = (score_features(rows, benchmark, keys, how) for how in ("none", rerank))
    assert again.results[keys[0]].mean.mAP != plain.results[keys[0]].mean.mAP
    assert f"re-ranking: {rerank}." in again.table() and "re-ranking: none." in plain.table()
    assert again.as_json()["re_ranking"] == merge([again, again]).re_ranking == rerank
    with pytest.raises(InputError, match="scored differently"):
        merge([plain, again])
    with pytest.raises(InputError, match="k-reciprocal"):
        score_features(rows, benchmark, keys, "k-reciprocl")
    with pytest.raises(InputError, match="k-reciprocal"):
        evaluate(None, benchmark, keys, rerank="k-reciprocl")  # before anything is embedded
