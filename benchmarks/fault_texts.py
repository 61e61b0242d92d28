"""Bad lists, settings, grids, annotations and descriptions, and who reads them."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from fault_files import Given, put
from fault_mutations import (
    Changed,
    another_format,
    changed_value,
    cut,
    no_text,
    nothing,
    spoilt,
)
from fault_world import crops

from visir.bench.grid import read_grid
from visir.core.config import dump_yaml, to_mapping
from visir.core.run import Run
from visir.data import folder
from visir.data.boxes import read_boxes
from visir.data.tree import excluded
from visir.training.settings import Asked, DataPlace, new_settings, stored_settings

Make = Callable[[random.Random, Path, Path], Given]


def text_or(
    rng: random.Random, data: bytes, marker: Path, change: Callable[[], Changed]
) -> Changed:
    """Text that is none, spoilt text, or text changed by `change`."""
    chance = rng.random()
    if chance < 0.12:
        return no_text(rng, data)
    if chance < 0.3:
        changed = spoilt(rng, data)
        with contextlib.suppress(UnicodeDecodeError):
            changed.data.decode()
            return changed
        return changed._replace(bad=True)
    if chance < 0.36:
        found = another_format(rng, marker)
        with contextlib.suppress(UnicodeDecodeError):
            found.data.decode()
            return found._replace(bad=False)  # text, of which a reader may make something
        return found
    return nothing(data) if chance > 0.97 else change()


# ---- lists


def make_labels(root: Path, rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad labels.csv of a folder of images."""
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    rows = [[name, str(row % 4), ("train", "test")[row // 4 % 2], "", "2026-01-01T10:00", "a;b"]
            for row, name in enumerate(names)]  # fmt: skip
    header = ["path", "pid", "split", "camera", "time", "tags"]

    def table(joined: str = "\n") -> bytes:
        return (joined.join(",".join(row) for row in [header, *rows]) + "\n").encode()

    def change() -> Changed:
        row = rng.choice(rows)
        how = rng.choice(("path", "fields", "twice", "split", "time", "column", "quote", "pid"))
        bad = True
        if how == "path":
            row[0] = rng.choice(
                ("", "../" + row[0], "/etc/passwd", row[0] + "\x00", "visible", "a\x1b[2J.png",
                 "../test/" + row[0], "x" * 10_000)
            )  # fmt: skip
        elif how == "fields":
            row.append("more") if rng.random() < 0.5 else row.pop()
        elif how == "twice":
            rows.append(row)
        elif how == "split":
            row[2] = rng.choice(("trian", "1", "\x07", "train;test", "None", "x" * 999))
        elif how == "time":
            row[4] = rng.choice(
                ("nan", "inf", "yesterday", "1e999", "2026-13-01", "\x00", "9" * 5000)
            )
        elif how == "column":
            place = rng.randrange(2)
            header[0] = ("pid", "paths")[place]
        elif how == "quote":
            row[rng.randrange(6)] = rng.choice(('"', 'a"b"', '"a"b'))
            bad = False
        else:
            row[1], bad = rng.choice(("9" * 30, "-1", "x" * 999, "\x07", "1.5", "\u0661")), False
        return Changed(table(), bad, how)

    return put(root / "labels.csv", text_or(rng, table(), marker, change))


def make_exclude_list(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad list of images to leave out."""
    lines = [f"visible/gate/{number}.png" for number in range(20)]
    data = ("\n".join(lines) + "\n").encode()

    def change() -> Changed:
        line = rng.choice(
            ("../../etc/passwd", "/", "\x00", "x" * 10**4, "\u202e", "a\x1b[2J", "//")
        )
        lines.insert(rng.randrange(20), line)
        joined = rng.choice(("\n", "\r", "\r\n", "\x0b", "\u2028"))
        return Changed(
            joined.join(lines * rng.choice((1, 1, 999))).encode(), False, repr(line[:20])
        )

    if rng.random() < 0.1:  # no file at all
        path = here / rng.choice(("missing.txt", "folder", "x" * 300))
        if path.name == "folder":
            path.mkdir(parents=True)
        return Given(path, True, path.name[:20])
    return put(here / "exclude.txt", text_or(rng, data, marker, change))


# ---- boxes


@cache
def boxes() -> dict[str, Any]:
    """Valid annotations by the name of their file: text, or JSON values."""
    coco = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in (1, 2)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": n,
                "image_id": 1 + n % 2,
                "category_id": 1,
                "bbox": [10, 20, 30, 60],
                "iscrowd": 0,
            }
            for n in range(6)
        ],
    }
    key = {"frame": 1, "enabled": True, "x": 10.0, "y": 10.0, "width": 5.0, "height": 20.0,
           "rotation": 0, "time": 0.04}  # fmt: skip
    value = {"sequence": [key, {**key, "frame": 9, "x": 30.0}], "labels": ["person"],
             "framesCount": 20, "duration": 0.8}  # fmt: skip
    result = {"type": "videorectangle", "id": "a", "from_name": "box", "to_name": "v",
              "value": value}  # fmt: skip
    studio = [{"id": 1, "annotations": [{"result": [result]}], "data": {"video": "a.mp4"}}]
    track = "".join(
        f'<box frame="{n}" outside="0" occluded="0" keyframe="1" xtl="1.0" ytl="2.0" xbr="30.5" '
        'ybr="60.0" z_order="0"></box>'
        for n in range(4)
    )
    cvat = (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>'
        f'<track id="0" label="person" source="manual">{track}</track></annotations>'
    )
    mot = "".join(f"{n},1,10,20,30,60,1,1,1\n" for n in range(1, 9))
    yolo = "".join(f"0 0.5 0.5 0.2 0.{n}\n" for n in range(1, 9))
    return {"coco.json": coco, "studio.json": studio, "cvat.xml": cvat, "gt.txt": mot,
            "yolo/1.txt": yolo}  # fmt: skip


_NO_NUMBERS = ("nan", "inf", "-inf", "1e999", "x", "", "\x00", "0x1f", "1;2", "9" * 400)


def make_boxes(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad annotation file."""
    name = rng.choice(sorted(boxes()))
    value = copy.deepcopy(boxes()[name])
    data = value.encode() if isinstance(value, str) else json.dumps(value).encode()

    def change() -> Changed:
        if rng.random() < 0.25 and name != "yolo/1.txt" and name != "gt.txt":
            return cut(rng, data, 0.95)
        if name == "coco.json":
            if rng.random() < 0.5:
                box = rng.choice(value["annotations"])
                box["bbox"][rng.randrange(4)] = rng.choice(("x", None, [], {}, float("nan"), 1e300))
                return Changed(json.dumps(value).encode(), True, "bbox")
            key = rng.choice(("image_id", "bbox"))
            rng.choice(value["annotations"])[key] = rng.choice(("x", None, [], {}, 99))
            return Changed(json.dumps(value).encode(), True, key)
        if name == "studio.json":
            if rng.random() < 0.5:
                key = rng.choice(value[0]["annotations"][0]["result"][0]["value"]["sequence"])
                key[rng.choice(("x", "width", "frame"))] = rng.choice(("x", None, [], float("nan")))
                return Changed(json.dumps(value).encode(), True, "a key frame")
            found, how = changed_value(rng, value)
            return Changed(json.dumps(found).encode(), False, how)
        old, new = {"cvat.xml": ("30.5", "xbr"), "gt.txt": (",30,", "width")}.get(
            name, ("0.2", "w")
        )
        wrong = rng.choice(
            [text for text in _NO_NUMBERS if "\x00" not in text or name != "cvat.xml"]
        )
        wrong = wrong.replace("1;2", "1 2") if name == "cvat.xml" else wrong.replace("1;2", "1;2")
        put_in = f",{wrong}," if name == "gt.txt" else wrong
        bad = wrong != "" or name != "yolo/1.txt"
        return Changed(value.replace(old, put_in, 1).encode(), bad, f"{new} {wrong[:9]!r}")

    (here / "yolo").mkdir(parents=True)
    (here / "yolo" / "classes.txt").write_text("person\n")
    given = put(here / name, text_or(rng, data, marker, change))
    return given._replace(path=here / "yolo") if name.startswith("yolo") else given


# ---- YAML


def payload_yaml(rng: random.Random, marker: Path) -> bytes:
    """YAML whose tags call a function in a reader that runs code."""
    return rng.choice(
        [
            f"!!python/object/apply:os.system [touch {marker}]",
            f"!!python/object/apply:subprocess.check_output [[touch, {marker}]]",
            f"!!python/object/new:os.system [touch {marker}]",
            f'!!python/object/apply:builtins.eval [\'open("{marker}", "w")\']',
            "!!python/name:os.system",
            "!!python/module:os",
        ]
    ).encode()


def changed_yaml(rng: random.Random, value: dict[str, Any], marker: Path) -> Changed:
    """Settings with a payload, an unknown key, one twice, bombs of aliases, or of wrong types."""
    data, key = dump_yaml(value).encode(), rng.choice(sorted(value))
    match rng.choice(
        ("payload", "unknown", "twice", "bomb", "deep", "top", "large", "value", "value")
    ):
        case "payload":
            place = rng.choice((b"", f"{key}: ".encode()))
            rest = (
                b""
                if not place
                else dump_yaml({k: v for k, v in value.items() if k != key}).encode()
            )
            return Changed(rest + place + payload_yaml(rng, marker) + b"\n", True, "payload")
        case "unknown":
            name = rng.choice(("surplus", "__class__", "x" * 999, "\x07", "1", "null", "~"))
            return Changed(dump_yaml({**value, name: 1}).encode(), True, f"key {name[:9]!r}")
        case "twice":
            return Changed(data + dump_yaml({key: value[key]}).encode(), True, "a key twice")
        case "bomb":
            lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
            lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
            return Changed(data + "\n".join(lines).encode() + b"\n", True, "aliases of aliases")
        case "deep":
            depth = rng.choice((60, 999, 9999))
            return Changed(data + b"surplus: " + b"[" * depth + b"]" * depth + b"\n", True, "deep")
        case "top":
            top = rng.choice(("[]", "x", "1", "- a\n- b", "? [a]\n: b", "1: 2", "2026-02-30: 1"))
            return Changed(top.encode(), True, "no keys and values")
        case "large":
            return Changed(data + b"# " + b"x" * (2 << 20), True, "2 MB")
    found, how = changed_value(rng, value)
    with contextlib.suppress(Exception):
        return Changed(yaml.safe_dump(found, sort_keys=False).encode(), False, how)
    return Changed(json.dumps(found).encode("utf-8", "surrogatepass"), False, how)


ASKED = Asked("adca", "smoke", {}, 0, DataPlace(Path("people"), None, 1), None)


@cache
def run_settings() -> dict[str, Any]:
    """The settings of a run, as its config.yaml has them."""
    return to_mapping(new_settings(ASKED))


def make_settings(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad config.yaml of a run."""
    value = copy.deepcopy(run_settings())

    def change() -> Changed:
        if rng.random() < 0.4:
            key = rng.choice(("method", "preset", "seed", "data", "split", "lr", "epochs"))
            wrong: list[Any] = [[], {}, [1], {"x": 1}, float("nan")]
            where = value["settings"] if key in value["settings"] else value
            where[key] = rng.choice(wrong)
            return Changed(dump_yaml(value).encode(), key in where and key != "epochs", key)
        return changed_yaml(rng, value, marker)

    return put(here / "config.yaml", text_or(rng, dump_yaml(value).encode(), marker, change))


def use_settings(path: Path) -> None:
    """Read the settings of a run that is to be resumed."""
    stored_settings(Run(path.parent), ASKED)


@cache
def grids() -> list[dict[str, Any]]:
    """The grids of the package."""
    import visir.bench.grid as grid

    return [
        yaml.safe_load((grid.PROFILES / f"{name}.yaml").read_text())
        for name in grid.profile_names()
    ]


def make_grid(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad grid of trainings."""
    value = copy.deepcopy(rng.choice(grids()))

    def change() -> Changed:
        if rng.random() < 0.4:
            key = rng.choice(("arms", "data", "seeds", "protocols", "table"))
            wrong: list[Any] = [1, "x", [[]], {"../x": {}}, [-1], [1.5], [None], {"x": 1}]
            value[key] = rng.choice(wrong)
            bad = not (
                (key in ("data", "table") and value[key] == {"../x": {}}) or value[key] == "x"
            )
            return Changed(dump_yaml(value).encode(), bad, f"{key} {value[key]}")
        return changed_yaml(rng, value, marker)

    return put(here / "grid.yaml", text_or(rng, dump_yaml(value).encode(), marker, change))


def kinds(place: Path) -> dict[str, tuple[Make, Callable[[Path], object]]]:
    """Name -> (make an input, read it)."""
    root = place / "labelled"
    crops(root, 16)
    return {
        "labels.csv": (partial(make_labels, root), lambda path: folder.load(path.parent)),
        "exclude lists": (make_exclude_list, excluded),
        "boxes": (make_boxes, read_boxes),
        "settings (YAML)": (make_settings, use_settings),
        "grids (YAML)": (make_grid, lambda path: read_grid(str(path))),
    }
