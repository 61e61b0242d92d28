"""Features, cameras and neighbour lists that tests of several rooms share."""

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional as F


def people(count=5, images=8, cams=2, noise=0.1, seed=0):
    """(features, cams) of people who look alike within a camera and differ between cameras."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(cams, count, 16))
    of_cam, of_person = np.divmod(np.arange(cams * count * images) % (cams * count), count)
    features = centres[of_cam, of_person] + noise * rng.normal(size=(len(of_cam), 16))
    return F.normalize(torch.from_numpy(features).float(), dim=1), of_cam, of_person


def graph_of(dense):
    return sparse.csr_array(dense)


def random_lists(seed, count=30):
    rng = np.random.default_rng(seed)
    neighbours = rng.random((count, count)) < 0.3
    np.fill_diagonal(neighbours, True)
    return graph_of(neighbours), rng.integers(0, 3, count), rng.integers(-1, 4, count)
