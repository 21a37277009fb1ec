"""Rules of a shop: the words that they are about."""

import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import ItemRule
from perennial.continual.learning.ranking.item_texts import words_of


@pytest.mark.parametrize(("text", "met"), [("1999", [True, False]), ("1990s", [True, True])])
def test_a_year_is_that_year_alone_and_a_decade_all_of_it(text: str, met: list[bool]) -> None:
    rule = ItemRule.of("none of these", text)
    films = ("The Matrix (1999)", "Fargo (1996)")
    assert [not set(rule.words).isdisjoint(words_of(film)) for film in films] == met


@pytest.mark.parametrize(("name", "text"), [(" ", "horror"), ("no horror", "?!")])
def test_a_rule_has_a_name_and_words(name: str, text: str) -> None:
    with pytest.raises(DataError, match="give a name, and one word at least"):
        ItemRule.of(name, text)
