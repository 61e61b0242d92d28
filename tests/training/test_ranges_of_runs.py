"""Raw thermal images have one range in the run, its scores, its report and its export."""

import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.tiff_files import write_tiff
from visir.core.types import InputError, Span
from visir.core.yaml_file import load_yaml
from visir.data.ranges import from_json
from visir.data.registry import open_benchmark
from visir.embedding.onnx import ExportManifest
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate_run
from visir.export import _about
from visir.report import write_report
from visir.synth.write import synthesise
from visir.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]


@pytest.fixture
def raw(tmp_path, once):
    """Synthetic people whose infrared files hold counts from 7000 to 9000 instead of 0 to 255."""

    def make(folder):
        synthesise(folder / "set", ids=10, train_ids=6, images=2, size="32x16", progress=False)

    root = tmp_path / "set"
    shutil.copytree(once("training-people", make) / "set", root)
    for camera in ("cam3", "cam6"):
        for path in (root / camera).rglob("*.jpg"):
            grey = np.asarray(Image.open(path).convert("L"), np.uint16)
            counts = np.round(7000 + grey / 255 * 2000).astype(np.uint16)
            write_tiff(path.with_suffix(".tiff"), counts)
            path.unlink()
    return root


def test_a_run_keeps_its_ranges(raw, tmp_path, recwarn):
    out = tmp_path / "run"
    run = train("agw", raw, out, preset="smoke", settings={"epochs": "1"}, progress=False)
    stored = load_yaml(run.config)["ranges"]
    assert sorted(stored) == ["infrared/cam3", "infrared/cam6"]
    assert 6700 <= stored["infrared/cam3"][0] < 7500
    assert 8000 < stored["infrared/cam3"][1] <= 9200
    embedder = load(out)
    assert embedder.ranges == {name: Span(*pair) for name, pair in stored.items()}
    assert dict(open_benchmark(raw, known=embedder.ranges).ranges) == embedder.ranges
    # Resumed, it goes on with what it has, though the files would now be measured otherwise.
    learned = {raw / json.loads(line)[0] for line in run.images.read_text().splitlines()}
    for path in {*(raw / "cam3").rglob("*.tiff")} - learned:
        write_tiff(path, np.full((32, 16), 20_000, np.uint16))
    assert dict(open_benchmark(raw).ranges) != embedder.ranges
    again = {"preset": "smoke", "settings": {"epochs": "1"}, "resume": True, "progress": False}
    train("agw", raw, out, **again)
    assert load_yaml(run.config)["ranges"] == stored
    assert load(out).ranges == embedder.ranges
    evaluate_run(out, raw)
    write_report(out)
    assert not [each for each in recwarn if "no range" in str(each.message)]
    low = stored["infrared/cam3"][0]
    run.config.write_text(run.config.read_text().replace(f"- {low}\n", "- 1.0\n", 1))
    with pytest.raises(InputError, match=rf"ranges\.infrared/cam3 is \[1\.0, .*with \[{low}, "):
        train("agw", raw, out, **again)


def test_an_export_says_the_ranges_of_its_run():
    ranges = {"infrared/cam3": Span(7000, 9000)}
    embedder = SimpleNamespace(
        method="agw", dataset=None, split=None, size=(32, 16), width=8, flip=True,
        fingerprint="f", caution="", ranges=ranges,
    )  # fmt: skip
    about = json.loads(json.dumps(asdict(_about(embedder))))
    assert about["ranges"] == {"infrared/cam3": [7000, 9000]}
    assert from_json(ExportManifest(**about).ranges, "export.json") == ranges
