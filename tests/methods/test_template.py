"""The template is a whole method: it trains, stops and resumes like those of the project."""

import pytest
import torch
from safetensors.torch import load_file

from visir.core.types import InputError
from visir.methods import METHODS
from visir.methods.contract import Method
from visir.methods.TEMPLATE import PRESETS, Template
from visir.training.train import train

pytestmark = pytest.mark.slow

NAME = "visir.methods.TEMPLATE:Template"


def test_the_template_trains_and_resumes_to_the_same_weights(people, tmp_path):
    def stop(epoch, *_):
        if epoch == 1:
            raise KeyboardInterrupt

    words = {"preset": "smoke", "progress": False}
    whole = train(NAME, people, tmp_path / "whole", **words)
    with pytest.raises(KeyboardInterrupt):
        train(NAME, people, tmp_path / "run", on_epoch=stop, **words)
    again = train(NAME, people, tmp_path / "run", resume=True, **words)
    one, other = load_file(whole.weights), load_file(again.weights)
    assert all(torch.equal(one[name], other[name]) for name in one)
    plans = [line for line in whole.read_metrics() if line["kind"] == "plan"]
    assert len(plans) == PRESETS["smoke"].epochs
    assert all(line["clusters_visible"] >= 2 for line in plans)


def test_a_forgotten_function_is_named_before_training():
    class Forgetful(Template):
        plan = Method.plan

    with pytest.raises(TypeError, match=r"abstract.*plan"):
        Forgetful(PRESETS["smoke"], None, torch.device("cpu"), 0)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_contract(name):
    method = METHODS[name]
    assert issubclass(method, Method) and not method.__abstractmethods__
    assert isinstance(method.learns_from_labels, bool)
    assert isinstance(method.needs_both_modalities, bool)


def test_a_class_that_is_no_method_is_refused(tmp_path, monkeypatch):
    (tmp_path / "outside_wrong.py").write_text(
        "from visir.methods.contract import Method\n"
        "class Plain: presets = {}\n"
        "class Half(Method):\n"
        "    def loss(self, batch, outputs): return {}\n"
        "class Bare(Half):\n"
        "    def __init__(self, config, data, device, seed): pass\n"
        "    def optimizer(self): pass\n"
        "    def plan(self, epoch): pass\n"
        "    def after_step(self, batch, outputs): pass\n"
        "    def state(self): pass\n"
        "    def load_state(self, state): pass\n"
        "def function(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, said in (
        ("Plain", "is not a class derived from visir.methods.contract.Method"),
        ("function", "is not a class derived from"),
        ("Half", "Half lacks __init__, after_step, load_state, optimizer, plan, state; add them"),
        ("Bare", "Bare.presets is missing"),
    ):
        with pytest.raises(InputError, match=said):
            METHODS.find(f"outside_wrong:{name}")
