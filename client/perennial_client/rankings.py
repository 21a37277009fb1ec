"""Ranking: a user in, items in order out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .tensors import PREDICTION_ID, VERSION, Array, column, given_texts, strings, texts_of

__all__ = ["FURTHER", "USUAL", "ListRequest", "RankedList", "lists_in", "ranking_tensors"]

USER, COUNT, CONTEXT, CANDIDATES, WITHHELD = "USER", "K", "CONTEXT", "CANDIDATES", "WITHHELD"
LANGUAGE, SEGMENT = "LANGUAGE", "SEGMENT"
ITEMS, SCORES, REASON, PROPENSITY = "ITEMS", "SCORES", "REASON", "PROPENSITY"
USUAL = (ITEMS, SCORES, REASON, VERSION, PREDICTION_ID)
FURTHER = (PROPENSITY,)


class AskedList(Protocol):
    """What a list is asked for with."""

    @property
    def user(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def context(self) -> str: ...
    @property
    def segment(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def candidates(self) -> Sequence[str] | None: ...
    @property
    def withheld(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """One list for a user: with `candidates` of nothing else, and never of what is `withheld`."""

    user: str
    count: int = 10
    context: str = ""  # in words
    segment: str = ""
    language: str = ""  # only items of this language, or of none
    candidates: tuple[str, ...] | None = None
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedList:
    """The list for one user, best first; `propensities` where they were asked for."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    reasons: tuple[str, ...]
    version: int
    prediction_id: str
    propensities: tuple[float, ...] | None = None


def ranking_tensors(asked: Sequence[AskedList]) -> dict[str, Array]:
    """A request for lists."""
    return {
        USER: strings(USER, [one.user for one in asked]),
        COUNT: np.array([[one.count] for one in asked], dtype=np.int32),
        **given_texts(
            {
                CONTEXT: [one.context for one in asked],
                CANDIDATES: [_written(one.candidates) for one in asked],
                WITHHELD: [_written(one.withheld or None) for one in asked],
                LANGUAGE: [one.language for one in asked],
                SEGMENT: [one.segment for one in asked],
            }
        ),
    }


def lists_in(outputs: Mapping[str, Array]) -> list[RankedList]:
    """The answers, one a user."""
    versions, numbers = column(outputs, VERSION), column(outputs, PREDICTION_ID)
    made = []
    for row, items in enumerate(outputs[ITEMS]):
        count = sum(bool(name) for name in items)
        made.append(
            RankedList(
                items=texts_of(outputs, ITEMS, row, count),
                scores=tuple(outputs[SCORES][row][:count].tolist()),
                reasons=texts_of(outputs, REASON, row, count),
                version=versions[row],
                prediction_id=numbers[row].decode(),
                propensities=tuple(outputs[PROPENSITY][row][:count].tolist()) if PROPENSITY in outputs else None,
            )
        )
    return made


def _written(names: Sequence[str] | None) -> str:
    return "" if names is None else json.dumps(list(names), ensure_ascii=False)
