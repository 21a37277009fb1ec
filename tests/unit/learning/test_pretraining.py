"""Continued pre-training: it lowers its loss, it is an encoder afterwards, and it is the same every time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Cancelled, Context
from perennial.continual.learning.encoder import Encoder, fingerprint
from perennial.continual.learning.finetune import train_slow
from perennial.continual.learning.pretraining import Pretraining, _masked, pretrain
from perennial.continual.learning.spec import JobSpec
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

TEXTS = [row.text for row in make_rows("card loan trip fees", 40, 3)]


@pytest.fixture(scope="module")
def masking_encoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder, whose tokenizer calls its rarest word [MASK]."""
    folder = tmp_path_factory.mktemp("masking") / "encoder"
    shutil.copytree(tiny_encoder, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["[MASK]"] = words.pop("price")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def run(encoder: Path, out: Path, context: Context | None = None, **settings: object) -> Path:
    chosen = Pretraining(**{"epochs": 4, "batch": 16, "learning_rate": 2e-3} | settings)  # type: ignore[arg-type]
    return pretrain(encoder, TEXTS, out, chosen, max_length=24, context=context or Context())


def test_masked_words_become_easier_to_guess_and_the_encoder_embeds(masking_encoder: Path, tmp_path: Path) -> None:
    out = run(masking_encoder, tmp_path / "out", epochs=10, learning_rate=5e-3)
    document = json.loads((out / "pretrained.json").read_text())
    assert document["steps"] == 10 * 10
    assert document["last_loss"] < document["first_loss"] - 0.1
    assert fingerprint(out) != fingerprint(masking_encoder)
    assert Encoder.load(str(out), max_length=24).embed(["my card"]).shape == (1, 32)


def test_pretraining_twice_gives_the_same_weights_and_once_is_enough(masking_encoder: Path, tmp_path: Path) -> None:
    one, two = (run(masking_encoder, tmp_path / name, epochs=1) for name in ("one", "two"))
    assert fingerprint(one) == fingerprint(two)
    before = (one / "model.safetensors").stat().st_mtime_ns
    run(masking_encoder, one, epochs=1)
    assert (one / "model.safetensors").stat().st_mtime_ns == before
    run(masking_encoder, one, epochs=2)
    assert fingerprint(one) != fingerprint(two)


def test_stopped_pretraining_leaves_nothing_that_looks_finished(masking_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        run(masking_encoder, tmp_path / "out", Context(cancelled=True))
    assert not (tmp_path / "out").exists()


def test_fifteen_in_a_hundred_words_are_hidden_and_no_special_token() -> None:
    rows = [[2, *range(10, 30), 3]] * 100
    hidden, wanted = _masked(rows, 4, {0, 1, 2, 3, 4}, 200, 0.15, np.random.default_rng(0))
    guessed = [(row, place) for row in range(100) for place in range(22) if wanted[row][place] != -100]
    assert len(guessed) == 300
    assert all(wanted[row][place] == rows[row][place] for row, place in guessed)
    assert all(row[0] == 2 and row[-1] == 3 for row in hidden)
    masked = sum(hidden[row][place] == 4 for row, place in guessed)
    assert 200 < masked < 280
    unguessed = {(row, place) for row in range(100) for place in range(22)} - set(guessed)
    assert all(hidden[row][place] == rows[row][place] for row, place in unguessed)


def test_fine_tuning_starts_from_the_pretrained_encoder(
    make_spec: Callable[..., Path], masking_encoder: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    params = {"epochs": 1, "batch": 16, "head_settings": {"features": 100, "gamma": 0.5}}
    fields = {
        "learner": "finetune",
        "encoder": masking_encoder,
        "examples": make_rows("card loan", 30, 1),
        "holdout": make_rows("card loan", 10, 9),
    }
    plain = make_spec("plain", **fields, params=params)
    longer = params | {"pretraining": {"epochs": 2, "learning_rate": 2e-3}}
    first = make_spec("first", **fields, params=longer, unlabelled="texts.txt")
    prints = {}
    for path in (plain, first):
        spec = JobSpec.read(path)
        train_slow(spec, Context())
        prints[path.stem] = read_card(spec.out).encoder_fingerprint
        assert not (spec.out / "pretrained").exists()
    assert prints["plain"] != prints["first"]


def test_what_cannot_be_pretrained_is_refused(
    make_spec: Callable[..., Path], tiny_encoder: Path, masking_encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"\[MASK\]"):
        run(tiny_encoder, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="share in"):
        Pretraining(mask_share=1.0)
    path = make_spec("one", learner="finetune", examples=make_rows("card loan", 9, 1), params={}, unlabelled="none.txt")
    with pytest.raises(DataError, match="cannot be read"):
        train_slow(JobSpec.read(path), Context())
