"""TokenMatcher's own parts against plain loops: lists, losses, mates, stages, the script's bugs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional as F

from visir.cluster.agreement import agreeing_neighbours
from visir.cluster.associate import mates_of
from visir.cluster.cameras import camera_filter
from visir.cluster.matches import Association
from visir.cluster.memory import Memory, Read, loss_of, script_losses
from visir.cluster.neighbour_loss import Lists, neighbour_loss
from visir.core.types import InputError, Modality
from visir.methods.losses import diversity
from visir.methods.tokenmatcher import PRESETS, TokenMatcher, VitBaseline
from visir.methods.tokenmatcher import camera_stage as cameras_module
from visir.methods.tokenmatcher import method as method_module
from visir.nets.features import Features

VIS, IR = Modality.VISIBLE, Modality.INFRARED
CPU = torch.device("cpu")
CONFIG = replace(
    PRESETS["tiny"], size=(16, 8), stage_epochs=(2, 2), camera_epochs=(1, 2), iterations=2,
    camera_iterations=2, visible_clusters=2, infrared_clusters=2, camera_clusters=2, instances=2,
    k1=4, k2=2, eps=0.8, camera_eps=(0.8,), min_samples=2, precision="fp32", center_cameras=False,
)  # fmt: skip


@pytest.fixture
def method(patterns):
    torch.manual_seed(0)
    return TokenMatcher(CONFIG, patterns, CPU, seed=0)


def unit(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator), dim=1)


def drawn(method, epoch):
    """A batch of the epoch's plan with made-up outputs of the network."""
    parts = next(iter(method.plan(epoch).batches))
    batch = method.data.batch(parts, 0, 2, CPU)
    width = method.model.embedding_dim
    raw = 9 * torch.randn(len(batch.rows), width, generator=torch.Generator().manual_seed(1))
    return batch, Features(raw, raw.view(len(raw), method.config.class_tokens, -1))


def test_diversity_weighs_the_pairs_most_alike_most():
    tokens = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for image in tokens:
        alike = torch.stack([
            F.cosine_similarity(image[i], image[j], dim=0).abs()
            for i in range(4) for j in range(i + 1, 4)
        ])  # fmt: skip
        total += float((alike.softmax(0) * alike).sum()) / 5
    assert float(diversity(tokens)) == pytest.approx(total, rel=1e-5)
    assert float(diversity(torch.eye(4)[None])) == 0
    assert float(diversity(torch.ones(2, 3, 4))) == pytest.approx(1)


def random_lists(rows, columns, seed=3):
    rng = np.random.default_rng(seed)
    dense = rng.random((rows, columns)) < 0.3
    dense[1] = False
    return dense, Lists.of(sparse.csr_array(dense))


def test_the_neighbour_loss_equals_the_double_loop():
    dense, lists = random_lists(9, 20)
    features, memory = 5 * unit(6, 8, 0), unit(20, 8, 1)
    rows = torch.tensor([4, 1, 8, 4, 0, 2])
    logits = F.normalize(features, dim=1) @ memory.T / 0.05
    total, pairs = 0.0, 0
    for place, row in enumerate(rows.tolist()):
        for column in np.flatnonzero(dense[row]):
            total += float(F.cross_entropy(logits[place], torch.tensor(column)))
            pairs += 1
    found = float(neighbour_loss(logits, *lists.pairs(rows)))
    assert found == pytest.approx(total / pairs, rel=1e-5)
    nobody = lists.pairs(torch.tensor([1, 1]))
    assert float(neighbour_loss(logits[:2], *nobody)) == 0


def test_pairs_of_a_batch_are_those_of_the_lists():
    dense, lists = random_lists(9, 20)
    rows = torch.tensor([8, 1, 0, 8])
    places, columns = lists.pairs(rows)
    expected = [(p, c) for p, r in enumerate(rows.tolist()) for c in np.flatnonzero(dense[r])]
    assert list(zip(places.tolist(), columns.tolist(), strict=True)) == expected


def test_lists_of_token_slices_equal_the_dense_definition():
    vis, ir = unit(40, 24, 0), unit(30, 24, 1)
    vis[:, :6] *= torch.linspace(0.1, 2, 40)[:, None]  # slices of very different lengths
    vis = F.normalize(vis, dim=1)
    for a, b in ((vis, vis), (vis, ir), (ir, vis)):
        for x in (2, 4):
            count = torch.zeros(len(a), len(b))
            for left, right in zip(a.chunk(4, 1), b.chunk(4, 1), strict=True):
                sim = left.double() @ right.double().T
                count += sim > 0.9 * sim.amax(dim=1, keepdim=True)
            found = agreeing_neighbours(a.chunk(4, 1), b.chunk(4, 1), 0.9, x)
            assert np.array_equal(found.toarray(), (count >= x).numpy())


def test_mates_share_a_partner_and_look_one_way_an_epoch():
    # Clusters 0, 2 and 4 share partner 1 by two and 0 by one; 3 has partner 2 to itself.
    partner = np.array([1, 0, 1, 2])
    shares = np.eye(3)[partner]
    first = np.array([1, 2, 3])  # partner 1 accepted cluster 2 first
    assert mates_of(shares, first, from_first=True).tolist() == [-1, -1, 0, -1]
    assert mates_of(shares, first, from_first=False).tolist() == [2, -1, -1, -1]
    three = np.eye(3)[np.array([1, 1, 1, 0])]
    assert (mates_of(three, first, True) == -1).all()


def test_the_stages_follow_each_other_and_cameras_begin_where_stage_1_ended(method):
    stages = [(when.stage, when.modality, when.camera) for when in method.schedule]
    cameras = [("camera stage", VIS, 0), ("camera stage", VIS, 2),
               *[("camera stage", IR, 1)] * 2, *[("camera stage", IR, 3)] * 2]  # fmt: skip
    assert stages == [("stage 1", VIS, -1)] * 2 + cameras + [("stage 2", VIS, -1)] * 2
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    for epoch in range(2, 8):
        plan = method.plan(epoch)
        fresh = method.schedule[epoch].epoch == 0
        assert plan.fresh_optimizer == fresh and plan.labels is None
        same = all(torch.equal(value, before[name])
                   for name, value in method.model.state_dict().items())  # fmt: skip
        assert same == fresh
        rows = np.concatenate([part.rows for parts in plan.batches for part in parts])
        assert set(method.data.cams[rows]) == {method.schedule[epoch].camera}
        with torch.no_grad():
            method.model.cls_token += 1
    assert (method.cameras.local >= 0).mean() > 0.5
    method.plan(8)
    assert all(torch.equal(value, before[name])
               for name, value in method.model.state_dict().items())  # fmt: skip
    assert not method.cameras.first_stage


def test_local_labels_outlive_a_stop(method, patterns):
    for epoch in (2, 3, 4):
        method.plan(epoch)
    torch.manual_seed(1)
    again = TokenMatcher(CONFIG, patterns, CPU, seed=0)
    again.load_state(method.state())
    again.model.load_state_dict(method.model.state_dict())
    for one in (method, again):
        one.plan(5)
        one.plan(8)
    assert np.array_equal(method.cameras.local, again.cameras.local)
    for name, value in method.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_a_camera_that_tells_nobody_apart_is_passed_over_with_a_warning(patterns):
    cams = patterns.cams.copy()
    cams[0] = 9  # one image of its own camera
    method = TokenMatcher(CONFIG, patterns._replace(cams=cams), CPU, seed=0)
    alone = [epoch for epoch, when in enumerate(method.schedule) if when.camera == 9]
    plan = method.plan(alone[0])
    assert plan.steps == 0 and list(plan.batches) == []
    assert "camera 9" in plan.warnings[0] and "camera_eps" in plan.warnings[0]
    assert method.cameras.local[0] == -1


def test_stage_2_reads_partners_mates_and_neighbours(method):
    method.config = replace(CONFIG, mate_weight=(1.0, 1.0))
    batch, outputs = drawn(method, 8)
    method.mates[VIS] = torch.zeros_like(method.mates[VIS])
    terms = method.loss(batch, outputs)
    assert set(terms) == {"visible", "infrared", "cross", "mates", "neighbours",
                          "visible diversity", "infrared diversity"}  # fmt: skip
    vis, ir = batch.of(VIS), batch.of(IR)
    memory = method.memories
    cross = memory[IR].loss(outputs.embedding[vis], method.partners[VIS][batch.labels[vis]])
    cross += memory[VIS].loss(outputs.embedding[ir], method.partners[IR][batch.labels[ir]])
    assert float(terms["cross"]) == pytest.approx(0.4 * float(cross), rel=1e-5)
    mates = method.pure[VIS].loss(outputs.embedding[vis], torch.zeros_like(batch.labels[vis]))
    assert float(terms["mates"]) == pytest.approx(float(mates), rel=1e-5)
    assert all(float(term) > 0 for term in terms.values())


def test_directions_across_alternate(method):
    for epoch, direction in ((8, (VIS, IR)), (9, (IR, VIS))):
        method.plan(epoch)
        assert set(method.neighbours) == {(VIS, VIS), (IR, IR), direction}


def test_only_the_modality_of_more_clusters_has_mates(method):
    labels = {VIS: np.array([0, 1, 2]), IR: np.array([0, 1])}
    features = {VIS: unit(3, 8, 0), IR: unit(2, 8, 1)}
    method.pure = {modality: Memory(unit(3, 8, 5), 0.2) for modality in Modality}
    to_ir = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    to_vis = np.eye(3, dtype=np.float32)[[1, 1]]  # two infrared clusters share a partner too
    method._associate(features, labels, Association(to_ir, to_vis))
    assert method.many is VIS and method.mates[VIS].tolist().count(-1) == 2
    assert method.mates[IR].tolist() == [-1, -1]
    swapped = {VIS: labels[IR], IR: labels[VIS]}, {VIS: features[IR], IR: features[VIS]}
    method._associate(swapped[1], swapped[0], Association(to_vis, to_ir))
    assert method.many is IR and method.mates[VIS].tolist() == [-1, -1]


def test_groups_prefer_other_cameras_unless_the_scripts_way_is_asked_for(method):
    assert method._grouped(second=True) is method.data
    method.config = replace(CONFIG, groups="any")
    assert method._grouped(second=False) is method.data
    assert len(np.unique(method._grouped(second=True).cams)) == 48


def test_silhouettes_may_take_outliers_for_a_cluster(method, monkeypatch):
    seen = []
    monkeypatch.setattr(cameras_module, "silhouette", lambda graph, of: seen.append(of) or 0.0)
    monkeypatch.setattr(cameras_module, "dbscan", lambda *_: np.array([-1, 0, 0, 1] * 3))
    method.plan(2)
    method.cameras.config = replace(CONFIG, outlier_cluster=True)
    method.plan(2)
    assert seen[0].tolist() == [-1, 0, 0, 1] * 3 and seen[1].tolist() == [0, 1, 1, 2] * 3


def test_without_a_second_stage_no_camera_is_trained(patterns):
    method = TokenMatcher(replace(CONFIG, stage_epochs=(2, 0)), patterns, CPU, seed=0)
    assert {when.stage for when in method.schedule} == {"stage 1"}


def test_mixed_memories_hold_both_modalities(method):
    labels = {VIS: np.array([0, 0, 1, -1]), IR: np.array([0, 1])}
    features = {VIS: unit(4, 8, 0), IR: unit(2, 8, 1)}
    to_ir = np.eye(2, dtype=np.float32)[[1, 1]]
    to_vis = np.eye(2, dtype=np.float32)[[0, 1]]
    method.pure = {m: Memory(unit(2, 8, 5), 0.2) for m in Modality}
    method._associate(features, labels, Association(to_ir, to_vis))
    expected = F.normalize(
        torch.stack([features[IR][0], torch.cat([features[VIS][:3], features[IR][1:]]).mean(0)]),
        dim=1,
    )
    assert torch.allclose(method.memories[IR].rows_CD, expected, atol=1e-6)
    assert method.memories[IR].momentum == CONFIG.mixed_momentum


class _SlowMemory(torch.autograd.Function):
    """The public scripts' memory: products with the rows, updated by sample on the way back."""

    @staticmethod
    def forward(ctx, features, labels, rows, momentum):
        ctx.rows, ctx.momentum = rows, momentum
        ctx.save_for_backward(features, labels)
        return features.mm(rows.t())

    @staticmethod
    def backward(ctx, grad):
        features, labels = ctx.saved_tensors
        out = grad.mm(ctx.rows)
        for x, y in zip(features, labels, strict=True):
            ctx.rows[y] = F.normalize(ctx.momentum * ctx.rows[y] + (1 - ctx.momentum) * x, dim=0)
        return out, None, None, None


def test_released_losses_have_the_published_gradients_and_updates():
    rows = unit(5, 6, 0)
    features = [(3 * unit(7, 6, seed)).requires_grad_() for seed in (1, 2)]
    labels = [torch.tensor([0, 1, 1, 4, 0, 2, 1]), torch.tensor([1, 1, 3, 0, 0, 4, 4])]
    slow = rows.clone()
    total = sum(
        F.cross_entropy(_SlowMemory.apply(F.normalize(x, dim=1), y, slow, 0.2) / 0.05, y)
        for x, y in zip(features, labels, strict=True)
    )
    expected = torch.autograd.grad(total, features)
    memory = Memory(rows, 0.2)
    reads = [Read("", 1.0, memory, x, y) for x, y in zip(features, labels, strict=True)]
    losses = script_losses(reads)
    found = torch.autograd.grad(sum(losses), features)
    assert sum(losses).item() == pytest.approx(total.item(), rel=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(memory.rows_CD, slow, atol=1e-6)
    fixed = sum(loss_of(Read("", 1.0, Memory(rows, 0.2), x, y))
                for x, y in zip(features, labels, strict=True))  # fmt: skip
    gradient = torch.autograd.grad(fixed, features)
    assert torch.allclose(gradient[1], expected[1], atol=1e-5)
    assert not torch.allclose(gradient[0], expected[0], atol=1e-3)


def test_updates_happen_once_after_the_step_or_between_the_losses(method):
    for updates in ("once", "between"):
        method.config = replace(CONFIG, updates=updates)
        batch, outputs = drawn(method, 8)
        before = method.memories[VIS].rows_CD.clone()
        method.loss(batch, outputs)
        changed = not torch.equal(before, method.memories[VIS].rows_CD)
        assert changed == (updates == "between")
        middle = method.memories[VIS].rows_CD.clone()
        method.after_step(batch, outputs)
        assert torch.equal(middle, method.memories[VIS].rows_CD) == (updates == "between")


def test_the_scripts_filter_skips_whoever_follows_a_dropped_one():
    neighbours = sparse.csr_array(np.ones((2, 6), bool)[:, :6])
    neighbours = sparse.csr_array(np.vstack([neighbours.toarray(), np.zeros((4, 6), bool)]))
    local = np.array([0, 1, 1, 1, 0, 1])
    cams = np.zeros(6, np.int64)
    kept = [0, 4]
    assert np.flatnonzero(camera_filter(neighbours, cams, local).toarray()[0]).tolist() == kept
    # A plain list, from which the script removes while it walks along it.
    walked = list(range(6))
    for j in walked:
        if local[j] != local[0]:
            walked.remove(j)
    found = camera_filter(neighbours, cams, local, skipping=True).toarray()
    assert np.flatnonzero(found[0]).tolist() == walked != kept
    walked = list(range(6))
    for j in walked:
        if local[j] != local[1]:
            walked.remove(j)
    assert np.flatnonzero(found[1]).tolist() == walked


def test_regdbs_script_gives_everybody_the_first_images_list(method):
    batch, outputs = drawn(method, 8)
    method.neighbours[VIS, VIS] = random_lists(24, 24)[1]
    own = float(method._neighbour_loss(batch, outputs, VIS, VIS))
    method.config = replace(CONFIG, lists="first")
    views = batch.of(VIS)
    pairs = method.neighbours[VIS, VIS].pairs(torch.zeros(len(views), dtype=torch.long))
    logits = method.images[VIS].logits(outputs.embedding[views])
    expected = float(neighbour_loss(logits, *pairs))
    assert float(method._neighbour_loss(batch, outputs, VIS, VIS)) == pytest.approx(expected)
    assert expected != pytest.approx(own, rel=1e-3)


def test_the_camera_stage_may_follow_a_first_stage_trained_before(patterns):
    method = TokenMatcher(replace(CONFIG, stage_epochs=(0, 1)), patterns, CPU, seed=0)
    assert method.plan(0).stage == "camera 0" and method.plan(0).lr == CONFIG.lr[0]


def test_the_rate_falls_along_a_cosine_to_the_least(method):
    rates = [method.plan(epoch).lr for epoch in (8, 9)]
    low, high = CONFIG.least_lr[1], CONFIG.lr[1]
    assert rates == pytest.approx([high, low + (high - low) / 2])


def test_the_baseline_has_neither_neighbours_nor_mates_nor_cameras(patterns):
    config = replace(CONFIG, neighbour_weight=0.0, mate_weight=(0.0, 0.0), camera_epochs=(0, 0))
    assert VitBaseline.presets["tiny"] == replace(
        PRESETS["tiny"], neighbour_weight=0.0, mate_weight=(0.0, 0.0), camera_epochs=(0, 0)
    )
    torch.manual_seed(0)
    method = VitBaseline(config, patterns, CPU, seed=0)
    assert method.epochs == 4
    batch, outputs = drawn(method, 2)
    assert {"cross"} < set(method.loss(batch, outputs)) and not method.neighbours


@pytest.mark.parametrize(("settings", "said"), [
    ({"class_tokens": 2}, "agreeing_tokens=4"),
    ({"camera_eps": (0.2, 0.3)}, "2 radii, the data 4 cameras"),
    ({"stage_epochs": (0, 0)}, "nothing is trained"),
    ({"camera_from": 1}, "camera_from=1, so none"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings, said, patterns):
    with pytest.raises(InputError, match=said):
        TokenMatcher(replace(CONFIG, **settings), patterns, CPU, seed=0)


def test_features_that_fall_into_one_cluster_stop_with_a_mend(method, monkeypatch):
    monkeypatch.setattr(method_module, "pseudo_labels", lambda x, *_: np.zeros(len(x), np.int64))
    method.config = replace(CONFIG, adapt="nothing")
    with pytest.raises(InputError, match="visible images: clustering gave 1 cluster"):
        method.plan(0)
