"""Count-priority selection against a slow loop over all image pairs."""

from collections import Counter

import numpy as np
import torch
from torch.nn import functional as F

from visir.cluster.associate import count_priority


def slow(vis, ir, vis_labels, ir_labels, threshold):
    votes = Counter()
    for i, a in enumerate(vis_labels):
        for j, b in enumerate(ir_labels):
            if a >= 0 and b >= 0 and float(vis[i] @ ir[j]) >= threshold:
                votes[a, b] += 1
    partner = [-1] * (max(vis_labels) + 1)
    for (a, b), _ in sorted(votes.items(), key=lambda item: (-item[1], item[0])):
        if partner[a] < 0 and b not in partner:
            partner[a] = b
    return partner


def draw(seed):
    rng = np.random.default_rng(seed)
    vis = F.normalize(torch.from_numpy(rng.normal(size=(60, 4))).float(), dim=1)
    ir = F.normalize(torch.from_numpy(rng.normal(size=(50, 4))).float(), dim=1)
    return vis, ir, rng.integers(-1, 9, 60), rng.integers(-1, 6, 50)


def test_equals_the_slow_loop():
    differs = 0
    for seed in range(10):
        vis, ir, a, b = draw(seed)
        found = count_priority(vis, ir, a, b, 0.5, block=13).tolist()
        assert found == slow(vis, ir, a, b, 0.5)
        differs += found != slow(vis, ir, a, b, 0.0)
    assert differs


def test_nobody_similar_means_no_partner():
    vis, ir = torch.eye(4)[:2], torch.eye(4)[2:]
    found = count_priority(vis, ir, np.array([0, 1]), np.array([0, 1]), 0.5)
    assert found.tolist() == [-1, -1]


def test_a_partner_is_taken_once():
    vis, ir, a, b = draw(3)
    partners = count_priority(vis, ir, a, b, 0.0)
    taken = partners[partners >= 0]
    assert len(set(taken.tolist())) == len(taken)
