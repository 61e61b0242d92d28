"""visir: find the same person across visible and infrared cameras."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from visir._old_names import OldNames
from visir.core.version import __version__

if TYPE_CHECKING:
    from visir.core.types import Modality
    from visir.embedding.pytorch import Embedder, load
    from visir.evaluation.ranking import rank

__all__ = ["Embedder", "Modality", "__version__", "load", "rank"]

_WHERE = {
    "Embedder": "visir.embedding.pytorch",
    "Modality": "visir.core.types",
    "load": "visir.embedding.pytorch",
    "rank": "visir.evaluation.ranking",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module protocol asks for it
    """Import the public names when first used, so that `import visir` stays instant."""
    if name not in _WHERE:
        raise AttributeError(f"module 'visir' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)


if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
    sys.meta_path.append(OldNames())
