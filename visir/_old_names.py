"""Modules that moved: imports of their former names work, with a warning, until version 1.0."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "visir.bulk": "visir.embedding.bulk",
    "visir.calibrate": "visir.evaluation.calibrate",
    "visir.client": "visir.web.client",
    "visir.cluster.lists": "visir.cluster.neighbour_loss",
    "visir.config": "visir.core.config",
    "visir.data.manifest": "visir.data.registry",
    "visir.device": "visir.core.device",
    "visir.embed": "visir.embedding.pytorch",
    "visir.evaluate": "visir.evaluation.evaluate",
    "visir.explain": "visir.embedding.explain",
    "visir.gallery.calibration": "visir.evaluation.confidence",
    "visir.gallery.folder": "visir.data.locate",
    "visir.losses": "visir.methods.losses",
    "visir.nets.cats": "visir.methods.cmag.cats",
    "visir.nets.dcam": "visir.methods.cmag.dcam",
    "visir.nets.gsmem": "visir.methods.cmag.gsmem",
    "visir.nets.regulation": "visir.methods.mra.regulation",
    "visir.pretrain": "visir.training.pretrain",
    "visir.ranking": "visir.evaluation.ranking",
    "visir.reading": "visir.embedding.base",
    "visir.rerank": "visir.evaluation.rerank",
    "visir.results": "visir.evaluation.results",
    "visir.run": "visir.core.run",
    "visir.runtime": "visir.embedding.onnx",
    "visir.train": "visir.training.train",
    "visir.types": "visir.core.types",
}
"""Former name -> name today; modules below a former name move with it."""


class OldNames(MetaPathFinder, Loader):
    """Finds a module under a former name; asked last, so that today's names come first."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for former names, None for all others."""
        return ModuleSpec(name, self) if _today(name) else None

    def exec_module(self, module: ModuleType) -> None:
        """Put today's module into the place of the former one."""
        new = _today(module.__name__)
        warnings.warn(
            f"{module.__name__} is now {new}; the old name works until version 1.0",
            DeprecationWarning,
            stacklevel=2,
        )
        sys.modules[module.__name__] = import_module(new)


def _today(name: str) -> str:
    """The module's name today, empty if it has not moved."""
    for old, new in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return ""
