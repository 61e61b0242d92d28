"""Embedding images: flips, lengths, modalities, and files that are no model."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import visir
from visir.core.types import InputError, Modality, Record
from visir.data.transforms import normalise
from visir.embedding.pytorch import Embedder, embed_pixels
from visir.nets.vit import Vit
from visir.nets.weights import save_weights

ABOUT = {
    "net": {"size": "micro", "image_size": [32, 16], "class_tokens": 2},
    "method": "adca", "dataset": "RegDB", "split": "3", "precision": "fp32",
}  # fmt: skip


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Vit("micro", (32, 16), 2)
    with torch.no_grad():
        for parameter in net.ir_stem.parameters():
            parameter.mul_(1.5)
    return net


@pytest.fixture
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (5, 32, 16, 3), np.uint8))


def slow(net, picture, modality, flip=True):
    """One image: each view of length 1, their mean of length 1."""
    image = normalise(torch.from_numpy(picture)[None])
    infrared = torch.tensor([modality is Modality.INFRARED])
    with torch.no_grad():
        views = [net.eval()(view, infrared).embedding[0] for view in (image, image.flip(3))]
    mean = sum(F.normalize(view, dim=0) for view in (views if flip else views[:1]))
    return F.normalize(mean, dim=0).numpy()


@pytest.mark.parametrize("modality", Modality)
def test_embeddings_are_means_over_the_mirror_image(net, pictures, modality):
    found = Embedder(net, ABOUT).embed(pictures, modality)
    assert found.shape == (5, 256)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, [slow(net, p, modality) for p in pictures], atol=1e-5)
    assert not np.allclose(found, [slow(net, p, modality, flip=False) for p in pictures], atol=1e-3)
    assert not np.allclose(found, [slow(net, p, modality.other) for p in pictures], atol=1e-3)


def test_files_pictures_and_arrays_are_embedded_alike(net, pictures, tmp_path):
    Image.fromarray(pictures[0]).save(tmp_path / "größe 1.png")
    same = [tmp_path / "größe 1.png", str(tmp_path / "größe 1.png"), pictures[0],
            Image.fromarray(pictures[0])]  # fmt: skip
    found = Embedder(net, ABOUT).embed(same, Modality.VISIBLE)
    np.testing.assert_allclose(found, found[:1].repeat(4, axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", ["turned", "sixteen bit"])
def test_open_pictures_are_read_as_their_files_are(kind, net, pictures, tmp_path):
    path = tmp_path / "a.png"
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned 90 degrees clockwise
        Image.fromarray(np.rot90(pictures[0])).save(path, exif=exif)
    else:
        Image.fromarray(pictures[0][..., 0].astype(np.uint16) * 257).save(path)
    with Image.open(path) as opened:
        plain = np.asarray(opened.convert("RGB").resize((16, 32), Image.Resampling.LANCZOS))
        found = Embedder(net, ABOUT).embed([path, opened, plain], Modality.VISIBLE)
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2], atol=1e-2)


class Watched:
    """Pixels that note how many rows are asked for at a time."""

    def __init__(self, pixels):
        self.pixels, self.asked = pixels, []

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, rows):
        self.asked.append(len(rows))
        return self.pixels[rows]


def test_rows_are_embedded_in_their_order_a_few_at_a_time(net, pictures):
    many = Watched(np.stack(pictures))
    rows = np.random.default_rng(1).integers(0, 5, 300)
    arguments = (Modality.INFRARED, torch.device("cpu"), "fp32")
    found = embed_pixels(net.eval(), many, *arguments, rows=rows).numpy()
    assert many.asked == [256, 44]
    whole = embed_pixels(net, many, *arguments).numpy()
    np.testing.assert_allclose(found, whole[rows], atol=1e-5)
    assert not np.allclose(found, whole[np.sort(rows)], atol=1e-3)
    assert embed_pixels(net, many, *arguments, rows=rows[:0]).shape == (0, 256)


def test_records_keep_their_order_whatever_their_modality(net, pictures, tmp_path):
    records = []
    for number, picture in enumerate(pictures):
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture).save(path)
        records.append(Record(path, None, 1, list(Modality)[number % 2]))
    found = Embedder(net, ABOUT).embed_records(records)
    expected = [slow(net, p, r.modality) for p, r in zip(pictures, records, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_image_gives_no_row(net):
    assert Embedder(net, ABOUT).embed([], Modality.VISIBLE).shape == (0, 256)


def test_a_saved_network_is_loaded_with_what_it_is(net, pictures, tmp_path):
    save_weights(tmp_path / "model.safetensors", net, ABOUT)
    for path in (tmp_path, str(tmp_path / "model.safetensors")):
        model = visir.load(path)
        assert (model.size, model.method, model.precision) == ((32, 16), "adca", "fp32")
        assert (model.dataset, model.split) == ("RegDB", "3")
        np.testing.assert_array_equal(
            model.embed(pictures, Modality.INFRARED),
            Embedder(net, ABOUT).embed(pictures, Modality.INFRARED),
        )


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        visir.load(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        visir.load(tmp_path / "a.safetensors")


def test_a_broken_image_is_named(net, tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match=r"a\.jpg: the file is empty"):
        Embedder(net, ABOUT).embed([tmp_path / "a.jpg"], Modality.VISIBLE)


@torch.no_grad()
def test_mirror_images_may_be_left_out(net):
    net.eval()
    many = np.random.default_rng(0).integers(0, 256, (3, 32, 16, 3), np.uint8)
    kind = (Modality.VISIBLE, torch.device("cpu"), "fp32")
    plain = embed_pixels(net, many, *kind, flip=False)
    expected = net(normalise(torch.from_numpy(many)), torch.zeros(3, dtype=torch.bool)).embedding
    assert torch.allclose(plain, F.normalize(expected, dim=1), atol=1e-5)
    assert not torch.allclose(plain, embed_pixels(net, many, *kind), atol=1e-4)
