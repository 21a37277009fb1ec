"""The packaged e5, made of the installed package: it knows which sentences mean the same, in many languages."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.learning.encoder import Encoder, fingerprint, load_tokenizer, resolve_encoder
from perennial.continual.learning.packaged.conversion import installed_e5
from perennial.continual.learning.packaged.e5_file import E5File
from perennial.exporters.text_classification.tokens import TextTokenizer

pytestmark = [pytest.mark.component, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
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


WORDS = {"ru": ["карту", "счёт", "перевод", "пароль", "деньги"], "zh": ["银行卡", "账户", "转账", "密码", "余额"]}
ASKED = {
    "lost": [
        "Я потерял {ru} вчера",
        "{zh}丢了怎么办",
        "Не могу найти {ru}",
        "昨天{zh}被偷了",
        "У меня украли {ru}",
        "找不到{zh}",
    ],
    "fee": [
        "Сколько стоит {ru}?",
        "{zh}手续费是多少",
        "Почему {ru} так дорого?",
        "{zh}为什么收费",
        "Цена за {ru}",
        "{zh}多少钱",
    ],
}
ROWS = [
    (template.format(ru=ru, zh=zh), label)
    for label, templates in ASKED.items()
    for template in templates
    for ru, zh in zip(WORDS["ru"], WORDS["zh"], strict=True)
]


def init(folder: Path, cache: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "perennial.ops.cli", "init", "intent", "--data", "rows.csv", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_init_chooses_it_for_rows_that_the_small_encoder_cannot_read(encoder: Encoder, tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *ROWS])
    (tmp_path / "perennial.toml").write_text('[models.intent.learning]\nencoder = "packaged:minilm"\n')
    cache = encoder.folder.parents[3]
    refused = init(tmp_path, cache)
    assert refused.returncode == 2
    assert "fits these rows badly" in refused.stderr
    assert "Set encoder = 'packaged:e5:cyrillic+han'" in refused.stderr
    planned = json.loads(init(tmp_path, cache, "--dry-run").stdout)
    assert planned["then"].startswith("refused: encoder 'packaged:minilm' fits these rows badly")
    (tmp_path / "perennial.toml").unlink()
    chosen = init(tmp_path, cache, "--dry-run")
    assert json.loads(chosen.stdout)["encoder"] == "packaged:e5:cyrillic+han"
    assert "encoder packaged:e5:cyrillic+han: " in chosen.stderr
    insisting = '[models.intent.learning]\nencoder = "packaged:minilm"\ninsist_on_encoder = true\n'
    (tmp_path / "perennial.toml").write_text(insisting)
    kept = json.loads(init(tmp_path, cache, "--dry-run").stdout)
    assert (kept["encoder"], kept["then"]) == ("packaged:minilm", "train and publish version 1")


def test_its_words_and_prompt_are_in_the_tokenizer_that_is_served(encoder: Encoder, tmp_path: Path) -> None:
    load_tokenizer(encoder.folder, 64).save(str(tmp_path / "tokenizer.json"))
    served = TextTokenizer(tmp_path / "tokenizer.json").encode([SAME, "", "ไทย"])
    assert served == [encoder.tokenizer.encode(text).ids for text in (SAME, "", "ไทย")]
