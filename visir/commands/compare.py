"""`visir compare`: how similar the people on two images are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from visir.commands.index import ModalityName

if TYPE_CHECKING:
    from visir.gallery.compare import Comparison


def compare(
    run: Path,
    first: Path,
    second: Path,
    /,
    *,
    first_modality: ModalityName | None = None,
    second_modality: ModalityName | None = None,
    out: Path | None = None,
    device: str = "auto",
) -> Comparison:
    """Compare the people on two images, and show which parts make them similar.

    Args:
        run: run folder, weights file, or builtin.
        first: an image.
        second: another image.
        first_modality: of the first image; judged by its colours if omitted.
        second_modality: of the second image; judged by its colours if omitted.
        out: picture (.png) to write, which shows the parts that make the two similar.
        device: where the network runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.
    """
    from visir.core.types import Modality
    from visir.data.images import read_image
    from visir.data.locate import modality_by_colour, modality_named, placed
    from visir.data.ranges import likely
    from visir.embedding.pytorch import load
    from visir.evaluation.confidence import Calibration
    from visir.gallery.compare import Side
    from visir.gallery.compare import compare as compare_images
    from visir.gallery.query import Query
    from visir.nets.shipped import as_run

    run = as_run(run)
    embedder = load(run, device)
    sides = []
    for path, name, field in (
        (Path(first), first_modality, "first_modality"),
        (Path(second), second_modality, "second_modality"),
    ):
        named = modality_named(name, field)
        _, camera = placed(path.absolute().parent.parts[-2:])
        span = likely(embedder.ranges, named or Modality.INFRARED, camera)
        picture = read_image(path, named, span)
        modality = named or modality_by_colour(picture)
        vector = embedder.embed([picture], modality)[0]
        sides.append(Side(Query(vector, modality, name is None, path), picture))
    calibration = Calibration.of(run, embedder.fingerprint)
    found = compare_images(embedder, sides[0], sides[1], calibration)
    if out is not None:
        found.write(Path(out))
    return found
