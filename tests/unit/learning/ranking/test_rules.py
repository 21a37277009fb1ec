"""Rules of a shop: the words that they are about, in any script."""

import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.ranking import ItemRule, RuleText


def _met(rule: str, *texts: str) -> list[bool]:
    stated = ItemRule.of("none of these", rule)
    return [stated.leaves_out(RuleText(text)) for text in texts]


@pytest.mark.parametrize(("text", "met"), [("1999", [True, False]), ("1990s", [True, True])])
def test_a_year_is_that_year_alone_and_a_decade_all_of_it(text: str, met: list[bool]) -> None:
    assert _met(text, "The Matrix (1999)", "Fargo (1996)") == met


@pytest.mark.parametrize(
    ("rule", "hidden", "shown"),
    [
        ("恐怖", "最新恐怖电影大全", "最新喜剧电影大全"),
        ("恐怖，赌博", "网上赌博", "赌城风云"),
        ("1990s", "1995年的电影", "2005年的电影"),
        ("horror", "恐怖horror片", "horrors"),
        ("ＨＯＲＲＯＲ", "A Horror Film", "A terror film"),
        ("horror", "ＨＯＲＲＯＲ　ＦＩＬＭ", "ＨＯＲＲＯＲＳ"),
        ("ｶﾒﾗ", "新しいカメラです", "新しいラジオです"),
        ("3D眼镜", "新款３Ｄ眼镜", "新款13D眼镜"),
        ("공포", "최신 공포영화를 봤다", "최신 코미디영화를 봤다"),
        ("🔞", "夜生活🔞", "夜生活"),
        ("👍", "great 👍🏽", "great 👎🏽"),
        ("❤️", "all for ❤", "all for love"),
        ("ёлка", "Новогодняя ЁЛКА", "ёлками"),
        ("café", "cafe\u0301 noir", "cafeteria"),
        ("हिन्दी", "हिन्दी फ़िल्म", "हिन्दू फ़िल्म"),
        ("children's", "The Children\N{RIGHT SINGLE QUOTATION MARK}s Hour", "Schindler's Children"),
        ("l'horreur", "L'HORREUR du vide", "L'amour de l horreur"),
        ("children", "The Children's Hour", "Childrens"),
        ("หนัง", "ดูหนังใหม่", "ดูละครใหม่"),
    ],
)
def test_words_are_met_in_every_script(rule: str, hidden: str, shown: str) -> None:
    assert _met(rule, hidden, shown) == [True, False]


def test_each_word_of_a_rule_is_one_in_any_script() -> None:
    assert ItemRule.of("none", "恐怖 ＧＯＲＥ,gore！🔞").words == ("gore", "恐怖", "🔞")


@pytest.mark.parametrize(("name", "text"), [(" ", "horror"), ("no horror", "?!"), ("no horror", "\u200b ^")])
def test_a_rule_has_a_name_and_words(name: str, text: str) -> None:
    with pytest.raises(DataError, match="give a name, and one word at least"):
        ItemRule.of(name, text)
