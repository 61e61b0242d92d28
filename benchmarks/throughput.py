"""Loading, embedding and training steps, compared with research code and with an older build.

Research code is `research_code.py`: decoding and augmenting image by image in the workers of a
DataLoader, float32, loops over memories. All variants run in processes of their own, in turns, with
the same weights. The network is CMAG's, ViT-B/16 with ICS stems at 384 x 128; the images are
synthetic people of 288 x 144, as JPEG files.

    python benchmarks/throughput.py                   # about ten minutes on two cores
    python benchmarks/throughput.py --before 1684c8a  # also a commit, or the path of a checkout
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import research_code as research
import step
import torch
from builds import ROOT, Worker, build_of, named
from measure import in_turns, spread

TABLE = ROOT / "docs" / "tables" / "throughput.md"
ROWS = {
    "loader 1": "loader, colours moved in one view of three (views/s)",
    "loader 2": "loader, colours moved in all views (views/s)",
    "embedding": "embedding of files, with mirror images (images/s)",
    "step": "training step of CMAG (views/s)",
}
BATCH, BATCHES, EMBEDDED, PAD = (64, 128), 8, 16, 10  # CMAG's visible and infrared images
CPU = torch.device("cpu")
step.EACH = 8  # for three processes side by side; 16 need 20 GB together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--before", help="another build: a commit, or the path of a checkout")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--print", action="store_true", help="only print the table")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        builds = {"visir": ROOT, "research code": ROOT}
        if arguments.before:
            builds[arguments.before] = build_of(arguments.before, folder / "before")
        taken = {row: measure(builds, row, arguments.turns, place) for row in arguments.rows}
        if "embedding" in taken:
            require_alike(folder, list(builds))
    text = table(taken, list(builds), arguments.turns)
    print(text)
    if not arguments.print:
        TABLE.write_text(text, encoding="utf-8")


def prepare(folder: Path) -> None:
    """Render people, and draw weights that all variants load."""
    from visir.nets.build import build
    from visir.synth.write import synthesise

    synthesise(folder / "people", ids=24, images=4, size="288x144", progress=False)
    torch.manual_seed(0)
    torch.save(build("base", research.SIZE, research.TOKENS).state_dict(), folder / "weights.pt")


def measure(builds: dict[str, Path], row: str, turns: int, place: str) -> dict[str, list[float]]:
    """Images or views a second of every variant, turn by turn; the first turn is not counted."""
    workers = {
        name: Worker([__file__, "--worker", name, place], build) for name, build in builds.items()
    }
    found = in_turns(workers, row, turns)
    for worker in workers.values():
        worker.close()
    return found


def require_alike(folder: Path, names: Sequence[str]) -> None:
    """All variants must have embedded the images alike, up to the precision of bf16."""
    first, *others = (np.load(folder / f"{name}.npy") for name in names)
    for name, other in zip(names[1:], others, strict=True):
        least = (first * other).sum(axis=1).min()
        if not least > 0.99:
            raise SystemExit(f"{name}: embeddings differ from visir's, lowest cosine {least:.3f}")


def table(taken: dict[str, dict[str, list[float]]], names: Sequence[str], turns: int) -> str:
    """Rates and ratios as a table, with a note."""
    others = names[1:]
    head = ["", *names, *(f"times {name}" for name in others)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row, rates in taken.items():
        ratios = [np.array(rates[names[0]]) / np.array(rates[name]) for name in others]
        cells = [spread(np.array(rates[name]), 1) for name in names]
        cells += [spread(ratio, 2) for ratio in ratios]
        lines.append(f"| {ROWS[row]} | " + " | ".join(cells) + " |")
    precision = named("visir.core.device:product_dtype")(CPU, "auto")
    lines += [
        "",
        f"Median (lowest to highest) of {turns} turns, ratios turn by turn, on {os.cpu_count()} "
        f"cores ({platform.machine()}), PyTorch {torch.__version__}. Products of visir's networks "
        f"are {str(precision).removeprefix('torch.')} on this processor, those of the research "
        f"code float32. Loaders: batches of {BATCH[0]} visible images in two views and {BATCH[1]} "
        f"infrared ones; visir's images were decoded before, once for a training. Step: "
        f"{3 * step.EACH} views in CMAG's second stage, with memories of SYSU-MM01's size; the "
        "research code has TokenMatcher's losses only, without CMAG's modules.",
        "",
    ]
    return "\n".join(lines)


# ---- in the processes


def work(name: str, place: str) -> None:
    """Answer every row that is asked for with a rate."""
    import visir

    print(Path(visir.__file__).resolve().parent, flush=True)
    makers = RESEARCH if name == "research code" else VISIR
    folder, row, run = Path(place), "", None
    for line in sys.stdin:
        if line.strip() != row:
            row, run = line.strip(), None  # frees what the row before needed
            run = makers[row](folder, name)
        began = time.perf_counter()
        count = run()
        print(count / (time.perf_counter() - began), flush=True)


def files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The visible and the infrared training images."""
    modality = named("visir.core.types:Modality")
    train = named("visir.data.registry:open_benchmark")(folder / "people").train
    vis, ir = ([of.path for of in train if of.modality is kind] for kind in modality)
    return vis, ir


def loader(jitter: bool, folder: Path, name: str) -> Callable[[], int]:
    """Visir's batches, from decoded images."""
    from visir.data.dataset import Part, open_training_set
    from visir.data.transforms import Augmentation, View

    train = named("visir.data.registry:open_benchmark")(folder / "people").train
    data = open_training_set(train, research.SIZE, folder / f"cache {name}")
    rng = np.random.default_rng(0)
    every = 0.5 if jitter else 0.0

    def run() -> int:
        for number in range(BATCHES):
            vis, ir = (
                rng.choice(np.flatnonzero(data.infrared == infrared), size)
                for infrared, size in zip((False, True), BATCH, strict=True)
            )
            views = [(vis, View.PLAIN, every), (vis, View.EXCHANGE, 0.5), (ir, View.GRAY, every)]
            parts = [Part(rows, rows, Augmentation(how, moved)) for rows, how, moved in views]
            data.batch(parts, number, PAD, CPU)
        return BATCHES * (2 * BATCH[0] + BATCH[1])

    return run


def research_loader(jitter: bool, folder: Path, name: str) -> Callable[[], int]:
    made = research.training_loader(*files(folder), BATCH, jitter, BATCHES, os.cpu_count() or 1)
    return lambda: sum(len(batch) for batch in made)


def embedding(folder: Path, name: str) -> Callable[[], int]:
    from visir.nets.build import build

    net = build("base", research.SIZE, research.TOKENS)
    net.load_state_dict(torch.load(folder / "weights.pt"))
    about = {"net": {"image_size": list(research.SIZE)}, "method": "cmag"}
    embedder = named("visir.embedding.pytorch:Embedder")(net, about)
    kind, paths = named("visir.core.types:Modality")("visible"), files(folder)[0][:EMBEDDED]

    def run() -> int:
        np.save(folder / f"{name}.npy", embedder.embed(paths, kind))
        return len(paths)

    return run


def research_net(folder: Path) -> research.Net:
    net = research.Net()
    net.load_state_dict(torch.load(folder / "weights.pt"))
    return net


def research_embedding(folder: Path, name: str) -> Callable[[], int]:
    net, paths = research_net(folder), files(folder)[0][:EMBEDDED]

    def run() -> int:
        np.save(folder / f"{name}.npy", research.embed(net, paths, os.cpu_count() or 1))
        return len(paths)

    return run


def training_step(folder: Path, name: str) -> Callable[[], int]:
    """A step as the build's training loop makes it."""
    method = step.ready(CPU)
    method.base.model.load_state_dict(torch.load(folder / "weights.pt"))
    optimizer = method.optimizer()
    batch = method.data.batch(step.parts(), 0, PAD, CPU)

    def older() -> int:
        """As in the builds until commit 1684c8a, whose step is inside of their loop."""
        with step.autocast(CPU, method.config.precision):
            outputs = method.model(batch.images, batch.infrared)
        terms = method.loss(batch, outputs)
        total = torch.stack(list(terms.values())).sum()
        assert torch.isfinite(total)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        method.after_step(batch, outputs)
        assert all(math.isfinite(float(value.detach())) for value in terms.values())
        return len(batch.rows)

    try:
        from visir.training.passes import Loaded, Passes
        from visir.training.settings import Division
        from visir.training.step import train_step
    except ModuleNotFoundError:
        return older
    passes = Passes(method, method.data, CPU, Division())

    def run() -> int:
        train_step(passes, optimizer, Loaded(batch))
        return len(batch.rows)

    return run


def research_step(folder: Path, name: str) -> Callable[[], int]:
    """TokenMatcher's second stage with the memories that visir's variants have."""
    net, base = research_net(folder).train(), step.ready(CPU)
    data, base = base.data, base.base
    optimizer = torch.optim.SGD(net.parameters(), lr=3.5e-5, momentum=0.9, weight_decay=5e-4)
    images = data.batch(step.parts(), 0, PAD, CPU).images
    vis_part, _, ir_part = step.parts()
    vis, ir = step.VIS, step.IR
    labels = {vis: np.tile(vis_part.labels, 2), ir: ir_part.labels}
    rows = {vis: np.tile(vis_part.rows, 2), ir: ir_part.rows - step.IMAGES[vis]}
    labels = {of: torch.from_numpy(found) for of, found in labels.items()}
    kinds = {of: research.Memory(base.memories[of].rows_CD, 0.8) for of in (vis, ir)}
    pure = {of: research.Memory(base.pure[of].rows_CD, 0.2) for of in (vis, ir)}

    def run() -> int:
        features, tokens = net(images[: 2 * step.EACH], images[2 * step.EACH :])
        own = {vis: slice(0, 2 * step.EACH), ir: slice(2 * step.EACH, None)}
        reads = []
        for of in (ir, vis):
            other = ir if of is vis else vis
            reads.append((1.0, kinds[of], of, labels[of]))
            reads.append((0.4, kinds[other], of, base.partners[of][labels[of]]))
            reads.append((0.03, pure[of], of, base.mates[of][labels[of]]))
        loss = sum(weight * read.loss(features[own[of]], at) for weight, read, of, at in reads)
        for of in (vis, ir):
            loss = loss + research.diversity([token[own[of]] for token in tokens])
        for (a, b), lists in base.neighbours.items():
            mask = torch.zeros(len(rows[a]), step.IMAGES[b])
            for place, row in enumerate(rows[a]):
                start = lists.starts[row]
                mask[place, lists.columns[start : start + lists.counts[row]]] = 1
            near = research.towards_neighbours(features[own[a]], base.images[b].rows_CD, mask)
            loss = loss + 0.5 * near
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for _, read, of, at in reads:
            read.update(features[own[of]], at)
        assert math.isfinite(loss.item())
        return len(images)

    return run


def one_view(folder: Path, name: str) -> Callable[[], int]:
    return (research_loader if name == "research code" else loader)(False, folder, name)


def all_views(folder: Path, name: str) -> Callable[[], int]:
    return (research_loader if name == "research code" else loader)(True, folder, name)


LOADERS = {"loader 1": one_view, "loader 2": all_views}
VISIR = {**LOADERS, "embedding": embedding, "step": training_step}
RESEARCH = {**LOADERS, "embedding": research_embedding, "step": research_step}


if __name__ == "__main__":
    main()
