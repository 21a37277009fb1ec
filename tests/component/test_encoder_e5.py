"""The packaged e5, made of the installed package: it knows which sentences mean the same, in many languages."""

import json

import numpy as np
import pytest

from perennial.continual.learning.encoder import Encoder, fingerprint, resolve_encoder
from perennial.continual.learning.packaged.conversion import installed_e5
from perennial.continual.learning.packaged.e5_file import E5File

pytestmark = [pytest.mark.component, pytest.mark.slow]

SAME = "我的银行卡丢了"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """With Chinese and Russian words; making it compares it with the package's own engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return Encoder.load("packaged:e5:cyrillic+han", max_length=600)


def test_it_puts_what_means_the_same_next_to_each_other(encoder: Encoder) -> None:
    assert (encoder.dimension, encoder.max_length) == (384, 512)
    X = encoder.embed(
        [SAME, "银行卡不见了", "今天日元汇率是多少？", "Я потерял банковскую карту", "Какой сегодня курс иены?"]
    )
    card, missing, rate, lost, today = X
    assert card @ missing > card @ rate + 0.05
    assert lost @ card > lost @ rate
    assert today @ rate > today @ card
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1.0, atol=1e-6)


def test_every_text_is_read_behind_the_words_that_e5_was_trained_with(encoder: Encoder) -> None:
    assert encoder.tokenizer.encode(SAME).tokens[:5] == ["<s>", "▁que", "ry", ":", "▁"]
    assert encoder.tokenizer.encode("").tokens == ["<s>", "▁que", "ry", ":", "</s>"]
    assert encoder.tokenizer.encode("한국어").ids[4:] != encoder.tokenizer.encode("").ids[4:]
    assert encoder.tokenizer.token_to_id("<unk>") in encoder.tokenizer.encode("한국어").ids


def test_the_folder_says_where_it_is_from_and_what_was_cut(encoder: Encoder) -> None:
    origin = json.loads((encoder.folder / "origin.json").read_text())
    whole = E5File(installed_e5())
    assert origin["encoder"] == "packaged:e5:cyrillic+han"
    assert (origin["words_of_all"], len(whole.pieces)) == (250_002, 250_002)
    assert origin["words"] == encoder.tokenizer.get_vocab_size() == encoder.model.config.vocab_size < 80_000
    place = whole.pieces.index("银行")
    row = encoder.model.embeddings.word_embeddings.weight[encoder.tokenizer.token_to_id("银行")]
    expected = whole.tensor("emb.word", whole.rows, whole.hidden, rows=np.array([place]))
    np.testing.assert_array_equal(row.detach().numpy(), expected[0])


def test_it_is_found_again_and_made_anew_when_damaged(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(encoder.folder.parents[3]))
    before = fingerprint(encoder.folder)
    assert resolve_encoder("packaged:e5:han+cyrillic") == encoder.folder
    content = bytearray((encoder.folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (encoder.folder / "model.safetensors").write_bytes(content)
    assert resolve_encoder("packaged:e5:cyrillic+han") == encoder.folder
    assert fingerprint(encoder.folder) == before
