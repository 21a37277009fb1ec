"""Encoders of each architecture, cut: what is written is what was cut, or a refusal says why it cannot be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.compression import layers_and_width
from perennial.continual.learning.compression.shrink import _keep_layers, layers_kept, shrink
from perennial.continual.learning.compression.vocabulary import cut_vocabulary
from perennial.continual.learning.encoder import Encoder
from perennial.continual.learning.encoder_folder import read_facts
from tests.component.encoders import tiny

pytestmark = [pytest.mark.component, pytest.mark.slow, pytest.mark.timeout(300)]
TEXTS = [text.strip() for text in tiny.TEXTS[:12]]
LAYERS = 4
_COUNTS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
NARROWED = {"bert", "roberta", "distilbert", "deberta-v2"}
WHOLE = {"roberta", "qwen2"}  # their tokens are merged pairs


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "albert", "deberta-v2", "modernbert", "qwen2", "t5"])
def test_an_encoder_is_cut_or_refused_in_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.ENCODERS[name]
    settings = {**made.settings, **{count: LAYERS for count in _COUNTS if count in made.settings}}
    monkeypatch.setitem(tiny.ENCODERS, name, replace(made, settings=settings))  # type: ignore[misc]
    folder = tiny.write_encoder(name, tmp_path / "whole")
    assert layers_and_width(folder) == (LAYERS, 0 if name == "t5" else 64)
    _layers(name, folder, tmp_path / "lower")
    _width(name, folder, tmp_path / "narrower")
    if name in WHOLE:
        with pytest.raises(ConfigurationError, match="is a BPE"):
            cut_vocabulary(folder, tmp_path / "cut", TEXTS, max_length=24, margin=0)
        return
    before = read_facts(folder).ids
    assert cut_vocabulary(folder, tmp_path / "cut", TEXTS, max_length=24, margin=0) < before
    np.testing.assert_array_equal(_embedded(tmp_path / "cut"), _embedded(folder))


def _layers(name: str, folder: Path, out: Path) -> None:
    if name == "albert":
        with pytest.raises(ConfigurationError, match="has no list of 4 layers"):
            shrink(folder, out, TEXTS, max_length=24, layers=2)
        return
    shrink(folder, out, TEXTS, max_length=24, layers=2)
    cut = Encoder.load(str(folder), max_length=24)
    _keep_layers(cut.model, 2)
    assert layers_and_width(out)[0] == 2
    np.testing.assert_allclose(_embedded(out), cut.embed(TEXTS), atol=1e-6, err_msg=str(layers_kept(LAYERS, 2)))


def _width(name: str, folder: Path, out: Path) -> None:
    if name not in NARROWED:
        with pytest.raises(ConfigurationError, match=r"cannot be narrowed|an unknown number|has no list"):
            shrink(folder, out, TEXTS, max_length=24, width=32)
        return
    shrink(folder, out, TEXTS, max_length=24, width=32)
    assert layers_and_width(out) == (LAYERS, 32)
    close = (_embedded(out) * _embedded(folder)).sum(axis=1)
    # Its mean, for weights drawn anew differ: one text of a network that was never trained may be answered otherwise.
    assert close.mean() > 0.9, "what leads out of the neurons that stay was solved anew"


def _embedded(folder: Path) -> np.ndarray:
    return Encoder.load(str(folder), max_length=24).embed(TEXTS)
