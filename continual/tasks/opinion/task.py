"""Opinion: rows are labelled texts like any classifier's; what is served and logged of a headline is more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from perennial.continual.task import ColumnKind
from perennial.continual.tasks.text_classification import TextClassification

__all__ = ["Opinion"]

_BESIDE = ("source", "published_at", "symbols", "opinions", "event", "phase", "alert")


@dataclass(frozen=True, slots=True)
class Opinion(TextClassification):
    """A headline's sentiment is learnt, scored and judged as a label of its text; nothing else of it is.

    >>> task = Opinion()
    >>> task.score("negative", "negative"), task.name
    (1.0, 'opinion')
    """

    name: ClassVar[str] = "opinion"
    stratum_noun: ClassVar[str] = "sentiment"
    log_columns: ClassVar[Mapping[str, ColumnKind]] = MappingProxyType(
        {**TextClassification.log_columns, **dict.fromkeys(_BESIDE, ColumnKind.TEXT)}
    )

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """What a classifier's is: drift is looked for in texts and sentiments, events have a watch of their own."""
        return {name: logged[name] for name in TextClassification.log_columns}
