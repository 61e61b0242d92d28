"""Embed images with the ONNX graphs that `visir export` wrote, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visir.core.onnx import session
from visir.core.run import sha256
from visir.core.types import ByteArray, FloatArray, InputError, Modality
from visir.core.untrusted import parse_json
from visir.data.ranges import from_json
from visir.embedding.base import ImageEmbedder

MANIFEST = "export.json"
FORMAT = 1
PIXELS, EMBEDDINGS = "pixels", "descriptors"  # names of a graph's input and output
_BATCH = 32  # images per call of a graph


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportManifest:
    """The content of export.json.

    image_size: [height, width] in pixels; width: length of an embedding; flip: whether it is the
    mean over an image and its mirror image; precision: "fp32" or "int8"; fingerprint: SHA-256 of
    the weights file that was exported; caution, ranges: as in `ImageEmbedder`; files: SHA-256 by
    name; parity and accuracy: as in `visir.export.Exported`.
    """

    format: int = FORMAT
    visir: str
    method: str
    dataset: str | None
    split: str | None
    image_size: tuple[int, int]
    width: int
    flip: bool
    precision: str
    opset: int
    fingerprint: str
    caution: str = ""
    ranges: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)


class OnnxEmbedder(ImageEmbedder):
    """An exported network, used like `visir.embedding.pytorch.Embedder`.

    Args:
        folder: a folder that `visir export` wrote.
        threads: how many it computes in; None for as many as there are cores.

    Attributes:
        precision: "fp32" or "int8".

    Raises:
        InputError: not an export, another format, a missing or damaged file, or no ONNX Runtime.
    """

    def __init__(self, folder: Path | str, threads: int | None = None) -> None:
        about = _manifest(Path(folder))
        height, width = about.image_size
        self.size = (height, width)
        self.width = about.width
        self.method = about.method
        self.precision = about.precision
        self.dataset = about.dataset
        self.split = about.split
        self.fingerprint = about.fingerprint
        self.caution = about.caution
        self.ranges = from_json(about.ranges, Path(folder) / MANIFEST)
        self._flip = about.flip
        self._sessions = {m: session(Path(folder) / graph_name(m), threads) for m in Modality}

    @property
    def flip(self) -> bool:
        """Whether an embedding is the mean over an image and its mirror image; fixed by export."""
        return self._flip

    def embed_pixels(self, pixels: ByteArray, modality: Modality) -> FloatArray:
        """As `ImageEmbedder.embed_pixels`."""
        run = self._sessions[modality].run
        batches = [pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH)]
        return np.concatenate([run([EMBEDDINGS], {PIXELS: batch})[0] for batch in batches])


def load(folder: Path | str, threads: int | None = None) -> OnnxEmbedder:
    """Open an export as `visir.load` opens a run; raises `InputError` in the same cases."""
    return OnnxEmbedder(folder, threads)


def graph_name(modality: Modality) -> str:
    """The file name of a modality's graph."""
    return f"{modality.value}.onnx"


def _manifest(folder: Path) -> ExportManifest:
    """Read export.json and check the SHA-256 of every file that it names."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a folder that `visir export` wrote")
    try:
        about = dict(parse_json(path.read_text(encoding="utf-8")))
        if about["format"] != FORMAT:
            raise InputError(
                f"{path}: has format {about['format']!r}, but this version of visir reads format "
                f"{FORMAT}; export the run again"
            )
        manifest = ExportManifest(**about)
        for name in sorted({*map(graph_name, Modality), *manifest.files}):
            _require_unchanged(folder / name, manifest.files[name])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: the file is damaged; export the run again") from None
    return manifest


def _require_unchanged(path: Path, digest: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; export the run again")
    if sha256(path) != digest:
        raise InputError(
            f"{path}: is not the file that was exported (its SHA-256 differs from {MANIFEST}); "
            "export the run again"
        )
