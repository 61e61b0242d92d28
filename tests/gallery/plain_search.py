"""A search written out as plain loops over (id, path, camera, modality, time, vector)."""

import numpy as np

from visir.evaluation.rerank import RERANKERS, neighbour_graph
from visir.gallery.store import Filter


def belongs(image, where: Filter, permanent: bool = True) -> bool:
    """Whether an image is in a part of a store, written out."""
    _, _, camera, modality, time, _ = image
    if where.tags:
        return False
    if where.cameras and camera not in where.cameras:
        return False
    if where.modality is not None and modality is not where.modality:
        return False
    if where.since is not None and (time is None or time < where.since):
        return False
    if where.until is not None and (time is None or time > where.until):
        return False
    if where.before is None:
        return True
    # Images of unknown time count from when they were added: the files long before, galleries now.
    return not permanent if time is None else time < where.before


def ranked(images, vectors, order, options, modality, without=(), calibration=None):
    """(ids, cosines, scores, searched) of a search, written out."""
    where = options.where
    if where.modality is None and not options.same_modality:
        where = Filter(where.cameras, modality.other, where.since, where.until, where.tags)
    part = [image for image in images if belongs(image, where)]
    part = sorted(part, key=lambda image: (-float(image[5].astype(float) @ order), image[0]))
    left = [image for image in part if image[0] not in without]
    cosines = [np.mean([float(image[5].astype(float) @ v) for v in vectors]) for image in left]
    scores = cosines
    if calibration is not None:
        scores = calibration.confidence(np.array(cosines), len(part)).tolist()
    rows = [
        row for row in range(len(left))
        if options.min_score is None or scores[row] >= options.min_score
    ]  # fmt: skip
    if options.rerank != "none" and rows:
        gallery = np.stack([left[row][5] for row in rows])
        names, cams = np.unique([left[row][2] for row in rows], return_inverse=True)
        if options.rerank in ("camera-means", "camera-graph"):
            asked, gallery = without_means(images, vectors, order, gallery, names[cams])
            again = gallery @ asked
            if options.rerank == "camera-graph":
                sides = np.float32(asked)[None], np.float32(gallery)
                again = neighbour_graph(*sides, np.array([-1]), cams)[0]
        else:
            again = RERANKERS[options.rerank](
                np.float32(order)[None], gallery, np.array([-1]), cams
            )[0]
        rows = [rows[place] for place in np.argsort(-again, kind="stable")]
    rows = rows[: options.k]
    return (
        [left[row][0] for row in rows],
        [cosines[row] for row in rows],
        [scores[row] for row in rows],
        len(part),
        max(scores, default=-1.0),
    )


def without_means(images, vectors, order, gallery, cameras):
    """Query and gallery less the means of cameras; every query image here is in the gallery."""
    means = {
        camera: np.mean([image[5] for image in images if image[2] == camera], axis=0)
        for camera in {image[2] for image in images}
    }
    of_queries = [
        means[image[2]] for vector in vectors for image in images if (image[5] == vector).all()
    ]
    asked = order / np.linalg.norm(order) - np.mean(of_queries, axis=0)
    held = gallery - np.stack([means[camera] for camera in cameras])
    return asked / np.linalg.norm(asked), held / np.linalg.norm(held, axis=1, keepdims=True)
