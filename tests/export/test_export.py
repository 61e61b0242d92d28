"""Graphs of an export give PyTorch's embeddings, for every network, modality and batch."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import visir.export
from visir import cli
from visir.commands.export import export as command
from visir.core.types import InputError, Modality
from visir.data.registry import open_benchmark
from visir.data.tree import image_tree
from visir.embedding import onnx as runtime
from visir.embedding import pytorch as embed
from visir.embedding.engines import RowEmbedder, RowOptions
from visir.evaluation.evaluate import evaluate
from visir.export import Parity, export
from visir.web.client import Client

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VIS, IR = Modality.VISIBLE, Modality.INFRARED


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Of several sizes, other than any network's."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 9 * i, 30 + 7 * i, 3), np.uint8) for i in range(6)]


def in_pytorch(made, flip: bool) -> embed.Embedder:
    embedder = embed.load(made.run)
    embedder.precision, embedder.flip = "fp32", flip
    return embedder


def cosines(a, b):
    return (a.astype(np.float64) * b).sum(axis=1)


# findings/small-term.sh: the export `strips` has the tenth power
@pytest.mark.parametrize("modality", Modality)
def test_every_embedding_is_pytorchs(modality, made, pictures):
    found = runtime.load(made.out).embed(pictures, modality)
    expected = in_pytorch(made, made.flip).embed(pictures, modality)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert cosines(found, expected).min() > 0.9999
    assert cosines(found, in_pytorch(made, made.flip).embed(pictures, modality.other)).max() < 0.999
    assert cosines(found, in_pytorch(made, not made.flip).embed(pictures, modality)).min() < 0.9999


def test_the_check_has_seen_both_modalities_alone_and_among_others(made, people):
    assert list(made.found.parity) == [VIS, IR]
    test = open_benchmark(people).test
    for modality, of in made.found.parity.items():
        assert of.images == sum(record.modality is modality for record in test) > 40
        assert 0.9999 < of.minimum <= of.mean < 1.0001
        assert 0.9999 < of.alone < 1.0001
    assert made.found.accuracy == {}
    about = json.loads((made.out / "export.json").read_text())
    assert about["parity"]["images_of"] == "synthetic SYSU-MM01"
    assert about["parity"]["infrared"]["minimum"] == made.found.parity[IR].minimum


def test_batches_may_have_any_size(made):
    session = onnxruntime.InferenceSession(made.out / "visible.onnx")
    size = runtime.load(made.out).size
    pixels = np.random.default_rng(0).integers(0, 256, (7, *size, 3), np.uint8)
    whole = session.run(["descriptors"], {"pixels": pixels})[0]
    for count in (1, 2):
        part = session.run(["descriptors"], {"pixels": pixels[:count]})[0]
        np.testing.assert_allclose(part, whole[:count], atol=1e-5)
    assert session.get_inputs()[0].shape == ["batch", *size, 3]


def test_weights_lie_on_disk_once_for_both_modalities(made):
    graphs = [onnx.load(made.out / f"{m.value}.onnx", load_external_data=False) for m in Modality]
    places = [
        {entry.value for entry in tensor.external_data if entry.key == "offset"}.pop()
        for graph in graphs
        for tensor in graph.graph.initializer
        if tensor.external_data
    ]
    assert len(set(places)) < 0.8 * len(places)
    assert {path.name for path in made.out.iterdir()} == {
        "visible.onnx", "infrared.onnx", "weights.bin", "export.json"
    }  # fmt: skip
    state = (made.run / "model.safetensors").stat().st_size
    assert (made.out / "weights.bin").stat().st_size < 1.3 * state


# findings/old-runtime.sh
def test_the_format_is_no_newer_than_the_operators(made):
    """Operators of opset 18 came with format 8, which ONNX Runtime reads since 1.14."""
    for modality in Modality:
        graph = onnx.load(made.out / f"{modality.value}.onnx", load_external_data=False)
        assert [(of.domain, of.version) for of in graph.opset_import if not of.domain] == [("", 18)]
        assert graph.ir_version == 8


def test_weights_inside_the_graphs(resnet, people, tmp_path, traced):
    export(resnet.run, tmp_path / "out", people, one_file=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"visible.onnx", "infrared.onnx", "export.json"}
    beside = runtime.load(resnet.out)
    pixels = np.random.default_rng(0).integers(0, 256, (3, *beside.size, 3), np.uint8)
    for modality in Modality:
        inside = (tmp_path / "out" / f"{modality.value}.onnx").read_bytes()
        session = onnxruntime.InferenceSession(inside)  # without any folder
        found = session.run(["descriptors"], {"pixels": pixels})[0]
        np.testing.assert_array_equal(found, beside.embed_pixels(pixels, modality))
    assert runtime.load(tmp_path / "out").fingerprint == beside.fingerprint


def test_graphs_tell_nothing_of_the_machine(made):
    for modality in Modality:
        content = (made.out / f"{modality.value}.onnx").read_bytes()
        assert b'File "' not in content
        assert str(ROOT).encode() not in content


def test_it_says_what_the_run_says(resnet):
    exported, run = runtime.load(resnet.out), embed.load(resnet.run)
    for name in ("size", "width", "method", "dataset", "split", "flip"):
        assert getattr(exported, name) == getattr(run, name), name
    weights = (resnet.run / "model.safetensors").read_bytes()
    assert exported.fingerprint == run.fingerprint == hashlib.sha256(weights).hexdigest()
    assert exported.precision == "fp32"
    with pytest.raises(AttributeError):
        exported.flip = False
    assert exported.embed([], VIS).shape == (0, exported.width)


def test_it_is_scored_and_ordered_as_the_run_is(resnet, people):
    benchmark = open_benchmark(people)
    mixed = benchmark.test[::5]
    exported, run = runtime.load(resnet.out), in_pytorch(resnet, True)
    assert cosines(exported.embed_records(mixed), run.embed_records(mixed)).min() > 0.9999
    assert exported.embed_records([]).shape == (0, exported.width)
    scores = [evaluate(embedder, benchmark) for embedder in (exported, run)]
    means = [[result.mean for result in found.results.values()] for found in scores]
    np.testing.assert_allclose(*means, atol=0.01)
    assert scores[0].flip_averaged


def test_images_are_embedded_without_torch(resnet, people):
    image = image_tree(people / "cam3")[0]
    code = (
        "import sys, visir.embedding.onnx as runtime; from visir.core.types import Modality\n"
        "found = runtime.load(sys.argv[1]).embed([sys.argv[2]], Modality.INFRARED)\n"
        "assert 'onnxruntime' in sys.modules\n"
        "assert not {'torch', 'torchvision', 'numba', 'onnx'} & set(sys.modules)\n"
        "print(found[0, :8].tolist())"
    )
    words = [sys.executable, "-c", code, str(resnet.out), str(image)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    expected = in_pytorch(resnet, True).embed([image], IR)[0, :8]
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["folder", "database"])
def test_an_export_serves_either_gallery_without_torch(resnet, people, kind, request, tmp_path):
    gallery = str(tmp_path / "gallery") if kind == "folder" else request.getfixturevalue("schema")
    assert cli.main(["index", "add", gallery, str(people), "--run", str(resnet.run)]) == 0
    (tmp_path / "torch.py").write_text("raise ImportError('PyTorch was asked for')")
    words = [sys.executable, "-m", "visir.cli", "serve", str(resnet.out), "--gallery", gallery]
    words += ["--runtime", "onnx", "--port", "0", "--desk", str(tmp_path / "desk")]
    path = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    images = image_tree(people / "cam3")[:2]
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=path) as server,
        Client(server.stdout.readline().strip()) as asked,
    ):
        try:
            everyone = asked.search([images[0]], modality="infrared", within="any", k=5)
            assert everyone.hits[0].item.source == str(images[0])
            assert everyone.hits[0].cosine > 0.9999
            across = asked.search([images[0]], modality="infrared", cameras=["cam2"], k=9)
            assert {hit.item.camera for hit in across.hits} == {"cam2"}
            again = asked.refine(across, hits=[across.hits[1].item.id])
            assert len(again.hits) == 9
            assert asked.compare(*images, modality="infrared").sides[0].map is not None
        finally:
            server.terminate()
    found = in_pytorch(resnet, True).embed([images[0]], IR) @ in_pytorch(resnet, True).embed(
        [Path(hit.item.source) for hit in across.hits], VIS).T  # fmt: skip
    np.testing.assert_allclose([hit.cosine for hit in across.hits], found[0], atol=1e-4)


@pytest.mark.parametrize("before", [False, True])
def test_swapped_modalities_are_detected_and_leave_nothing(
    before, resnet, people, tmp_path, monkeypatch
):
    out = tmp_path / "exports" / "out"
    if before:
        shutil.copytree(resnet.out, out)
    contents = {path.name: path.read_bytes() for path in out.glob("*")}
    monkeypatch.setattr(visir.export, "graph_of", lambda net, modality, size, flip: onnx.load(
        resnet.out / runtime.graph_name(modality.other)))  # fmt: skip
    with pytest.raises(InputError, match="the visible graph does not give PyTorch's embeddings"):
        export(resnet.run, out, people)
    assert list(out.parent.iterdir()) == [out] * before
    assert {path.name: path.read_bytes() for path in out.glob("*")} == contents


@pytest.mark.parametrize(
    "measured", [(0.9998, 1.0, 1.0), (1.0, 1.0, 0.9998), (np.nan, np.nan, 1.0), (1.0, 1.0, np.nan)]
)
def test_every_difference_is_refused(measured, resnet, people, tmp_path, traced, monkeypatch):
    parity = {VIS: Parity(9, 1.0, 1.0, 1.0), IR: Parity(9, *measured)}
    monkeypatch.setattr(visir.export, "_compare", lambda *arguments: parity)
    with pytest.raises(InputError, match="the infrared graph does not give"):
        export(resnet.run, tmp_path / "out", people)
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_is_replaced_and_nothing_else(resnet, people, tmp_path, traced):
    shutil.copytree(resnet.out, tmp_path / "out")
    (tmp_path / "out" / "visible.onnx").write_bytes(b"of before")
    export(resnet.run, tmp_path / "out", people)
    assert runtime.load(tmp_path / "out").method == "adca"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "out" / "export.json").unlink()
    with pytest.raises(InputError, match="out: exists and is not an export; name another"):
        export(resnet.run, tmp_path / "out", people)
    assert (tmp_path / "out" / "visible.onnx").exists()


# findings/others-in-batch.sh
def test_int8_says_what_it_costs_where_there_are_identities(resnet, people, tmp_path, traced):
    found = export(resnet.run, tmp_path / "out", people, precision="int8")
    for of in found.parity.values():
        assert 0.9 < of.minimum < 0.99999
        assert of.alone > 0.9999  # no embedding depends on the rest of its batch
    exported = runtime.load(tmp_path / "out")
    assert exported.precision == "int8"
    assert exported.fingerprint == embed.load(resnet.run).fingerprint
    benchmark = open_benchmark(people)
    scores = {name: of.as_json() for name, of in found.accuracy.items()}
    assert scores["pytorch"] == evaluate(in_pytorch(resnet, True), benchmark).as_json()
    assert scores["int8"] == evaluate(exported, benchmark).as_json()
    assert scores["int8"] != scores["pytorch"]
    stored = json.loads((tmp_path / "out" / "export.json").read_text())["accuracy"]
    assert stored == scores
    for line in ("pytorch\nprotocol", "int8\nprotocol", "minimum 0.9"):
        assert line in found.table()
    assert onnx.load(tmp_path / "out" / "visible.onnx").ir_version == 8
    sizes = [(folder / "weights.bin").stat().st_size for folder in (tmp_path / "out", resnet.out)]
    assert sizes[0] < 0.5 * sizes[1]


def test_without_data_people_are_drawn_and_only_cosines_printed(resnet, tmp_path, traced):
    shutil.copytree(resnet.run, tmp_path / "run")
    said = str(command(tmp_path / "run", precision="int8", device="cpu"))
    assert f"{tmp_path / 'run' / 'onnx-int8'}: written" in said
    assert "visible     64 images" in said
    assert "protocol" not in said
    assert runtime.load(tmp_path / "run" / "onnx-int8").precision == "int8"
    command(tmp_path / "run" / "model.safetensors", device="cpu")
    assert runtime.load(tmp_path / "run" / "onnx").precision == "fp32"


def test_unlabelled_images_are_compared_too(resnet, people, tmp_path, traced):
    for name, cam in (("visible", "cam1"), ("infrared", "cam3")):
        shutil.copytree(people / cam, tmp_path / "crops" / name)
    found = export(resnet.run, tmp_path / "out", tmp_path / "crops", precision="int8")
    assert found.people == "crops"
    assert found.accuracy == {}


def test_what_cannot_be_exported_is_named(resnet, people, tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        export(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="precision 'fp16' is unknown; use fp32 or int8"):
        export(resnet.run, tmp_path / "out", precision="fp16")
    with pytest.raises(InputError, match="nowhere: does not exist"):
        export(resnet.run, tmp_path / "out", tmp_path / "nowhere")
    with pytest.raises(InputError, match="fewer than two infrared images"):
        export(resnet.run, tmp_path / "out", people / "cam1", layout="crops")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="out: cannot be written"):
        export(resnet.run, tmp_path / "file" / "out", people)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_export_computes_in_as_many_threads_as_are_asked_for(resnet, pictures):
    content = io.BytesIO()
    Image.fromarray(pictures[0]).save(content, "PNG")
    batch = {"path": ["a.png"], "content": [content.getvalue()], "modality": ["visible"]}
    vectors = []
    for threads, expected in ((None, 0), (1, 1)):
        embed = RowEmbedder(resnet.out, RowOptions(threads=threads))
        for session in embed.embedder._sessions.values():
            assert session.get_session_options().intra_op_num_threads == expected
        vectors.append(embed(batch)["vector"][0])
    np.testing.assert_allclose(*vectors, atol=1e-5)
