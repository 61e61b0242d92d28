"""Embed on a Ray and on a Spark cluster of two nodes on this machine, a worker killed midway.

Needs `pip install "visir[ray,spark]"` and, for Spark, Java 17 or newer. Clusters listen on loopback
addresses only and send no usage statistics. An engine that cannot be started is reported and left
out of the table. Run it from the root of the repository.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYSPARK_PYTHON": sys.executable}
os.environ |= {"SPARK_LOCAL_IP": "127.0.0.1", "OMP_NUM_THREADS": "1"}

import numpy as np

from visir.embedding import bulk
from visir.embedding.engines import list_rows, on_ray, on_spark
from visir.embedding.engines.parquet import read_parquet
from visir.embedding.pytorch import load
from visir.synth.write import synthesise

MODEL = "builtin"
BATCH = 16


def killed_once(marker: Path, sources: list[str], at: str) -> None:
    """Kill this process, the first time that the image `at` is in a batch."""
    if at in sources and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Killed(on_ray.RayEmbedder):
    """The actor, which is killed once after it has loaded its model and embedded a batch."""

    def __init__(self, model: str, marker: Path, at: str) -> None:
        super().__init__(model)
        self._marker, self._at = marker, at

    def __call__(self, table: Any) -> Any:
        """Embed a table."""
        found = super().__call__(table)
        killed_once(self._marker, table["path"].to_pylist(), self._at)
        return found


def by_ray(rows: list[dict[str, Any]], out: Path, marker: Path, at: str) -> int:
    """Embed on two Ray nodes; the number of nodes."""
    import ray
    from ray.cluster_utils import Cluster

    # Ray replaces 127.0.0.1 by the machine's own address, but no other address of loopback.
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = Cluster(True, head_node_args={**node, "node_ip_address": "127.0.0.2"})
    try:
        cluster.add_node(**node, node_ip_address="127.0.0.3")
        ray.init(address=cluster.address, _node_ip_address="127.0.0.2", log_to_driver=False)
        nodes = sum(each["Alive"] for each in ray.nodes())
        dataset = ray.data.from_items(rows, override_num_blocks=8)
        dataset.map_batches(
            Killed, fn_constructor_args=(MODEL, marker, at), batch_format="pyarrow",
            batch_size=BATCH, compute=ray.data.ActorPoolStrategy(size=2), num_cpus=0.5,
        ).write_parquet(str(out))  # fmt: skip
        return nodes
    finally:
        ray.shutdown()
        cluster.shutdown()


def by_spark(rows: list[dict[str, Any]], out: Path, marker: Path, at: str) -> int:
    """Embed on two Spark executors; their number."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1", "spark.scheduler.minRegisteredResourcesRatio": "1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH),
    }  # fmt: skip
    builder = SparkSession.builder.master("local-cluster[2,1,1024]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        whole = on_spark.in_pandas(MODEL)

        def embed(frames: Iterator[Any]) -> Iterator[Any]:
            for frame in frames:
                yield from whole(iter([frame]))
                if at in frame["path"].tolist() and not marker.exists():
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

        kinds = "path string, camera string, modality string, time double, tags array<string>"
        values = [[row[name.split()[0]] for name in kinds.split(", ")] for row in rows]
        frame = session.createDataFrame(values, kinds).repartition(8)
        frame.mapInPandas(embed, on_spark.SCHEMA).write.parquet(str(out))
        return session.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
    finally:
        session.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/tables/engines.md"))
    parser.add_argument("--ids", type=int, default=24, help="people")
    asked = parser.parse_args()
    lines = [
        "| engine | nodes | images | killed | images out | twice | missing "
        "| largest deviation from `visir embed` |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        synthesise(here / "people", ids=asked.ids, images=2, size="96x48", progress=False)
        rows = list_rows(here / "people")
        embedder = load(MODEL)
        bulk.embed_many(embedder, [(here / "people").resolve()], here / "plain")
        plain: dict[str, Any] = {}
        for entries, vectors in bulk.read_shards(here / "plain"):
            plain |= dict(zip([entry.source for entry in entries], vectors, strict=True))
        assert {row["path"] for row in rows} == set(plain)
        for name, engine in (("Ray Data", by_ray), ("Spark", by_spark)):
            out, marker = here / name, here / f"{name}.killed"
            try:
                nodes = engine(rows, out, marker, str(rows[len(rows) // 2]["path"]))
            except Exception:
                traceback.print_exc()
                print(f"{name}: left out")
                continue
            found = list(read_parquet(out, embedder.fingerprint))
            sources = Counter(entry.source for each in found for entry in each.entries)
            worst = max(
                float(np.abs(vector - plain[entry.source]).max())
                for each in found
                for entry, vector in zip(each.entries, each.vectors, strict=True)
            )
            lines.append(
                f"| {name} | {nodes} | {len(rows)} | {int(marker.exists())} worker | "
                f"{sources.total()} | {sources.total() - len(sources)} | "
                f"{len(plain.keys() - sources.keys())} | {worst:.1e} |"
            )
            print(lines[-1], flush=True)
    asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
