"""Replies: rows are texts labelled with an intent like any classifier's; what is served of a message is more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from perennial.continual.task import ColumnKind
from perennial.continual.tasks.text_classification import TextClassification

__all__ = ["Replies"]

_BESIDE = ("language", "previous", "replies", "action")


@dataclass(frozen=True, slots=True)
class Replies(TextClassification):
    """A message's intent is learnt, scored and judged as a label of its text; replies are chosen beside it.

    >>> task = Replies()
    >>> task.score("lost_card", "lost_card"), task.name
    (1.0, 'replies')
    """

    name: ClassVar[str] = "replies"
    stratum_noun: ClassVar[str] = "intent"
    log_columns: ClassVar[Mapping[str, ColumnKind]] = MappingProxyType(
        {**TextClassification.log_columns, **dict.fromkeys(_BESIDE, ColumnKind.TEXT)}
    )

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """What a classifier's is: drift is looked for in texts and intents."""
        return {name: logged[name] for name in TextClassification.log_columns}
