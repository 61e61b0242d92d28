"""Small runs: one that ended, one that was stopped."""

import pytest
from small import run

from visir.core.run import Run
from visir.synth.write import synthesise


@pytest.fixture(scope="module")
def few(once):
    """A data set of ten people, six of them for training; copy it to change it."""

    def make(folder):
        synthesise(folder / "set", ids=10, train_ids=6, images=2, size="32x16", progress=False)

    return once("few-people", make) / "set"


@pytest.fixture(scope="module")
def whole(few, once, small_network):
    """A finished run of ADCA on them, only read."""
    return Run(once("few-whole", lambda folder: run(few, folder / "run")) / "run")


@pytest.fixture
def broken(few, whole, tmp_path):
    """The same run stopped after its third epoch of four; change it."""

    def stop(epoch, *_):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(few, tmp_path / "run", on_epoch=stop)
    return Run(tmp_path / "run")
