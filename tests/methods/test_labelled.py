"""Methods that learn from labels: their batches, rates, terms, and data they cannot learn from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from visir.core.types import Facts, InputError
from visir.data.dataset import Part, joined
from visir.data.transforms import Augmentation, View
from visir.methods import METHODS, agw, caj, hct, labelled
from visir.methods.losses import hetero_centre_triplet
from visir.methods.mra import method as mra
from visir.methods.mra.regulation import alignment
from visir.nets.features import Features
from visir.training.train import train

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
FAST = {"size": (32, 16), "people": 2, "images": 2, "epochs": 2, "precision": "fp32"}
STRIPS = {**FAST, "strips": 2}


@pytest.fixture
def known(patterns):
    return patterns._replace(identities=np.repeat(np.arange(4), 12))


def make(module, data, **settings):
    torch.manual_seed(0)
    fast = STRIPS if module in (hct, mra) else FAST
    method = {agw: agw.Agw, caj: caj.Caj, hct: hct.Hct, mra: mra.Mra}[module]
    return method(replace(module.PRESETS["tiny"], **{**fast, **settings}), data, CPU, 0)


def a_step(method, data):
    """The terms of one batch, their gradients taken."""
    parts = next(iter(method.plan(0).batches))
    batch = data.batch(parts, 7, 2, CPU)
    batch = batch._replace(images=torch.nn.functional.interpolate(batch.images, (32, 16)))
    terms = method.loss(batch, method.model.train()(batch.images, batch.infrared))
    torch.stack(list(terms.values())).sum().backward()
    return terms, batch


@pytest.mark.parametrize("module", [agw, caj, hct, mra])
def test_everything_that_learns_gets_a_gradient_and_a_rate(module, known):
    method = make(module, known, **({"addressing": "cosine"} if module is mra else {}))
    a_step(method, known)
    optimizer = method.optimizer()
    groups = {id(w): g["lr_scale"] for g in optimizer.param_groups for w in g["params"]}
    learning = [w for w in method.model.parameters() if w.requires_grad]
    assert all(id(weight) in groups for weight in learning)
    silent = [w for g in optimizer.param_groups for w in g["params"] if w.grad is None]
    assert not silent
    base = getattr(method, "base", method)
    assert {groups[id(w)] for w in base.classifier.parameters()} == {1.0}


def test_batches_hold_both_modalities_of_the_same_people_under_the_methods_views(known):
    plain = Augmentation(View.PLAIN, erasing=0.0)
    views = {
        agw: [plain, plain], hct: [plain, plain], mra: [plain, plain],
        caj: [Augmentation(View.PLAIN), Augmentation(View.EXCHANGE), Augmentation(View.GRAY)],
    }  # fmt: skip
    for module, expected in views.items():
        published = {"erasing": module.Config.erasing} if module is caj else {}
        plan = make(module, known, **published).plan(0)
        batches = list(plan.batches)
        assert len(batches) == plan.steps == 24 // 4 + 1
        for parts in batches:
            assert [part.how for part in parts] == expected
            assert all(np.array_equal(part.labels, known.identities[part.rows]) for part in parts)
            assert np.array_equal(np.sort(parts[0].labels), np.sort(parts[-1].labels))
            assert isinstance(parts[0], Part) and known.infrared[parts[-1].rows].all()
        again = next(iter(make(module, known).plan(0).batches))
        assert np.array_equal(again[0].rows, batches[0][0].rows)
        other = next(iter(make(module, known).plan(1).batches))
        assert not np.array_equal(other[0].rows, batches[0][0].rows)


def test_rates_rise_and_fall_as_published():
    config = agw.PRESETS["sysu"]
    rates = [labelled.rate(config, epoch) for epoch in range(81)]
    assert rates[:10] == pytest.approx([0.01 * (epoch + 1) for epoch in range(10)])
    assert rates[10:20] == [0.1] * 10
    assert rates[20:50] == pytest.approx([0.01] * 30)
    assert rates[50:] == pytest.approx([0.001] * 31)


def test_the_loop_gives_each_group_its_share_of_the_rate(people, tmp_path, monkeypatch):
    seen = []

    def stepping(self, *_, **__):
        seen.append([group["lr"] for group in self.param_groups])

    monkeypatch.setattr(torch.optim.SGD, "step", stepping)
    settings = {"size": "32,16", "epochs": "1", "people": "2", "images": "2", "trunk_lr": "0.1",
                "warmup": "0"}  # fmt: skip
    train("agw", people, tmp_path / "run", settings=settings, progress=False)
    assert seen[0] == pytest.approx([0.01, 0.1])


def test_caj_has_its_own_loss_and_more_terms_where_asked(known):
    terms, batch = a_step(make(caj, known), known)
    assert set(terms) == {"identity", "triplets"}
    assert len(batch.images) == 12
    weighted, _ = a_step(make(caj, known, triplets="weighted"), known)
    assert not torch.isclose(weighted["triplets"], terms["triplets"])
    asked = {}
    for refine in ("weak", "strong", "both"):
        found, _ = a_step(make(caj, known, refine=refine, kl_weight=0.5), known)
        assert set(found) == {"identity", "triplets", "kl", "refine"}
        asked[refine] = found["refine"].item()
    assert len(set(asked.values())) == 3 and asked["both"] > asked["weak"]


def test_predictions_of_one_view_teach_another_and_learn_nothing():
    pupil, teacher = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    found = caj._learn_from(pupil, teacher)
    soft, log = teacher.softmax(dim=1), pupil.log_softmax(dim=1)
    expected = -sum(soft[i, j] * log[i, j] for i in range(3) for j in range(5)) / 3
    assert torch.isclose(found, expected)
    tempered = caj._divergence(pupil, teacher, 3.0)
    soft, log = (teacher / 3).softmax(dim=1), (pupil / 3).log_softmax(dim=1)
    expected = sum(soft[i, j] * (soft[i, j].log() - log[i, j]) for i in range(3) for j in range(5))
    assert torch.isclose(tempered, expected / 3, atol=1e-6)
    (found + tempered).backward()
    assert pupil.grad.any() and teacher.grad is None


def test_hct_adds_up_strips_and_the_whole(known):
    method = make(hct, known, strip_weight=2.0, smoothing=0.1)
    tokens = torch.randn(8, 2, 256)
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    infrared = torch.arange(8) >= 4
    batch = joined(torch.empty(8), Facts(infrared, labels, labels, labels))
    terms = method.loss(batch, Features(tokens.flatten(1), tokens))
    identity, single = 0.0, 0.0
    for strip in range(2):
        log = method.classifier[strip](tokens[:, strip]).log_softmax(dim=1)
        soft = torch.full_like(log, 0.1 / 4)
        soft[torch.arange(8), labels] += 0.9
        identity += -(soft * log).sum(dim=1).mean()
        single += hetero_centre_triplet(tokens[:, strip], labels, infrared, 0.3)
    assert torch.isclose(terms["identity"], identity, rtol=1e-5)
    assert torch.isclose(terms["strip_triplets"], 2 * single, rtol=1e-5)
    whole = hetero_centre_triplet(tokens.flatten(1), labels, infrared, 0.3)
    assert torch.isclose(terms["triplets"], whole)


@pytest.mark.parametrize("base", ["hct", "agw"])
@pytest.mark.parametrize("granularity", ["single", "multi"])
def test_mra_adds_its_branch_to_either_base(base, granularity, known):
    method = make(mra, known, base=base, granularity=granularity, addressing="cosine")
    torch.manual_seed(1)
    terms, batch = a_step(method, known)
    plain = set(method.base.loss(batch, method.model(batch.images, batch.infrared)))
    added = {"memory_identity", "memory_triplets"} | (
        {"alignment"} if granularity == "multi" else set()
    )
    assert set(terms) == plain | added
    assert method.branch["memory"].weight.grad.abs().sum() > 0
    assert method.log["memory_alive"] > 0.5 and method.log["memory_share"] > 0


@pytest.mark.parametrize(
    ("own", "base"),
    [
        (mra.PRESETS["tiny"], hct.PRESETS["tiny"]),
        (mra.PRESETS["regdb"], hct.PRESETS["regdb"]),
        (mra.PRESETS["tiny-agw"], agw.PRESETS["tiny"]),
        (mra.PRESETS["sysu-agw"], agw.PRESETS["sysu"]),
    ],
)
def test_mra_is_set_against_a_base_of_the_same_settings(own, base, known):
    shared = vars(base).keys() & vars(own).keys()
    assert {name: getattr(own, name) for name in shared} == {n: getattr(base, n) for n in shared}
    if own.network == "resnet-micro":
        method = mra.Mra(own, known, CPU, 0).base
        assert {name: getattr(method.config, name) for name in vars(base)} == vars(base)


def test_mras_branch_is_the_mean_of_positions_and_what_they_recall(known):
    method = make(mra, known, addressing="cosine")
    maps = torch.rand(8, 128, 2, 1)
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    batch = joined(torch.empty(8), Facts(torch.arange(8) >= 4, labels, labels, labels))
    tokens = torch.randn(8, 2, 256)
    terms = method.loss(batch, Features(tokens.flatten(1), tokens, maps))
    memory, whole, parts = method.branch["memory"], torch.zeros(8, 128), torch.zeros(2, 8, 128)
    for image in range(8):
        for row in range(2):
            found = memory(maps[image, :, row, 0][None])
            whole[image] += (maps[image, :, row, 0] + found.whole[0]) / 2
            parts[row, image] = found.parts[0]
    expected = hetero_centre_triplet(whole, labels, batch.infrared, 0.3)
    assert torch.isclose(terms["memory_triplets"], expected, atol=1e-5)
    expected = 0.1 * (alignment(parts, torch.tensor([0, 1])) - 0.1)
    assert torch.isclose(terms["alignment"], expected, atol=1e-6)


def test_a_silent_memory_is_seen_in_the_log(known):
    method = make(mra, known, threshold=0.9)
    terms, _ = a_step(method, known)
    assert method.log["memory_alive"] == 0.0
    assert float(terms["alignment"]) == pytest.approx(-0.01)


def test_states_come_back_whole(known):
    for module in (agw, caj, hct, mra):
        first, second = make(module, known), make(module, known)
        for value in (*second.state().values(),):
            if torch.is_tensor(value) and value.is_floating_point():
                value.add_(1)
        second.load_state(first.state())
        tops = [getattr(method, "base", method).classifier for method in (first, second)]
        flat = [torch.nn.utils.parameters_to_vector(top.parameters()) for top in tops]
        assert torch.equal(*flat)


@pytest.mark.parametrize(
    ("module", "settings", "said"),
    [
        (hct, {"strips": 3}, "strips: 3 strips do not divide the 2 rows"),
        (mra, {"strips": 1}, "strips=1 is odd"),
        (mra, {"base": "agw", "strips": 4}, "strips: 4 strips do not divide"),
        (agw, {"share_net": 4}, "no shared layer 2"),
        (agw, {"people": 1}, "people=1: a batch needs at least two"),
        (hct, {"people": 1}, "people=1: a batch needs at least two"),
    ],
)
def test_settings_that_cannot_work_are_refused(module, settings, said, known):
    with pytest.raises(InputError, match=said):
        make(module, known, **settings)


def labelled_folder(people, root, rows):
    """A copy of some of the synthetic people's images with a labels.csv of these rows."""
    lines = ["path,pid"]
    for number, (kind, pid) in enumerate(rows):
        source = sorted((people / ("cam1" if kind == "visible" else "cam3")).glob("*/*.jpg"))
        path = root / kind / "a" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source[number].read_bytes())
        if pid is not None:
            lines.append(f"{kind}/a/{number}.jpg,{pid}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


BOTH = [("visible", 1), ("visible", 1), ("infrared", 1), ("infrared", 1)]
OTHER = [("visible", 2), ("visible", 2), ("infrared", 2)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (BOTH + OTHER + [("visible", 3)], "identity 3 has visible training images only"),
        (BOTH + OTHER + [("infrared", None)], r"7\.jpg: has no identity label"),
        (BOTH, "has 1 identities"),
    ],
)
def test_labels_one_cannot_learn_from_are_refused(rows, said, people, tmp_path):
    data = labelled_folder(people, tmp_path / "crops", rows)
    with pytest.raises(InputError, match=said):
        train("agw", data, tmp_path / "run", progress=False)


def test_identities_with_one_image_or_fewer_than_k_train_and_are_told(people, tmp_path):
    data = labelled_folder(people, tmp_path / "crops", BOTH + OTHER)
    settings = {"size": "32,16", "epochs": "1", "images": "4"}
    run = train("agw", data, tmp_path / "run", settings=settings, progress=False)
    (line,) = [line for line in run.read_metrics() if line["kind"] == "plan"]
    assert "2 identities have fewer than 4 images" in line["warnings"][0]


def test_other_methods_never_see_a_label(people, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        METHODS["simclr"], "plan", lambda self, epoch: seen.append(self.data) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        train("simclr", people, tmp_path / "run", progress=False)
    assert seen[0].identities is None


def test_a_run_whose_labels_have_changed_is_not_resumed(people, tmp_path):
    data = labelled_folder(people, tmp_path / "crops", BOTH + OTHER)
    settings = {"size": "32,16", "epochs": "2"}
    with pytest.raises(KeyboardInterrupt):
        train("agw", data, tmp_path / "run", settings=settings, progress=False, on_epoch=stop_at(0))
    labelled_folder(people, data, BOTH + OTHER + [("visible", 9), ("infrared", 9)])
    with pytest.raises(InputError, match=r"crops: of the training images, 2 added .*--start"):
        train("agw", data, tmp_path / "run", resume=True, progress=False)


def stop_at(last):
    def on_epoch(epoch, *_):
        if epoch > last:
            raise KeyboardInterrupt

    return on_epoch


def test_imagenet_weights_come_from_torchvisions_cache(people, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    settings = {"size": "32,16", "epochs": "1", "network": "resnet18", "images": "4", "people": "8"}
    cache = tmp_path / "hub" / "checkpoints"
    words = {"settings": settings, "start": Path("imagenet")}
    with pytest.raises(InputError, match=r"checkpoints/resnet18-f37072fd\.pth: no such file"):
        train("agw", people, tmp_path / "a", **words)
    cache.mkdir(parents=True)
    torch.save(resnet18().state_dict(), cache / "resnet18-f37072fd.pth")
    torch.save({}, cache / "resnet18-zzzzzzzz.pth")  # of another recipe
    train("agw", people, tmp_path / "run", **words)
    assert "resnet18-f37072fd.pth: 120 tensors loaded" in capsys.readouterr().err
    words["settings"] = {**settings, "network": "resnet-micro"}
    with pytest.raises(InputError, match="no ImageNet weights for the network resnet-micro"):
        train("agw", people, tmp_path / "b", **words)
