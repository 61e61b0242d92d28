"""Train in one process and in two, and write down every loss and every pseudo-label.

A program of its own, so that PyTorch is imported once and then forked: `ranks_job.py PEOPLE OUT`
writes one.json, and 0.json and 1.json of the two processes. The two also write what they are
refused with.
"""

import json
import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "methods"))
from doubled import doubled

from visir.core import ranks
from visir.core.types import InputError
from visir.methods import METHODS
from visir.nets import vit
from visir.nets.slices import SliceNorm
from visir.training.passes import Passes
from visir.training.train import train

CLUSTERED = {"stage_epochs": "2,2", "iterations": "5"}  # twenty steps
STEPS = {
    "adca": {**CLUSTERED, "lr": "1e-5"},
    "agw": {},  # at least 20 steps, as all with labels
    "caj": {"refine": "both", "kl_weight": "0.1"},
    "cmag": {"stage_epochs": "2,2", "iterations": "5", "carc": "true", "cats_convolution": "true",
             "weighting": "uncertainty", "gsmem_start": "8"},
    "dino": {"epochs": "4", "iterations": "5", "drop_path": "0.5"},
    "hct": {},
    "identity": {"epochs": "4", "iterations": "5", "loss": "softmax"},
    "mra": {},
    "pairs": {"epochs": "4", "iterations": "5", "lr": "1e-5"},
    "sdcl": {"epochs": "4", "iterations": "5", "iterations_after": "5", "drop_path": "0.5"},
    "simclr": {"epochs": "4", "iterations": "5"},
    "tokenmatcher": {"stage_epochs": "1,1", "camera_epochs": "1,1", "camera_iterations": "2",
                     "iterations": "7"},
    "vit-baseline": CLUSTERED,
}  # fmt: skip


class Case(NamedTuple):
    """A training: its method, its settings, what only the two processes are told."""

    method: str
    settings: dict[str, str]
    divided: dict[str, Any] = {}  # noqa: RUF012
    norms: bool = True
    add_up: Any = None


def twice(self, weights, sums):
    """A sum in which each process counts the gradients that the loss itself gives in full."""
    for weight in weights:
        if weight.grad is not None:
            weight.grad *= ranks.count()
    add_up(self, weights, sums)


add_up = Passes._add_up
CASES = {method: Case(method, settings) for method, settings in STEPS.items()} | {
    "own statistics": Case("adca", CLUSTERED, {"batch_norm": "own"}),
    "gradients twice": Case("agw", {"epochs": "1"}, add_up=twice),
    "slices": Case("sdcl", {**STEPS["sdcl"], "epochs": "2"}, {"accumulate": 2}, norms=False),
    "slices of convolutions": Case("agw", {"epochs": "1"}, {"accumulate": 3}, norms=False),
}


def scaled(self, images):
    """A batch norm without statistics."""
    shape = 1, -1, *[1] * (images.dim() - 2)
    return images * self.weight.view(shape) + self.bias.view(shape)


def watched(patch, method, seen):
    """Append the terms of every step, and the labels of every plan, to `seen`."""
    own_loss, own_plan = METHODS[method].loss, METHODS[method].plan

    def loss(self, batch, outputs):
        terms = own_loss(self, batch, outputs)
        seen["terms"].append({name: value.item() for name, value in terms.items()})
        return terms

    def plan(self, epoch):
        made = own_plan(self, epoch)
        found = [made.labels, made.partners]
        seen["labels"].append([None if of is None else of.tolist() for of in found])
        return made

    patch.setattr(METHODS[method], "loss", loss)
    patch.setattr(METHODS[method], "plan", plan)


def trained(case, people, out, divided):
    seen = {"terms": [], "labels": []}
    with pytest.MonkeyPatch.context() as patch, doubled():
        watched(patch, case.method, seen)
        patch.setitem(vit.SIZES, "micro", vit.SIZES["micro"]._replace(dim=32, depth=2, stem=16))
        for module in ("visir.methods.clustering", "visir.embedding.pytorch"):
            patch.setattr(f"{module}.AT_ONCE", 5)  # so that both processes embed some images
        if case.add_up:
            patch.setattr(Passes, "_add_up", case.add_up)
        if not case.norms:
            for kind in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, SliceNorm):
                patch.setattr(kind, "forward", scaled)
        train(case.method, people, out, preset="smoke", settings=case.settings, progress=False,
              **(case.divided if divided else {}))  # fmt: skip
    return seen


def no_number(self, batch, outputs):
    return {"term": outputs.embedding.sum() * torch.nan}


def without_memory(self, batch, outputs):
    if os.environ["RANK"] == "1":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return {"term": outputs.embedding.square().mean()}


def refusals(people, number):
    """What the second process does otherwise, or both; a sentence is to say it."""
    second = {"seed": "1", "settings": {"pad": "1"}, "data": people / ".." / people.name}
    found = {name: {name: value} if number else {} for name, value in second.items()}
    few = {"iterations": "1", "batch": "3"}
    return found | {
        "version": {"patch": ("visir.training.train.__version__", f"0.{number}")},
        "few images": {"settings": few, "accumulate": 4},
        "no number": {"patch": ("visir.methods.simclr.SimCLR.loss", no_number)},
        "memory": {"patch": ("visir.methods.simclr.SimCLR.loss", without_memory)},
    }


def refused(people, out, number):
    """The sentence of each refusal, None from a process that leaves it to the other."""
    found = {}
    for name, words in refusals(people, number).items():
        with pytest.MonkeyPatch.context() as patch:
            if "patch" in words:
                patch.setattr(*words.pop("patch"))
            words = {"data": people, "preset": "smoke", "progress": False} | words
            try:
                train("simclr", out=out / f"refused {name}", **words)
            except InputError as error:
                found[name] = str(error)
            except SystemExit as ended:
                assert ended.code == 2
                found[name] = None
    (out / f"refused {number}.json").write_text(json.dumps(found))


def all_trained(people, out, name):
    found = {
        case: trained(what, people, out / f"{case}-{'one' if name == 'one' else 'two'}",
                      name != "one")
        for case, what in CASES.items()
    }  # fmt: skip
    (out / f"{name}.json").write_text(json.dumps(found))


def forked(work):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def as_rank(number, port, work):
    os.environ |= {
        "RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    work()
    refused(*work.args[:2], number)


def main():
    people, out = map(Path, sys.argv[1:3])
    for name in sys.argv[3:]:
        assert name in CASES
    if sys.argv[3:]:
        kept = {name: CASES[name] for name in sys.argv[3:]}
        CASES.clear()
        CASES.update(kept)
    children = [forked(lambda: all_trained(people, out, "one"))]
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for number in (0, 1):
        work = partial(all_trained, people, out, str(number))
        children.append(forked(partial(as_rank, number, store.port, work)))
    sys.exit(any(os.waitpid(child, 0)[1] for child in children))


if __name__ == "__main__":
    main()
