"""Pictures as networks read them: the same as the image processors of transformers make of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.images import PREPROCESSING_FILE, Preprocessing, is_image_encoder

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


def _written(folder: Path, **told: object) -> Path:
    (folder / PREPROCESSING_FILE).write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize("kind", list(_TOLD))
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (31, 47)], ids=["wide", "tall", "odd"])
def test_a_picture_is_prepared_as_transformers_does(tmp_path: Path, kind: str, shape: tuple[int, int]) -> None:
    import transformers

    told = {**_USUAL, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **_TOLD[kind]}
    prepared = Preprocessing.read(_written(tmp_path, **told))
    processor = getattr(transformers, f"{told.pop('image_processor_type')}Pil")(**told)
    picture = np.random.default_rng(3).integers(256, size=(*shape, 3), dtype=np.uint8)
    theirs = processor(picture, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    ours = prepared.pixels(picture)
    assert ours.shape == (*prepared.size, 3)
    scaled = (ours * prepared.scale - np.array(prepared.mean)) / np.array(prepared.std)
    np.testing.assert_allclose(scaled.transpose(2, 0, 1), theirs, atol=1e-5)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    for resize, crop in (((24, 20), None), (30, (24, 24)), (None, (8, 8))):
        prepared = Preprocessing(
            resize=resize, crop=crop, resample=3, scale=1 / 127, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)
        )
        prepared.write(tmp_path)
        assert Preprocessing.read(tmp_path) == prepared


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"size": {"shortest_edge": 224}}, "fixes neither height and width nor a crop"),
        ({"size": {"height": 5000, "width": 5000}}, r"each must be in \[1, 1024\]"),
        ({"size": {"height": 24, "width": 24}, "do_flip_channel_order": True}, "do_flip_channel_order, which is not"),
        ({"size": {"height": 24, "width": 24}, "image_std": [0, 1, 1]}, "must be above 0"),
        ({"size": {"height": 24, "width": 24}, "image_mean": [0.5]}, "does not say how images are prepared"),
        ({}, "does not say how images are prepared"),
        ([], "does not say how images are prepared"),
    ],
)
def test_what_is_not_done_here_is_refused(tmp_path: Path, told: object, reason: str) -> None:
    (tmp_path / PREPROCESSING_FILE).write_text(json.dumps(told))
    with pytest.raises(ConfigurationError, match=reason):
        Preprocessing.read(tmp_path)


def test_a_folder_with_words_is_no_encoder_of_images(tmp_path: Path) -> None:
    assert not is_image_encoder(tmp_path)
    assert is_image_encoder(_written(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    assert not is_image_encoder(tmp_path)
