"""`--compile`: the same training up to rounding; without a compiler one sentence."""

import pytest
import torch
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from visir.core.types import InputError
from visir.nets import compiled
from visir.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]


def losses(run):
    return [line["loss"] for line in run.read_metrics() if line["kind"] == "epoch"]


@pytest.mark.parametrize(("method", "accumulate"), [("cmag", 2), ("agw", None)])
def test_a_compiled_network_learns_the_same(method, accumulate, few, tmp_path, monkeypatch):
    """The graphs are made as for every backend; a C++ compiler is not on every machine."""
    monkeypatch.setattr(compiled, "HOW", {"backend": "aot_eager"})
    torch._dynamo.reset()
    counters.clear()
    words = {"preset": "smoke", "settings": {"precision": "fp32"}, "progress": False}
    one = train(method, few, tmp_path / "one", **words, accumulate=accumulate)
    assert not counters["frames"]
    two = train(method, few, tmp_path / "two", **words, accumulate=accumulate, compile=True)
    assert counters["frames"]["ok"] > 0
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    kept = [load_file(run.weights) for run in (one, two)]
    assert kept[0].keys() == kept[1].keys()


# findings/own-layer.sh
def test_without_a_compiler_one_sentence_says_what_to_do(few, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    torch._dynamo.reset()
    with pytest.raises(InputError, match=r"--compile: .*apt-get install g\+\+"):
        train("agw", few, tmp_path / "run", preset="smoke", compile=True, progress=False)
    assert not (tmp_path / "run").exists()
