"""From a film of one camera, by day and by night, to the search that finds a person again."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visir.commands.crop import crop
from visir.commands.index import add
from visir.commands.search import search
from visir.commands.train import train
from visir.data.registry import open_benchmark
from visir.synth.write import synthesise

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]
HEIGHT, WIDTH, TOP, STEP = 200, 320, 40, 4  # pixels; a person moves by STEP in each frame
IMAGES = 6  # of each person, by day and by night


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two people walk past each other in colour, then in infrared light; their boxes beside."""
    folder = tmp_path_factory.mktemp("film")
    synthesise(folder / "people", ids=2, train_ids=1, images=IMAGES, size="96x48", progress=False)
    lines = []
    with av.open(str(folder / "gate.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "bgr0"
        for night, camera in enumerate(("cam1", "cam3")):
            walkers = [
                sorted((folder / "people" / camera / name).iterdir()) for name in ("0001", "0002")
            ]
            for step in range(IMAGES):
                picture = np.full((HEIGHT, WIDTH, 3), 90 - 60 * night, np.uint8)
                number = IMAGES * night + step + 1
                for person, files in enumerate(walkers):
                    left = (20 + STEP * step, 240 - STEP * step)[person]
                    image = np.asarray(Image.open(files[step]).convert("RGB"))
                    picture[TOP : TOP + 96, left : left + 48] = image
                    track = 2 * night + person + 1
                    lines.append(f"{number},{track},{left + 1},{TOP + 1},48,96,1")
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    (folder / "gt.txt").write_text("\n".join(lines) + "\n")
    return folder


def tracks(out):
    with (out / "labels.csv").open(newline="") as file:
        return {row["path"]: row["track"] for row in csv.DictReader(file)}


def test_from_a_film_to_the_person(film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    crops = tmp_path / "crops"
    done = crop(film / "gate.mkv", crops, boxes=film / "gt.txt", start="2026-01-31T18:00")
    assert (done.written, done.tracks, done.skipped) == (4 * IMAGES, 4, ())
    by_track = {}
    for path, track in tracks(crops).items():
        by_track.setdefault(track, []).append(path)
    modalities = {track: {p.split("/")[0] for p in paths} for track, paths in by_track.items()}
    assert modalities == {
        "gate:1": {"visible"}, "gate:2": {"visible"},
        "gate:3": {"infrared"}, "gate:4": {"infrared"},
    }  # fmt: skip
    assert len(open_benchmark(crops).train) == 4 * IMAGES

    own = train("adca", data=crops, out=tmp_path / "run", preset="smoke", device="cpu")
    for number, run in enumerate((own.run.folder, Path("builtin"))):
        gallery = str(tmp_path / f"gallery{number}")
        assert add(gallery, (crops,), run=run, device="cpu").added.added == 4 * IMAGES
        for day, night in (("gate:1", "gate:3"), ("gate:2", "gate:4")):
            query = tuple(crops / path for path in by_track[night])
            found = search(run, query, gallery=gallery, together=True, k=12, device="cpu")
            (ranked,) = found.lists
            hits = [tracks(crops)[str(Path(h.item.source).relative_to(crops))] for h in ranked.hits]
            assert sorted(hits) == ["gate:1"] * IMAGES + ["gate:2"] * IMAGES
            if number:  # a training of seconds has learnt too little to be right
                assert hits[:3] == [day] * 3
