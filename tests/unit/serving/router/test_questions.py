"""What the router takes of a request: texts as they come, keys by the rule of the entrance."""

import pytest

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_key
from perennial.ops.serving.router.questions import decode_rows


@pytest.mark.parametrize("raw", [b"ab\xc3", "é".encode()[:1], "😀".encode()[:3]])
def test_a_text_that_ends_inside_a_character_is_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match="TEXT of row 0 is not UTF-8"):
        decode_rows([raw], None, 10)


@pytest.mark.parametrize("character", ["a", "é", "中", "😀"])
@pytest.mark.parametrize("before", range(4))
def test_a_long_text_is_cut_at_a_character_before_it_is_decoded(character: str, before: int) -> None:
    text = "x" * before + character * 50
    assert decode_rows([text.encode()], None, 10, max_characters=10)[0].text == text[:10]


def test_bytes_behind_the_cut_are_not_looked_at() -> None:
    assert decode_rows([b"a" * 40 + b"\xff" * 1_000_000], None, 10, max_characters=10)[0].text == "a" * 10


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "a\0b", "\u200b", "مرحبا", "你好", "👩\u200d💻", "\u202eabc", "\x1b[31mred"]
)
def test_whatever_is_utf_8_is_answered_as_it_came(text: str) -> None:
    assert decode_rows([text.encode()], None, 10)[0].text == text


@pytest.mark.parametrize("key", ["c7", " c7 ", "jo@example.org", "  ", "", "e\u0301", "客户", "a b"])
def test_a_key_is_kept_in_the_form_in_which_it_is_erased(key: str) -> None:
    assert decode_rows([b"t"], [key.encode()], 256)[0].key == (admit_key(key) or "")


@pytest.mark.parametrize("key", [b"a\0b", b"a\nb", "a\u200bb".encode(), "\u202eab".encode(), b"\x1b[0m", b"\xff"])
def test_a_key_that_could_not_be_written_down_is_refused_with_its_row(key: bytes) -> None:
    with pytest.raises(DataError, match="KEY of row 1"):
        decode_rows([b"t", b"u"], [b"fine", key], 256)
