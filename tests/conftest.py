"""What tests of several rooms share."""

from pathlib import Path

import pytest

from visir.synth.write import synthesise


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set in SYSU-MM01's layout, made once; copy it to change it."""
    out = tmp_path_factory.mktemp("synthetic") / "people"
    synthesise(out, ids=24, images=2, size="48x24", progress=False)
    return out
