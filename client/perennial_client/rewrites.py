"""Generation: an approved reply and manners in; the reply in these manners out, or as it was approved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from .tensors import PREDICTION_ID, VERSION, Array, column, given_texts, strings

__all__ = ["FURTHER", "USUAL", "Rewrite", "Rewritten", "rewrite_tensors", "rewrites_in"]

TEXT, TONE, LANGUAGE, NAME = "TEXT", "TONE", "LANGUAGE", "NAME"
ANSWER, LET_THROUGH, WHY, REWRITTEN = "ANSWER", "LET_THROUGH", "WHY", "REWRITTEN"
USUAL = (ANSWER, LET_THROUGH, WHY, VERSION, PREDICTION_ID)
FURTHER = (REWRITTEN,)


class AskedRewrite(Protocol):
    """What is asked of a rewrite."""

    @property
    def approved(self) -> str: ...
    @property
    def tone(self) -> str: ...
    @property
    def language(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """An approved reply that is to be told in a tone, greeting somebody."""

    approved: str
    tone: str = ""
    language: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """The answer: the rewrite where it was let through, else the approved reply, and why.

    `rewritten` is what was written, let through or not, where it was asked for.
    """

    answer: str
    let_through: bool
    why: str
    version: int
    prediction_id: str
    rewritten: str | None = None


def rewrite_tensors(rewrites: Sequence[AskedRewrite]) -> dict[str, Array]:
    """A request about rewrites."""
    return {
        TEXT: strings(TEXT, [each.approved for each in rewrites]),
        **given_texts(
            {
                TONE: [each.tone for each in rewrites],
                LANGUAGE: [each.language for each in rewrites],
                NAME: [each.name for each in rewrites],
            }
        ),
    }


def rewrites_in(outputs: Mapping[str, Array]) -> list[Rewritten]:
    """The answers, one a rewrite."""
    written = column(outputs, REWRITTEN) if REWRITTEN in outputs else [None] * len(outputs[ANSWER])
    rows = zip(*(column(outputs, name) for name in USUAL), written, strict=True)
    return [
        Rewritten(
            answer=answer.decode(),
            let_through=bool(through),
            why=why.decode(),
            version=version,
            prediction_id=number.decode(),
            rewritten=None if each is None else each.decode(),
        )
        for answer, through, why, version, number, each in rows
    ]
