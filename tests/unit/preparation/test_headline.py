"""What a headline says of each of the symbols in it."""

import pytest

from perennial.continual.tasks.opinion.headline import MOST_SYMBOLS, Headline, Symbol, symbols_in, window_of

APPLE, TESLA, FORD = Symbol(name="AAPL", names=("Apple",)), Symbol(name="TSLA", names=("Tesla",)), Symbol(name="F")


@pytest.mark.parametrize(
    ("text", "apple", "tesla"),
    [
        ("Apple soars, Tesla plunges", "Apple soars", "Tesla plunges"),
        ("Apple soars while Tesla plunges on recall", "Apple soars", "while Tesla plunges on recall"),
        (
            "Tesla falls; the recall grows. Apple up, at a record",
            "Apple up, at a record",
            "Tesla falls, the recall grows.",
        ),
        ("Apple and Tesla fall", "Apple and Tesla fall", "Apple and Tesla fall"),
        ("AAPL up - TSLA down", "AAPL up", "TSLA down"),
        ("$AAPL beats, $TSLA misses", "$AAPL beats", "$TSLA misses"),
        ("Pineapple prices rise, Tesla falls", "Pineapple prices rise, Tesla falls", "Tesla falls"),
        ("Tech falls", "Tech falls", "Tech falls"),
        ("", "", ""),
    ],
)
def test_a_symbol_has_the_clauses_that_name_it_and_those_that_go_on_about_it(text: str, apple: str, tesla: str) -> None:
    assert window_of(text, APPLE, [TESLA]) == apple
    assert window_of(text, TESLA, [APPLE]) == tesla


def test_a_name_of_signs_is_taken_as_it_is() -> None:
    assert window_of("AT&T up, F down", Symbol(name="T", names=("AT&T",)), [FORD]) == "AT&T up"
    assert window_of("a (b up, F down", Symbol(name="(b"), [FORD]) == "a (b up"


def test_symbols_that_the_text_marks_are_asked_about_where_none_is_named() -> None:
    assert [symbol.name for symbol in Headline(text="$GE up, $ aapl down, $BRK.B, $5 and US$ 3m").asked_symbols] == [
        "GE",
        "AAPL",
        "BRK.B",
    ]
    assert Headline(text="$GE up", symbols=(APPLE,)).asked_symbols == (APPLE,)
    assert len(symbols_in(" ".join(f"${letter}" for letter in "ABCDEFGHIJKL"))) == MOST_SYMBOLS


def test_what_is_said_of_each_symbol_is_cut_out_once() -> None:
    headline = Headline(text="Apple soars, Tesla plunges", symbols=(APPLE, TESLA, FORD))
    assert headline.windows == (("AAPL", "Apple soars"), ("TSLA", "Tesla plunges"), ("F", headline.text))
    assert headline.windows is headline.windows
    assert headline == Headline(text=headline.text, symbols=headline.symbols), "what was cut out says nothing new of it"
