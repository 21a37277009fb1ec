"""Versions of one encoder share its tokenizer."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

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
