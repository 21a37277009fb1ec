"""Opinion: a headline in; its sentiment, that of each symbol, and the event it belongs to out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .tensors import PREDICTION_ID, VERSION, Array, column, given_texts
from .texts import CONFIDENCE, LABEL, further_of, text_tensors
from .texts import FURTHER as OF_TEXTS
from .texts import USUAL as USUAL_OF_TEXTS

__all__ = [
    "FURTHER",
    "USUAL",
    "Headline",
    "Opinion",
    "Symbol",
    "SymbolOpinion",
    "headline_tensors",
    "opinions_in",
    "written_symbols",
]

SOURCE, PUBLISHED_AT, SYMBOLS = "SOURCE", "PUBLISHED_AT", "SYMBOLS"
EVENT, PHASE, ALERT, OPINIONS = "EVENT", "PHASE", "ALERT", "OPINIONS"
USUAL = (*USUAL_OF_TEXTS, EVENT, PHASE, ALERT)
FURTHER = (*OF_TEXTS, OPINIONS)


class AskedSymbol(Protocol):
    """What a headline is about."""

    @property
    def name(self) -> str: ...
    @property
    def names(self) -> Sequence[str]: ...


class AskedHeadline(Protocol):
    """What is asked about a headline with."""

    @property
    def text(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def published_at(self) -> datetime | None: ...
    @property
    def symbols(self) -> Sequence[AskedSymbol]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """What a headline is about, with the other names it goes by in texts."""

    name: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A headline. Without symbols, those that the text marks with a dollar are asked about."""

    text: str
    source: str = ""
    published_at: datetime | None = None
    symbols: tuple[Symbol, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolOpinion:
    """What the clauses about one symbol say of it."""

    symbol: str
    label: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """The answer to one headline; `scores`, `known` and `opinions` where they were asked for."""

    label: str
    confidence: float
    event: str
    phase: str
    alert: str
    version: int
    prediction_id: str
    scores: dict[str, float] | None = None
    known: bool | None = None
    opinions: tuple[SymbolOpinion, ...] | None = None


def headline_tensors(headlines: Sequence[AskedHeadline]) -> dict[str, Array]:
    """A request about headlines."""
    times = [headline.published_at for headline in headlines]
    return {
        **text_tensors([headline.text for headline in headlines]),
        **given_texts(
            {
                SOURCE: [headline.source for headline in headlines],
                PUBLISHED_AT: ["" if at is None else at.isoformat() for at in times],
                SYMBOLS: [written_symbols(headline.symbols) for headline in headlines],
            }
        ),
    }


def opinions_in(outputs: Mapping[str, Array]) -> list[Opinion]:
    """The answers, one a headline."""
    names = (LABEL, CONFIDENCE, EVENT, PHASE, ALERT, VERSION, PREDICTION_ID)
    rows = zip(*(column(outputs, name) for name in names), further_of(outputs), strict=True)
    symbols = column(outputs, OPINIONS) if OPINIONS in outputs else None
    return [
        Opinion(
            label=label.decode(),
            confidence=confidence,
            event=event.decode(),
            phase=phase.decode(),
            alert=alert.decode(),
            version=version,
            prediction_id=number.decode(),
            opinions=None if symbols is None else _read(symbols[row]),
            scores=more.scores,
            known=more.known,
        )
        for row, (label, confidence, event, phase, alert, version, number, more) in enumerate(rows)
    ]


def written_symbols(symbols: Sequence[AskedSymbol]) -> str:
    """Symbols as a request has them: JSON, each with its other names."""
    return json.dumps({one.name: list(one.names) for one in symbols}, ensure_ascii=False) if symbols else ""


def _read(written: bytes) -> tuple[SymbolOpinion, ...]:
    return tuple(
        SymbolOpinion(symbol=one["symbol"], label=one["sentiment"], confidence=one["confidence"])
        for one in json.loads(written)
    )
