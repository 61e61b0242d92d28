"""Embed images with ONNX Runtime alone: what `visir export` wrote, without PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visir.core.run import sha256
from visir.core.types import ByteArray, FloatArray, InputError, Modality, Record
from visir.embedding.base import Image, chunks_of_pixels, embed_by_modality

MANIFEST = "export.json"
FORMAT = 1
PIXELS, DESCRIPTORS = "pixels", "descriptors"  # what a graph takes and gives
_BATCH = 32  # images a graph sees at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What export.json holds.

    image_size: [height, width] in pixels; width: numbers a descriptor has; flip: whether it is the
    mean over an image and its mirror image; precision: "fp32" or "int8"; fingerprint: SHA-256 of
    the weights file that was exported; files: SHA-256 by name; parity and accuracy: what
    `visir.export.Exported` says.
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
    files: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)


class OnnxEmbedder:
    """An exported network, used like `visir.embedding.pytorch.Embedder`.

    Args:
        folder: what `visir export` wrote.

    Attributes:
        size: (height, width) images are resized to, in pixels.
        width: numbers a descriptor has.
        method: what trained the network.
        precision: "fp32" or "int8".
        dataset: name of the benchmark it was trained on; None where unknown.
        split: that benchmark's split; None where it has only one.
        fingerprint: SHA-256 of the weights file it was exported from, hexadecimal.

    Raises:
        InputError: no export, another format, a file missing or damaged, or no ONNX Runtime.
    """

    def __init__(self, folder: Path | str) -> None:
        about = _manifest(Path(folder))
        height, width = about.image_size
        self.size = (height, width)
        self.width = about.width
        self.method = about.method
        self.precision = about.precision
        self.dataset = about.dataset
        self.split = about.split
        self.fingerprint = about.fingerprint
        self._flip = about.flip
        self._sessions = {m: _session(Path(folder) / graph_name(m)) for m in Modality}

    @property
    def flip(self) -> bool:
        """Whether descriptors are means over an image and its mirror image; so is the graph."""
        return self._flip

    def embed(
        self, images: Sequence[Image], modality: Modality, progress: bool = False
    ) -> FloatArray:
        """As `visir.embedding.pytorch.Embedder.embed`."""
        chunks = chunks_of_pixels(images, self.size, progress)
        found = [self.embed_pixels(pixels, modality) for pixels in chunks]
        return np.concatenate(found) if found else np.empty((0, self.width), np.float32)

    def embed_records(self, records: Sequence[Record], progress: bool = False) -> FloatArray:
        """Descriptors of records of both modalities, in their order: (N, D) float32."""
        return embed_by_modality(lambda paths, m: self.embed(paths, m, progress), records)

    def embed_pixels(self, pixels: ByteArray, modality: Modality) -> FloatArray:
        """Descriptors, (N, D) float32, of (N, height, width, 3) uint8 at the network's size."""
        run = self._sessions[modality].run
        parts = [pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH)]
        return np.concatenate([run([DESCRIPTORS], {PIXELS: part})[0] for part in parts])


def load(folder: Path | str) -> OnnxEmbedder:
    """Open an export as `visir.load` opens a run; raises the same `InputError`s."""
    return OnnxEmbedder(folder)


def graph_name(modality: Modality) -> str:
    """The file name of a modality's graph."""
    return f"{modality.value}.onnx"


def _manifest(folder: Path) -> Manifest:
    """What export.json says, once the files it names are found to be those it means."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a folder that `visir export` wrote")
    try:
        about = dict(json.loads(path.read_text(encoding="utf-8")))
        if about["format"] != FORMAT:
            raise InputError(
                f"{path}: format {about['format']!r} is not {FORMAT}, which this version of visir "
                "reads; export the run again"
            )
        manifest = Manifest(**about)
        for name in sorted({*map(graph_name, Modality), *manifest.files}):
            _require_whole(folder / name, manifest.files[name])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; export the run again") from None
    return manifest


def _require_whole(path: Path, digest: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; export the run again")
    if sha256(path) != digest:
        raise InputError(
            f"{path}: not the file that was exported, its SHA-256 is not that in {MANIFEST}; "
            "export the run again"
        )


def _session(graph: Path) -> Any:  # noqa: ANN401 - an optional package's type
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "ONNX Runtime is not installed; install it with pip install onnxruntime, or "
            'pip install "visir[export]"'
        ) from None
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
