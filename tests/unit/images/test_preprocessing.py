"""What an encoder's folder says of its inputs: read, written, and refused where it is not done here."""

import json
from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.images import PREPROCESSING_FILE, Preprocessing, is_image_encoder


def _written(folder: Path, **told: object) -> Path:
    (folder / PREPROCESSING_FILE).write_text(json.dumps(told))
    return folder


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
