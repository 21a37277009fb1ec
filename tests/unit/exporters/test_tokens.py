"""Versions of one encoder share its tokenizer."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from perennial.exporters.text_classification.golden_rows import golden_rows
from perennial.exporters.text_classification.tokens import TextTokenizer


def _written(path: Path, *words: str) -> Path:
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(path))
    return path


def test_equal_files_are_read_once_and_others_by_themselves(tmp_path: Path) -> None:
    first = TextTokenizer(_written(tmp_path / "one.json", "?", "card", "lost"))
    again = TextTokenizer(_written(tmp_path / "two.json", "?", "card", "lost"))
    other = TextTokenizer(_written(tmp_path / "three.json", "?", "lost", "card"))
    assert first._shared is again._shared is not other._shared
    assert first.encode(["card lost", "x"]) == again.encode(["card lost", "x"]) == [[1, 2], [0]], "and never padded"
    assert other.encode(["card lost"]) == [[2, 1]]


def test_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    first = TextTokenizer(_written(path, "?", "card"))
    for number in range(4):
        TextTokenizer(_written(tmp_path / f"{number}.json", "?", f"card{number}"))
    assert TextTokenizer(path)._shared is not first._shared


def test_golden_rows_are_made_by_the_tokenizer_that_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(tmp_path / "one.json", "?", "card", "lost", "fee")
    served = TextTokenizer(path)
    read = Tokenizer.from_buffer
    monkeypatch.setattr(Tokenizer, "from_buffer", lambda content: pytest.fail(f"{len(content)} bytes were read again"))
    rows = golden_rows(path, ["card_lost", "fee"], max_length=6, seed=1)
    monkeypatch.setattr(Tokenizer, "from_buffer", read)
    assert rows[0] == (1, 2), "without the padding of the file"
    assert all(0 < len(row) <= 6 and max(row) < served.ids for row in rows)
