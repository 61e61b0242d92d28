"""Export a trained network as ONNX graphs, after comparing them with PyTorch.

The input of a graph is (B, H, W, 3) uint8 RGB pixels, its output (B, D) float32 embeddings of
length 1. It contains the normalisation of pixels and embeddings and the mirror image, so a runtime
in any language only resizes images. Each modality has a graph; both share one weights file, or each
holds its own weights.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from visir import __version__
from visir.core.lock import locked
from visir.core.run import atomic_write, sha256, write_json
from visir.core.types import Benchmark, FloatArray, InputError, Modality, Record
from visir.data.ranges import as_json
from visir.data.registry import open_benchmark, open_own
from visir.embedding.onnx import MANIFEST, ExportManifest, OnnxEmbedder, graph_name
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.evaluate import score_features
from visir.evaluation.results import Evaluation
from visir.export.graphs import OPSET, graph_of, quantised
from visir.synth.write import synthesise

if TYPE_CHECKING:
    from onnx import ModelProto

Precision = Literal["fp32", "int8"]
_Embedders = dict[str, Embedder | OnnxEmbedder]
WEIGHTS = "weights.bin"
MIN_COSINE = 0.9999  # between the embeddings of a float32 graph and those of PyTorch
COMPARED, CALIBRATED = 256, 64  # maximum numbers of images per modality
_ALONE = 16  # images that are also embedded in a batch of their own
_ALIGNMENT = 4096  # bytes, so that a runtime can map weights into memory
_SMALL = 1024  # bytes; smaller tensors stay in the graph, which infers shapes from some of them


class Parity(NamedTuple):
    """Cosines between a modality's embeddings and those of PyTorch in float32.

    images: number of compared images; minimum, mean: over these images; alone: the minimum cosine
    between the embeddings of an image in a batch of its own and in a larger batch.
    """

    images: int
    minimum: float
    mean: float
    alone: float


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export and its agreement with PyTorch.

    folder: of the graphs; precision: of the graphs; people: the data set whose images were
    compared; accuracy: for int8 graphs and test images with identities, the results of "pytorch"
    in float32 and of "int8"; otherwise empty.
    """

    folder: Path
    precision: Precision
    people: str
    parity: Mapping[Modality, Parity]
    accuracy: Mapping[str, Evaluation]

    def as_json(self) -> dict[str, Any]:
        """The cosines and accuracies (fractions, 0..1) as in export.json."""
        cosines = {modality.value: of._asdict() for modality, of in self.parity.items()}
        accuracy = {name: of.as_json() for name, of in self.accuracy.items()}
        return {"parity": {"images_of": self.people, **cosines}, "accuracy": accuracy}

    def __str__(self) -> str:
        return f"{self.folder}: written\n\n{self.table()}"

    def table(self) -> str:
        """The cosines, one line per modality, and the accuracies, as text."""
        lines = [f"{self.precision}: cosine with PyTorch in float32, images of {self.people}"]
        lines += [
            f"{modality.value:<9} {of.images:>4} images  minimum {of.minimum:.6f}  "
            f"mean {of.mean:.6f}  single image or batch {of.alone:.6f}"
            for modality, of in self.parity.items()
        ]
        for name, of in self.accuracy.items():
            lines += ["", name, of.table()]
        return "\n".join(lines)


def export(
    run: Path,
    out: Path,
    data: Path | None = None,
    *,
    layout: str | None = None,
    precision: Precision = "fp32",
    flip: bool = True,
    one_file: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Exported:
    """Write a trained network as ONNX graphs, and compare them with PyTorch.

    Arguments are those of `visir.commands.export.export`; `flip` is the opposite of its `no_flip`,
    and `progress` shows progress bars.

    Raises:
        InputError: the run, data or precision does not exist, `out` holds other files, a package
            is missing, or the embeddings of float32 graphs differ from PyTorch's.
    """
    _require_known(precision)
    _require_packages()
    reference = load(run, device)
    reference.flip, reference.precision = flip, "fp32"
    with _whole(out) as folder, _people(data, layout, reference, progress) as people:
        images = {m: _some(people.test or people.train, m, COMPARED) for m in Modality}
        net, size = load(run).net, reference.size
        models = {m: graph_of(net, m, size, flip) for m in Modality}
        about = _write(folder, models, _about(reference), one_file)
        expected = {m: reference.embed(images[m], m, progress) for m in Modality}
        parity = _compare(expected, OnnxEmbedder(folder), images, progress)
        _require_parity(run, parity)
        accuracy = {}
        if precision == "int8":
            seen = {m: _some(people.train or people.test, m, CALIBRATED) for m in Modality}
            models = {m: quantised(folder / graph_name(m), seen[m], size) for m in Modality}
            about = _write(folder, models, replace(about, precision=precision), one_file)
            exported = OnnxEmbedder(folder)
            parity = _compare(expected, exported, images, progress)
            if data is not None and people.protocols:
                both: _Embedders = {"pytorch": reference, "int8": exported}
                accuracy = {name: _scores(of, people, progress) for name, of in both.items()}
        result = Exported(out, precision, people.name, parity, accuracy)
        write_json(folder / MANIFEST, asdict(replace(about, **result.as_json())))
    return result


def _about(embedder: Embedder) -> ExportManifest:
    """The manifest before anything is written or compared."""
    return ExportManifest(
        visir=__version__,
        method=embedder.method,
        dataset=embedder.dataset,
        split=embedder.split,
        image_size=embedder.size,
        width=embedder.width,
        flip=embedder.flip,
        precision="fp32",
        opset=OPSET,
        fingerprint=embedder.fingerprint,
        caution=embedder.caution,
        ranges=as_json(embedder.ranges),
    )


def _require_known(precision: str) -> None:
    if precision not in get_args(Precision):
        raise InputError(
            f"precision {precision!r} is unknown; use {' or '.join(get_args(Precision))}"
        )


def _require_packages() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise InputError(f'export: {name} is not installed; pip install "visir[export]"')


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that replaces `out` if the block succeeds; it lies in a locked one beside it."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise InputError(f"{out}: exists and is not an export; name another folder")
    beside = out.with_name(f".{out.name}.new")
    fix = f"wait for the other export to {out}, or name another folder"
    try:
        beside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or error})") from error
    with locked(beside, "exports", fix):
        new, old = beside / "new", beside / "old"
        if old.exists() and not out.exists():  # a process was ended between the two renames
            old.rename(out)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            yield new
            if out.exists():
                out.rename(old)
            new.rename(out)
        except OSError as error:
            raise InputError(f"{out}: cannot be written ({error.strerror or error})") from error
        finally:
            if old.exists() and not out.exists():
                old.rename(out)
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _people(
    data: Path | None, layout: str | None, embedder: Embedder, progress: bool
) -> Iterator[Benchmark]:
    """The data set at the split the network was trained on, or 32 synthetic people."""
    if data is not None:
        yield open_own(data, layout, embedder.dataset, embedder.split, embedder.ranges)
        return
    with TemporaryDirectory() as folder:
        size = "{}x{}".format(*embedder.size)
        synthesise(Path(folder), ids=32, images=1, size=size, workers=1, progress=progress)
        yield open_benchmark(Path(folder))


def _some(records: Sequence[Record], modality: Modality, maximum: int) -> list[Record]:
    """At most `maximum` images of a modality, spread evenly over the records."""
    found = [record for record in records if record.modality is modality]
    if len(found) < 2:
        raise InputError(
            f"data: fewer than two {modality.value} images to compare; give a data set with both "
            "modalities, or omit the data"
        )
    rows = np.linspace(0, len(found) - 1, min(maximum, len(found))).astype(int)
    return [found[row] for row in rows]


def _write(
    folder: Path, models: Mapping[Modality, ModelProto], about: ExportManifest, one_file: bool
) -> ExportManifest:
    """Write the graphs, their weights, and the manifest."""
    names = [graph_name(modality) for modality in models]
    if one_file:
        (folder / WEIGHTS).unlink(missing_ok=True)  # of the float32 graphs before
    else:
        _write_weights(folder / WEIGHTS, models.values())
        names.append(WEIGHTS)
    for modality, model in models.items():
        with atomic_write(folder / graph_name(modality)) as file:
            file.write(model.SerializeToString())
    about = replace(about, files={name: sha256(folder / name) for name in names})
    write_json(folder / MANIFEST, asdict(about))
    return about


def _write_weights(path: Path, models: Iterable[ModelProto]) -> None:
    """Move the weights out of the graphs into a file that has each tensor once."""
    from onnx.external_data_helper import set_external_data

    places: dict[bytes, int] = {}
    with atomic_write(path) as file:
        for tensor in (tensor for model in models for tensor in model.graph.initializer):
            length = len(tensor.raw_data)
            if length < _SMALL:
                continue
            content = hashlib.sha256(tensor.raw_data).digest()
            if content not in places:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                places[content] = file.tell()
                file.write(tensor.raw_data)
            set_external_data(tensor, path.name, places[content], length)
            tensor.ClearField("raw_data")


def _compare(
    expected: Mapping[Modality, FloatArray],
    exported: OnnxEmbedder,
    images: Mapping[Modality, Sequence[Record]],
    progress: bool,
) -> dict[Modality, Parity]:
    """Compare the embeddings of each modality with the expected ones."""
    parity = {}
    for modality, records in images.items():
        found = exported.embed(records, modality, progress)
        alone = np.concatenate([exported.embed([one], modality) for one in records[:_ALONE]])
        cosines = _cosines(found, expected[modality])
        parity[modality] = Parity(
            images=len(records),
            minimum=float(cosines.min()),
            mean=float(cosines.mean()),
            alone=float(_cosines(found[: len(alone)], alone).min()),
        )
    return parity


def _cosines(a_ND: FloatArray, b_ND: FloatArray) -> FloatArray:
    cosines: FloatArray = np.einsum("nd,nd->n", a_ND, b_ND)
    return cosines


def _require_parity(run: Path, parity: Mapping[Modality, Parity]) -> None:
    for modality, of in parity.items():
        if not (of.minimum >= MIN_COSINE and of.alone >= MIN_COSINE):  # also refuses NaN
            raise InputError(
                f"{run}: the {modality.value} graph does not give PyTorch's embeddings (cosine "
                f"{of.minimum:.6f}, single image or batch {of.alone:.6f}, but both must be at "
                f"least {MIN_COSINE}), so nothing was written; try other versions of torch and "
                "onnxscript"
            )


def _scores(embedder: Embedder | OnnxEmbedder, people: Benchmark, progress: bool) -> Evaluation:
    """All protocols of a data set."""
    features = embedder.embed_records(people.test, progress)
    return replace(score_features(features, people), flip_averaged=embedder.flip)
