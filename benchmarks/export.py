"""Compare exported graphs with PyTorch: speed, embeddings, and the accuracy of 8 bits.

The first table uses networks at full size with random weights, which take as long as trained ones;
all variants run in turns. Each further table is of a trained run, on the test images of its data
set, and includes a variant that visir does not write: 8 bits with ranges measured for every batch.
The last tables are of the ready model, with the time that loading it takes.

    python benchmarks/export.py --run runs/demo            # about ten minutes on two cores
    python benchmarks/export.py --ready            # the ready model alone: about five minutes
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from visir.bench.grid import read_grid
from visir.core.device import multiplies_bf16
from visir.core.run import Run
from visir.core.types import Benchmark, ByteArray, FloatArray, Modality
from visir.core.yaml_file import load_yaml
from visir.data.registry import open_benchmark
from visir.embedding.base import chunks_of_pixels, embed_by_modality
from visir.embedding.onnx import PIXELS, OnnxEmbedder, graph_name
from visir.embedding.pytorch import embed_pixels, load
from visir.evaluation.evaluate import score_features
from visir.export import export
from visir.nets.build import build
from visir.nets.shipped import BUILTIN, ShippedWarning
from visir.nets.weights import save_weights
from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "export.md"
SIZE, BATCHES, ALONE = (288, 144), (1, 32), 16
BF16 = multiplies_bf16(torch.device("cpu"))  # elsewhere bf16 is far slower than float32
Way = Callable[[ByteArray, Modality], FloatArray]
NAMES = {
    "small": "ViT-S/16 with ICS stems",
    "base": "ViT-B/16 with ICS stems",
    "resnet50": "two-stream ResNet-50",
}
READY = "The ready model:"  # the line between the other tables and its own
SCORED = ("default", "thermal")  # data sets of the grid `ready`: people it has never seen
LOADING = """
import time, warnings
import torch
warnings.simplefilter("ignore")
began = time.perf_counter(), time.process_time()
import visir
visir.load("builtin")
print(time.perf_counter() - began[0], time.process_time() - began[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=["small", "resnet50"], help="base, too")
    parser.add_argument("--turns", type=int, default=7, help="of all ways, after one to warm up")
    parser.add_argument("--run", type=Path, action="append", default=[], help="may be repeated")
    parser.add_argument("--data", type=Path, help="of the runs; what each was trained on")
    parser.add_argument("--ready", action="store_true", help="only the ready model")
    arguments = parser.parse_args()
    others, _, ready = TABLE.read_text("utf-8").partition(READY)
    if arguments.ready:
        ready = "\n".join(of_ready(arguments.turns))
    else:
        lines = speeds(arguments.networks, arguments.turns)
        for run in arguments.run:
            lines += ["", *cost(run, arguments.data or Path(load_yaml(Run(run).config)["data"]))]
        others = "\n".join(lines)
    text = f"{others.strip()}\n\n{READY}\n\n{ready.strip()}\n"
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def of_ready(turns: int) -> list[str]:
    """The ready model's embeddings and scores in each variant, and the time of loading it."""
    warnings.simplefilter("ignore", ShippedWarning)
    grid, lines = read_grid("ready"), []
    for name in SCORED:
        with tempfile.TemporaryDirectory() as folder:
            synthesise(Path(folder), **grid.data[name], seed=grid.seeds[0], progress=False)
            lines += [*cost(Path(BUILTIN), Path(folder)), ""]
    return [*lines, loading(turns)]


def loading(turns: int) -> str:
    """How long loading the ready model takes, each time in a fresh process."""
    command = [sys.executable, "-c", LOADING]
    outputs = [subprocess.check_output(command, text=True).split() for _ in range(turns + 1)]
    taken, computing = np.array(outputs[1:], float).T
    return (
        f'`import visir` and `visir.load("builtin")` take {np.median(taken):.2f} s '
        f"({taken.min():.2f} to {taken.max():.2f}) after `import torch`, "
        f"{np.median(computing):.2f} s of them on the processor: median (lowest to highest) of "
        f"{turns} processes, after one to warm up."
    )


def speeds(networks: list[str], turns: int) -> list[str]:
    """The first table, and what its numbers are."""
    lines = [
        f"| network, way | {BATCHES[0]} image, ms | {BATCHES[1]} images, ms | times as fast "
        "| minimum cosine |",
        "|---|---|---|---|---|",
    ]
    for network in networks:
        rows = speed(network, turns)
        lines += rows
        print(*rows, sep="\n", flush=True)
    return [
        *lines,
        "",
        f"{SIZE[0]} x {SIZE[1]}, mirror images included. Median (lowest to highest) of "
        f"{turns} turns; times as fast as PyTorch in float32 with {BATCHES[1]} images. "
        "The cosine is the minimum over random pixels, with PyTorch in float32. "
        f"{os.cpu_count()} cores ({platform.machine()}), PyTorch {torch.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}."
        + ("" if BF16 else " No bf16: this processor has no units for it."),
    ]


def speed(network: str, turns: int) -> list[str]:
    """A row for each way a network can run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        torch.manual_seed(0)
        net = build(network, SIZE)
        about = {"net": {**net.described, "image_size": SIZE}, "method": "none"}
        save_weights(Run(run).weights, net, about)
        ways = ways_of(run)
    pixels = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *SIZE, 3), np.uint8)
    found = {name: way(pixels, Modality.VISIBLE) for name, way in ways.items()}
    first = next(iter(ways))
    taken: dict[tuple[str, int], list[float]] = {(n, b): [] for n in ways for b in BATCHES}
    for turn in range(turns + 1):
        for (name, batch), milliseconds in taken.items():
            began = time.perf_counter()
            ways[name](pixels[:batch], Modality.VISIBLE)
            if turn:
                milliseconds.append(1e3 * (time.perf_counter() - began))
    lines = []
    for name in ways:
        base, own = (np.median(taken[of, BATCHES[1]]) for of in (first, name))
        cells = [f"{NAMES.get(network, network)}, {name}"]
        cells += [spread(taken[name, batch]) for batch in BATCHES]
        cells += [f"{base / own:.1f}", f"{(found[name] * found[first]).sum(axis=1).min():.5f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cost(run: Path, data: Path) -> list[str]:
    """Scores of each variant on a data set, and cosines of its embeddings with PyTorch's."""
    benchmark, about = open_benchmark(data), load(run)
    head = ["way", "minimum cosine", "mean", "single image or batch"]
    head += [f"{key}, R1 / mAP" for key in benchmark.protocols]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    expected = None
    for name, way in ways_of(run, data).items():
        features = embedded(way, benchmark, about.size)
        expected = features if expected is None else expected
        cosines = (features * expected).sum(axis=1)
        alone = dependence(way, benchmark, about.size)
        cells = [f"{value:.5f}" for value in (cosines.min(), cosines.mean(), alone)]
        means = [of.mean for of in score_features(features, benchmark).results.values()]
        cells += [f"{100 * of.rank1:.2f} / {100 * of.mAP:.2f}" for of in means]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return [
        *lines,
        "",
        f"{about.method} ({type(about.net).__name__}, {about.net.described['size']}) at "
        f"{about.size[0]} x {about.size[1]}, {len(benchmark.test)} test images of "
        f"{benchmark.name}, accuracies "
        'in percent. Cosines are with PyTorch in float32; "single image or batch" is the minimum '
        f"cosine between an image embedded alone and in a batch, of {ALONE} images per modality.",
    ]


def ways_of(run: Path, data: Path | None = None) -> dict[str, Way]:
    """PyTorch in float32, then all other variants; with data, also ranges per batch."""
    net, cpu = load(run).net, torch.device("cpu")
    ways: dict[str, Way] = {
        "PyTorch, float32": lambda x, m: embed_pixels(net, x, m, cpu, "fp32").numpy(),
    }
    if BF16:
        ways["PyTorch, bf16"] = lambda x, m: embed_pixels(net, x, m, cpu, "bf16").numpy()
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "int8"):
            out = Path(folder) / precision
            export(run, out, data, precision=precision)
            ways[f"ONNX, {precision}"] = OnnxEmbedder(out).embed_pixels
        if data is not None:
            ways["ONNX, int8 by batch"] = by_batch(Path(folder) / "fp32")
    return ways


def by_batch(graphs: Path) -> Way:
    """The same products in 8 bits, ranges found anew for every batch."""
    sessions = {}
    for modality in Modality:
        name = graph_name(modality)
        out = str(graphs / f"by-batch-{name}")
        model = onnx.load(graphs / name)
        add_pre_process_metadata(model)  # else it warns
        quantize_dynamic(
            model, out, op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
        )  # fmt: skip
        sessions[modality] = onnxruntime.InferenceSession(out)

    def embed(pixels: ByteArray, modality: Modality) -> FloatArray:
        run = sessions[modality].run
        parts = [pixels[i : i + 32] for i in range(0, len(pixels), 32)]
        return np.concatenate([run(None, {PIXELS: part})[0] for part in parts])

    return embed


def embedded(way: Way, benchmark: Benchmark, size: tuple[int, int]) -> FloatArray:
    """Descriptors of all test images."""
    return embed_by_modality(
        lambda paths, m: np.concatenate([way(x, m) for x in chunks_of_pixels(paths, size)]),
        benchmark.test,
    )


def dependence(way: Way, benchmark: Benchmark, size: tuple[int, int]) -> float:
    """The minimum cosine between an image embedded alone and in a batch."""
    minimum = 1.0
    for modality in Modality:
        paths = [of for of in benchmark.test if of.modality is modality][:ALONE]
        pixels = next(chunks_of_pixels(paths, size))
        among = way(pixels, modality)
        alone = np.concatenate([way(pixels[i : i + 1], modality) for i in range(len(pixels))])
        minimum = min(minimum, float((among * alone).sum(axis=1).min()))
    return minimum


def spread(values: list[float]) -> str:
    return f"{np.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
