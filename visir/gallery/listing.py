"""What a gallery holds, as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from visir.gallery.store import Store, Stored


def listing(items: Sequence[Stored]) -> str:
    """A line for each image."""
    lines = [f"{'id':>8}  {'modality':<9} {'camera':<12} {'time (UTC)':<19}  source"]
    for item in items:
        tags = f"  [{', '.join(item.tags)}]" if item.tags else ""
        lines.append(
            f"{item.id:>8}  {item.modality.value:<9} {item.camera:<12} {said(item.time):<19}  "
            f"{item.source}{tags}"
        )
    return "\n".join(lines)


def overview(store: Store) -> str:
    """Counts, times, size, retention, and whose vectors they are."""
    stats, model = store.stats(), store.model()
    kept = "for ever" if stats.retention is None else f"for {stats.retention:g} days"
    whose = "nobody's yet" if model is None else (
        f"{model.method}, {model.width} numbers, weights {model.fingerprint[:12]}"
    )  # fmt: skip
    return "\n".join(
        [
            f"{store.name}: {stats.images} images, version {stats.version}, kept {kept}",
            f"engine      {stats.engine}, {stats.bytes_on_disk / 2**20:.1f} MiB",
            f"descriptors {whose}",
            f"modalities  {_counts(stats.by_modality)}",
            f"cameras     {_counts(stats.by_camera)}",
            f"times       {said(stats.earliest)} to {said(stats.latest)}",
        ]
    )


def said(time: float | None) -> str:
    """A time to the second, UTC."""
    if time is None:
        return "unknown"
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _counts(of: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in of.items()) or "none"
