"""A headline or comment as it is served: its text, who published it and when, and the symbols it is about."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

__all__ = ["MOST_SYMBOLS", "Headline", "Symbol", "headline_of", "symbols_in", "window_of"]

MOST_SYMBOLS = 8  # asked about in one headline
_CASHTAG = re.compile(r"(?<![\w$])\$ ?([A-Za-z]{1,6}(?:\.[A-Za-z]{1,2})?)(?!\w)")
_CLAUSE_END = re.compile(
    r"(?<=[.!?;:])\s+|(?<=[\u3002\uff01\uff1f\uff1b\uff0c])|,\s+|\s+[\u2013\u2014|-]\s+"
    r"|\s+(?=(?:but|while|whereas|although|though|however|despite|whilst|as|after|aber|w\u00e4hrend|obwohl|mais|tandis)\s)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """What a headline is about, with the other names it goes by in texts."""

    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)  # without slots: what is said of each symbol is cut out once and kept
class Headline:
    """What is asked about one headline. Without symbols, those that the text marks with a dollar are asked about."""

    text: str
    source: str = ""
    published_at: datetime | None = None
    symbols: tuple[Symbol, ...] = ()

    @property
    def asked_symbols(self) -> tuple[Symbol, ...]:
        """The symbols that were named, else those found in the text."""
        return self.symbols or symbols_in(self.text)

    @cached_property
    def windows(self) -> tuple[tuple[str, str], ...]:
        """The name of each asked symbol with what the text says of it.

        >>> Headline(text="$GE falls while $KO rises").windows
        (('GE', '$GE falls'), ('KO', 'while $KO rises'))
        """
        asked = self.asked_symbols
        return tuple(
            (symbol.name, window_of(self.text, symbol, [other for other in asked if other != symbol]))
            for symbol in asked
        )


def headline_of(asked: "str | Headline") -> Headline:
    """A headline that somebody asks about; a bare text is one of an unknown source, about nothing in particular."""
    return asked if isinstance(asked, Headline) else Headline(text=asked)


def symbols_in(text: str) -> tuple[Symbol, ...]:
    """The symbols that a text marks with a dollar, each once, in order.

    >>> [symbol.name for symbol in symbols_in("$AAPL up, $ ge flat, costs $5, $aapl again")]
    ['AAPL', 'GE']
    """
    found = dict.fromkeys(match[1].upper() for match in _CASHTAG.finditer(text))
    return tuple(Symbol(name=name) for name in list(found)[:MOST_SYMBOLS])


def window_of(text: str, symbol: Symbol, others: Sequence[Symbol]) -> str:
    r"""The clauses that a text says of one symbol; the whole text where they cannot be told apart.

    A clause without any symbol goes on about the one before it.

    >>> apple, tesla = Symbol(name="AAPL", names=("Apple",)), Symbol(name="TSLA", names=("Tesla",))
    >>> window_of("Apple soars on record sales, Tesla plunges", apple, [tesla])
    'Apple soars on record sales'
    >>> window_of("Tech soars on record sales", apple, [tesla])
    'Tech soars on record sales'
    """
    clauses = [clause.strip(" ,;") for clause in _CLAUSE_END.split(text) if clause and clause.strip(" ,;")]
    own, other = _pattern([symbol]), _pattern(others)
    said: list[str] = []
    about = False
    for clause in clauses:
        mine, theirs = _names(own, clause), _names(other, clause)
        about = mine or (about and not theirs)
        if about:
            said.append(clause)
    return ", ".join(said) or text


def _names(pattern: re.Pattern[str] | None, clause: str) -> bool:
    return pattern is not None and pattern.search(clause) is not None


def _pattern(symbols: Sequence[Symbol]) -> re.Pattern[str] | None:
    names = sorted({name for symbol in symbols for name in (symbol.name, *symbol.names) if name}, key=len, reverse=True)
    if not names:
        return None
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(name) for name in names)})(?!\w)", re.IGNORECASE)
