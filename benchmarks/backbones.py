"""Compare DINO and SimCLR in `visir pretrain` with equal time, and CMAG started from each.

On the people of the demo, whose runs are the second row: a micro transformer with random weights,
about two minutes of pre-training, then CMAG. Results are those of the last epoch; the scored people
are neither trained on nor used for any choice.

    python benchmarks/backbones.py            # about 25 minutes on two cores, after demo.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
from demo import spread

from visir.commands.demo import PROTOCOL, demo
from visir.core.run import Run
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate, score_and_log
from visir.training.pretrain import pretrain
from visir.training.train import train

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "backbones.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"DINO": [], "SimCLR": []}
    for seed in arguments.seeds:
        folder = arguments.out / str(seed)
        if not Run(folder).scores.exists():
            demo(out=folder, seed=seed)
        found["SimCLR"].append(logged(folder / "backbone", folder))
        found["DINO"].append(with_dino(folder, seed))
        print(seed, {name: of[-1] for name, of in found.items()}, flush=True)
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def with_dino(folder: Path, seed: int) -> dict[str, float]:
    """The same people, the same CMAG, another backbone."""
    people, backbone, run = folder / "people", folder / "dino", folder / "cmag-after-dino"
    result = folder / "dino.json"
    if not result.exists():
        benchmark = open_benchmark(people)

        def score(epoch: int, plan: object, embedder) -> None:
            if plan is None:
                score_and_log(Run(run), embedder, benchmark, epoch, "backbone", [PROTOCOL])

        start = pretrain(people, backbone, method="dino", seed=seed,
                         resume=(backbone / "config.yaml").exists())  # fmt: skip
        train("cmag", people, run, seed=seed, start=start, on_epoch=score,
              resume=(run / "config.yaml").exists())  # fmt: skip
        mean = evaluate(load(run), benchmark, [PROTOCOL]).results[PROTOCOL].mean
        result.write_text(json.dumps({**logged(backbone, run), "after": mean.mAP}))
    kept: dict[str, float] = json.loads(result.read_text())
    return kept


def logged(backbone: Path, run: Path) -> dict[str, float]:
    """Read the minutes of pre-training, the mAP before and after CMAG, and the first purity."""
    lines = Run(run).read_metrics()
    epochs = [line for line in Run(backbone).read_metrics() if line["kind"] == "epoch"]
    scores = {line["label"]: line["mAP"] for line in lines if line["kind"] == "scores"}
    first = next(line for line in lines if line["kind"] == "plan")
    return {
        "minutes": sum(line["seconds"] for line in epochs) / 60,
        "before": scores["backbone"],
        "after": scores.get("stage 2", float("nan")),
        "visible": first["purity_visible"],
        "infrared": first["purity_infrared"],
    }


def table(found: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        "| pre-training | minutes | purity of the first clusters, visible + infrared, % "
        "| mAP before CMAG, % | after, % |",
        "|---|---|---|---|---|",
    ]
    for name, of in found.items():
        minutes, before, after, visible, infrared = (
            np.array([one[key] for one in of])
            for key in ("minutes", "before", "after", "visible", "infrared")
        )
        lines.append(
            f"| {name} | {spread(minutes, 1)} | {100 * visible.mean():.0f} + "
            f"{100 * infrared.mean():.0f} | {spread(100 * before, 1)} | {spread(100 * after, 1)} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± sample standard deviation over {len(found['DINO'])} seeds (people, cameras "
            "and training differ). Micro transformer, 64 x 32 pixels, from nothing, presets "
            "`tiny`; "
            "SYSU-MM01 all-search single-shot with the seeded gallery, on people never seen in "
            f"training; last epoch. {os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
