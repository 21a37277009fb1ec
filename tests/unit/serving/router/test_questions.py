"""What the router takes of a request: texts as they come, keys by the rule of the entrance."""

from collections.abc import Sequence

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_key
from perennial.exporters.signature import Array
from perennial.ops.serving.router.questions import read_questions
from perennial.ops.serving.tasks.text_classification import SIDE


def request(*texts: bytes, keys: Sequence[bytes] | None = None) -> dict[str, Array]:
    """The tensors of a request, as Triton gives them."""
    given = {"TEXT": texts} if keys is None else {"TEXT": texts, "KEY": keys}
    return {name: np.array(values, dtype=object).reshape(-1, 1) for name, values in given.items()}


@pytest.mark.parametrize("raw", [b"ab\xc3", "é".encode()[:1], "😀".encode()[:3]])
def test_a_text_that_ends_inside_a_character_is_refused(raw: bytes) -> None:
    with pytest.raises(DataError, match="TEXT of row 0 is not UTF-8"):
        read_questions(SIDE, request(raw), 10)


@pytest.mark.parametrize("character", ["a", "é", "中", "😀"])
@pytest.mark.parametrize("before", range(4))
def test_a_long_text_is_cut_at_a_character_before_it_is_decoded(character: str, before: int) -> None:
    text = "x" * before + character * 50
    assert read_questions(SIDE, request(text.encode()), 10, max_characters=10)[0].input == text[:10]


def test_bytes_behind_the_cut_are_not_looked_at() -> None:
    assert read_questions(SIDE, request(b"a" * 40 + b"\xff" * 1_000_000), 10, max_characters=10)[0].input == "a" * 10


@pytest.mark.parametrize(
    "text", ["", " ", "\0", "a\0b", "\u200b", "مرحبا", "你好", "👩\u200d💻", "\u202eabc", "\x1b[31mred"]
)
def test_whatever_is_utf_8_is_answered_as_it_came(text: str) -> None:
    assert read_questions(SIDE, request(text.encode()), 10)[0].input == text


@pytest.mark.parametrize("key", ["c7", " c7 ", "jo@example.org", "  ", "", "e\u0301", "客户", "a b"])
def test_a_key_is_kept_in_the_form_in_which_it_is_erased(key: str) -> None:
    assert read_questions(SIDE, request(b"t", keys=[key.encode()]), 256)[0].key == (admit_key(key) or "")


@pytest.mark.parametrize("key", [b"a\0b", b"a\nb", "a\u200bb".encode(), "\u202eab".encode(), b"\x1b[0m", b"\xff"])
def test_a_key_that_could_not_be_written_down_is_refused_with_its_row(key: bytes) -> None:
    with pytest.raises(DataError, match="KEY of row 1"):
        read_questions(SIDE, request(b"t", b"u", keys=[b"fine", key]), 256)


@pytest.mark.parametrize("keys", [[], [b"one"], [b"one", b"two", b"three"]])
def test_there_is_a_key_for_each_row_or_none(keys: list[bytes]) -> None:
    with pytest.raises(DataError, match=f"KEY has {len(keys)} rows of 2"):
        read_questions(SIDE, request(b"t", b"u", keys=keys), 256)


def test_a_request_without_texts_is_refused() -> None:
    with pytest.raises(DataError, match="TEXT is missing"):
        SIDE.sizes({})
    with pytest.raises(DataError, match="no rows"):
        SIDE.sizes(request())
