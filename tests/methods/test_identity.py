"""Learning from identities: what is read, what is refused, what starts from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.core.types import InputError, Modality, Record
from visir.data.dataset import tracklets
from visir.methods import METHODS
from visir.methods.identity import PRESETS, Identity
from visir.methods.losses import supervised_contrastive

CPU = torch.device("cpu")


def labelled(patterns):
    return patterns._replace(identities=np.repeat(np.arange(4), 12))


def trained(data, seed=0, **settings):
    """The method after two epochs of three steps, and the loss of every step."""
    small = {"size": (16, 8), "epochs": 2, "iterations": 3}
    config = replace(PRESETS["smoke"], **(small | settings))
    torch.manual_seed(seed)
    method = Identity(config, data, CPU, seed)
    optimizer = method.optimizer()
    losses = []
    method.model.train()
    for epoch in range(method.epochs):
        plan = method.plan(epoch)
        optimizer.param_groups[0]["lr"] = plan.lr
        for step, parts in enumerate(plan.batches):
            batch = data.batch(parts, 100 * epoch + step, config.pad, CPU)
            outputs = method.model(batch.images, batch.infrared)
            total = sum(method.loss(batch, outputs).values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            losses.append(float(total.detach()))
    return method, losses


def test_the_contrastive_loss_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    features, labels = torch.randn(9, 5), torch.tensor([0, 0, 1, 1, 1, 2, 2, 0, 2])
    unit = F.normalize(features, dim=1)
    rows = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        below = sum(torch.exp(unit[i] @ unit[j] / 0.2) for j in others)
        own = [j for j in others if labels[j] == labels[i]]
        rows.append(
            sum(-torch.log(torch.exp(unit[i] @ unit[j] / 0.2) / below) for j in own) / len(own)
        )
    expected = torch.stack(rows).mean()
    assert torch.allclose(supervised_contrastive(features, labels, 0.2), expected)


@pytest.mark.parametrize("loss", ["contrastive", "softmax"])
def test_no_infrared_image_is_read_with_visible_ones_only(loss, patterns):
    data = labelled(patterns)
    pixels = data.pixels.copy()
    pixels[data.infrared] = 255 - pixels[data.infrared]
    blinded = data._replace(pixels=pixels)
    (first, _), (second, _) = (trained(of, loss=loss) for of in (data, blinded))
    state, other = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert torch.equal(state["vis_stem.conv1.weight"], state["ir_stem.conv1.weight"])
    both, _ = trained(blinded, loss=loss, modalities="both")
    apart = both.model.state_dict()
    assert not torch.equal(apart["vis_stem.conv1.weight"], apart["ir_stem.conv1.weight"])


@pytest.mark.parametrize("loss", ["contrastive", "softmax"])
@pytest.mark.parametrize("modalities", ["visible", "both"])
def test_the_loss_falls(loss, modalities, patterns):
    data = labelled(patterns)
    easy = {"epochs": 8, "iterations": 4, "people": 4, "images": 4, "pad": 0, "erasing": 0.0}
    _, losses = trained(data, loss=loss, modalities=modalities, **easy)
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])


def test_a_tracklet_is_an_identity_in_one_camera(patterns):
    data = labelled(patterns)
    method, _ = trained(data, labels="tracklet", loss="softmax")
    rows = np.flatnonzero(~data.infrared)
    groups = {(data.identities[row], data.cams[row]) for row in rows}
    assert method.classifier.out_features == len(groups) == 8
    assert (method.labels[data.infrared] == -1).all()
    for label in range(8):
        assert (
            len({(data.identities[r], data.cams[r]) for r in rows[method.labels[rows] == label]})
            == 1
        )


def test_tracks_are_tracklets_where_they_exist():
    def of(number, cam, track=None, pid=None):
        return Record(Path(f"{number}.png"), pid, cam, Modality.VISIBLE, track=track)

    records = [
        of(0, 1, "a"), of(1, 1, "a", pid=5), of(2, 2, "a"), of(3, 1, "b"),
        of(4, 1, pid=5), of(5, 1, pid=5), of(6, 2, pid=5), of(7, 1), of(8, 1),
    ]  # fmt: skip
    assert tracklets(records).tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 6]
    with pytest.raises(InputError, match="no training image has a track or an identity"):
        tracklets([of(0, 1), of(1, 2)])
    assert Identity.learns_from_tracks(replace(PRESETS["smoke"], labels="tracklet"))
    assert not Identity.learns_from_tracks(PRESETS["smoke"])


def test_an_image_is_contrasted_with_itself_alone(patterns):
    data = labelled(patterns)
    method, _ = trained(data, labels="image", images=2)
    rows = np.flatnonzero(~data.infrared)
    assert sorted(method.labels[rows]) == list(range(len(rows)))
    plain, exchange = next(iter(method.plan(0).batches))
    assert np.array_equal(plain.rows, exchange.rows) and plain.how != exchange.how


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"people": 1}, "there is nothing to compare with"),
        ({"labels": "tracklet", "modalities": "both"}, "labels=tracklet: joins no modalities"),
        ({"labels": "image", "modalities": "both"}, "labels=image: joins no modalities"),
    ],
)
def test_impossible_settings_are_refused(settings, said, patterns):
    with pytest.raises(InputError, match=said):
        trained(labelled(patterns), **settings)


def test_people_of_one_modality_are_read_with_visible_images_only(patterns):
    data = labelled(patterns)
    lonely = data._replace(identities=np.where(data.infrared, 0, data.identities))
    assert trained(lonely)[1]
    with pytest.raises(InputError, match=r"modalities=both: 3 identities have .* of one modality"):
        trained(lonely, modalities="both")


def test_without_labels_it_says_so(patterns):
    with pytest.raises(InputError, match="learns from labels"):
        trained(patterns)


def test_the_command_line_knows_it():
    assert METHODS.find("identity") is Identity
