"""Encoders of images: the packaged one as its own last layer knows it, and folders of transformers in every layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.images import PREPROCESSING_FILE, ImageStore, Preprocessing, read_image
from perennial.continual.images.encoder import ImageEncoder
from perennial.continual.images.network import build_encoder, image_dimension
from perennial.continual.learning.encoder import fingerprint, hidden_size, resolve_encoder, usable_length
from perennial.continual.learning.packaged import PACKAGED_LITE0, at_hand
from perennial.continual.learning.packaged.lite0 import installed_lite0
from tests.component.image_fixtures import coloured, file_of, keep_coloured, write_image_encoder

pytestmark = pytest.mark.component
_PALACE, _DAISY = 698, 985  # ImageNet's numbers


_TOLD = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}},
    "bit": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 28},
        "do_center_crop": True,
        "crop_size": {"height": 24, "width": 20},
        "resample": 3,
        "image_mean": [0.48, 0.45, 0.4],
        "image_std": [0.26, 0.27, 0.28],
    },
    "convnext": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 24}, "crop_pct": 0.875},
    "padded": {
        "image_processor_type": "BitImageProcessor",
        "do_resize": False,
        "do_center_crop": True,
        "crop_size": {"height": 61, "width": 50},
    },
}
_USUAL = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "resample": 2}


@pytest.fixture(scope="module")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        assert not at_hand(PACKAGED_LITE0)
        folder = resolve_encoder(PACKAGED_LITE0)
        assert at_hand(PACKAGED_LITE0)
    return folder


def test_the_packaged_encoder_sees_what_photographs_show(lite0: Path, tmp_path: Path) -> None:
    last = torch.load(installed_lite0(), weights_only=True)["_fc.weight"].numpy()
    store = ImageStore(tmp_path)
    names = []
    for photograph in ("china.jpg", "flower.jpg"):
        picture = read_image(file_of(load_sample_image(photograph), "JPEG"))
        store.put(picture)
        names.append(picture.name)
    encoder = ImageEncoder.load(lite0, tmp_path)
    embeddings = encoder.embed(names)
    assert embeddings.shape == (2, hidden_size(lite0)) == (2, 1280)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-5)
    assert (embeddings @ last.T).argmax(axis=1).tolist() == [_PALACE, _DAISY]
    assert not any(name.endswith("squeeze_excite.expand") for name, _ in encoder.module.named_modules())
    with pytest.raises(DataError, match="restore the folder, or erase the row"):
        encoder.embed(["image:" + "a" * 40])
    with pytest.raises(DataError, match="reads images, and the rows are texts"):
        ImageEncoder.load(lite0, None)


@pytest.mark.parametrize("kind", ["resnet", "vit", "whole"])
def test_a_folder_of_transformers_embeds_as_transformers_does(tmp_path: Path, kind: str) -> None:
    from transformers import AutoModel

    folder = write_image_encoder(tmp_path / kind, kind)
    prepared, module = Preprocessing.read(folder), build_encoder(folder)
    pixels = np.stack([prepared.pixels(read_image(coloured("red", seed)).pixels) for seed in range(3)])
    values = (pixels * prepared.scale - np.array(prepared.mean)) / np.array(prepared.std)
    network = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        given = network(pixel_values=torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32)))
    wanted = given.last_hidden_state[:, 0] if kind == "vit" else given.pooler_output.flatten(1)
    wanted = torch.nn.functional.normalize(wanted, dim=-1).numpy()
    np.testing.assert_allclose(module(torch.from_numpy(pixels)).numpy(), wanted, atol=1e-5)
    assert image_dimension(folder) == hidden_size(folder) == wanted.shape[1]
    assert usable_length(folder, 128) == 128


def _read(folder: Path, told: dict[str, Any]) -> Preprocessing:
    (folder / PREPROCESSING_FILE).write_text(json.dumps(told))
    return Preprocessing.read(folder)


@pytest.mark.parametrize("kind", list(_TOLD))
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (31, 47)], ids=["wide", "tall", "odd"])
def test_a_picture_is_prepared_as_transformers_does(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    import transformers

    told = {**_USUAL, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **_TOLD[kind]}
    prepared = _read(tmp_path, told)
    processor = getattr(transformers, f"{told.pop('image_processor_type')}Pil")(**told)
    picture = np.random.default_rng(3).integers(256, size=(*shape, 3), dtype=np.uint8)
    theirs = processor(picture, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    ours = prepared.pixels(picture)
    assert ours.shape == (*prepared.size, 3)
    scaled = (ours * prepared.scale - np.array(prepared.mean)) / np.array(prepared.std)
    np.testing.assert_allclose(scaled.transpose(2, 0, 1), theirs, atol=1e-5)


def test_a_fingerprint_changes_with_how_images_are_prepared(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path / "one", "whole", side=16)
    before = fingerprint(folder)
    Preprocessing(resize=(16, 16), crop=None, resample=3, scale=1 / 255, mean=(0.5,) * 3, std=(0.5,) * 3).write(folder)
    assert fingerprint(folder) != before


def test_a_folder_that_is_no_encoder_of_images_says_so(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path / "one", "whole", side=16)
    (folder / "config.json").write_text('{"model_type": "convnext"}')
    with pytest.raises(ConfigurationError, match="has none of hidden_sizes, hidden_size"):
        image_dimension(folder)
    (folder / "config.json").write_text("not JSON")
    with pytest.raises(ConfigurationError, match="is not JSON"):
        image_dimension(folder)


def test_rows_and_their_pictures_are_read_together(tmp_path: Path) -> None:
    folder, store = write_image_encoder(tmp_path / "encoder", "whole", side=16), ImageStore(tmp_path / "images")
    rows = keep_coloured(store, 2)
    embeddings = ImageEncoder.load(folder, store.folder, threads=1).embed([name for name, _ in rows])
    near = embeddings @ embeddings.T
    assert all(near[place].argsort()[-2] == (place + 3) % 6 for place in range(6)), "its own colour is nearest"
