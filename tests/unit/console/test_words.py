"""What the console says: the same in each language, and everything that a page asks for."""

import re
import string
from pathlib import Path

import pytest

from perennial.ops.console.figures import Figures
from perennial.ops.console.language import chosen_language
from perennial.ops.console.words import CATALOGUES, NAMES, said

_TEMPLATES = Path(__file__).resolve().parents[3] / "ops" / "console" / "templates"
_ASKED = re.compile(r"""\bt\(\s*["']([a-z_.]+)["'](?!\s*~)""")
_PREFIX = re.compile(r"""\bt\(\s*["']([a-z_.]+\.)["']\s*~""")
_KIND = re.compile(r"""\b(?:f\.word|state)\(\s*["']([a-z_]+)["']""")
_HTML = sorted(_TEMPLATES.glob("*.html"))


def _places(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_catalogues_have_every_key_with_the_same_places_for_values() -> None:
    english, *others = CATALOGUES.values()
    assert len(english) > 80
    assert CATALOGUES.keys() == NAMES.keys()
    for other in others:
        assert english.keys() ^ other.keys() == set()
        assert [key for key in english if _places(english[key]) != _places(other[key])] == []
        assert [key for key, words in other.items() if not words.strip()] == []


def test_what_chinese_says_is_chinese() -> None:
    same = {key for key, words in CATALOGUES["zh"].items() if not re.search(r"[\u4e00-\u9fff]", words)}
    assert same <= {"id"}, "these are not translated"


@pytest.mark.parametrize("path", _HTML, ids=lambda path: path.name)
def test_each_word_that_a_page_says_is_in_the_catalogues(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert [key for key in _ASKED.findall(source) if key not in CATALOGUES["en"]] == []
    begun = {*_PREFIX.findall(source), *(f"{kind}." for kind in _KIND.findall(source))}
    assert [start for start in begun if not any(key.startswith(start) for key in CATALOGUES["en"])] == []


@pytest.mark.parametrize("path", _HTML, ids=lambda path: path.name)
def test_a_page_has_no_words_of_its_own_and_nothing_inline(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    markup = re.sub(r"{%.*?%}|{{.*?}}", " ", source, flags=re.S)
    shown = re.sub(r"<code>.*?</code>|<svg.*?</svg>|<[^>]*>", " ", markup, flags=re.S)
    words = set(re.findall(r"[A-Za-z\u4e00-\u9fff]{2,}", shown)) - {"Perennial", "API", "bar", "Esc"}
    assert words <= {"p95", "p"}, "say it through the catalogue"
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:|https?://(?!www\.w3\.org)", markup)
    assert re.findall(r"<script(?![^>]*\ssrc=)", markup) == []
    assert "|safe" not in source.replace(" ", "")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-TW", "zh"), ("en-GB,zh;q=0.9", "en"), ("de, zh;q=0.1", "zh"), ("", "en"), ("q=;,,;", "en"), ("*", "en")],
)
def test_the_browser_chooses_the_language(accepted: str, language: str) -> None:
    assert chosen_language(accepted) == language
    assert said(language, "nav.overview")


def test_a_text_from_outside_acts_on_nothing() -> None:
    figures = Figures("en")
    hostile = "<script>alert(1)</script>\u202e\x1b[2J" + "x" * 20_000
    shown = str(figures.quoted(hostile))
    assert "<script" not in shown
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    assert "20,0" in shown  # how long it is
    assert shown.count("<details") == 1
