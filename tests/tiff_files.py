"""Small TIFF files of kinds that Pillow does not write, by the tables of TIFF 6.0."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = {"u": 1, "i": 2, "f": 3}


def write_tiff(path: Path, *pages: np.ndarray, order: str = "<", **tags: int) -> Path:
    """Write pages (H, W) or (H, W, samples), uncompressed; tags as `t262=0` go to every page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = {int(name[1:]): value for name, value in tags.items()}
    body = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    place = 4  # of the pointer to the next directory
    for page in pages:
        pixels = page if page.ndim == 3 else page[:, :, None]
        height, width, samples = pixels.shape
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        start = len(body)
        body += data + bytes(len(data) % 2)
        bits = start_of = 8 * pixels.dtype.itemsize
        if samples > 2:
            start_of = len(body)
            body += struct.pack(f"{order}{samples}H", *[bits] * samples) + bytes(samples % 2 * 2)
        entries: dict[int, Sequence[Any]] = {
            256: (4, 1, width), 257: (4, 1, height), 258: (3, samples, start_of), 259: (3, 1, 1),
            262: (3, 1, 2 if samples > 2 else 1), 273: (4, 1, start), 277: (3, 1, samples),
            278: (4, 1, height), 279: (4, 1, len(data)), 339: (3, 1, FORMATS[pixels.dtype.kind]),
        }  # fmt: skip
        if samples == 2:
            entries |= {258: (3, 2, (bits, bits)), 338: (3, 1, 2)}
        entries |= {tag: (3, 1, value) for tag, value in changed.items()}
        struct.pack_into(order + "I", body, place, len(body))
        body += struct.pack(order + "H", len(entries))
        for tag, (kind, count, value) in sorted(entries.items()):
            body += struct.pack(order + "HHI", tag, kind, count)
            if kind == 3 and count <= 2:
                both = value if isinstance(value, tuple) else (value, 0)
                body += struct.pack(order + "HH", *both)
            else:
                body += struct.pack(order + "I", value)
        place = len(body)
        body += bytes(4)
    path.write_bytes(body)
    return path
