"""Every question as the requests that ask it, for the plain client and for the one of asyncio."""

from collections.abc import Sequence
from dataclasses import dataclass

from . import opinions, rankings, replies, rewrites, texts
from .images import image_tensors
from .inference import Call, calls_of
from .opinions import Headline, Opinion, headline_tensors, opinions_in
from .rankings import ListRequest, RankedList, lists_in, ranking_tensors
from .replies import Message, SuggestedReplies, message_tensors, replies_in
from .rewrites import Rewrite, Rewritten, rewrite_tensors, rewrites_in
from .texts import KNOWN, Prediction, predictions_in, text_tensors

__all__ = ["Questions", "headline_of", "message_of", "rewrite_of"]

Keys = Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """Writes requests of at most `rows_at_once` rows. `further` asks for everything that a task can tell beside."""

    rows_at_once: int = 64

    def predictions(self, asked: Sequence[str], keys: Keys, *, scores: bool, known: bool) -> list[Call[Prediction]]:
        """About texts."""
        outputs = (*texts.USUAL, *(texts.FURTHER if scores else ()), *((KNOWN,) if known else ()))
        return calls_of(
            asked, keys, write=text_tensors, read=predictions_in, outputs=outputs, rows_at_once=self.rows_at_once
        )

    def images(self, asked: Sequence[bytes], keys: Keys, *, scores: bool, known: bool) -> list[Call[Prediction]]:
        """About images."""
        outputs = (*texts.USUAL, *(texts.FURTHER if scores else ()), *((KNOWN,) if known else ()))
        return calls_of(
            asked, keys, write=image_tensors, read=predictions_in, outputs=outputs, rows_at_once=self.rows_at_once
        )

    def lists(self, asked: Sequence[ListRequest], *, propensities: bool) -> list[Call[RankedList]]:
        """For users."""
        outputs = (*rankings.USUAL, *(rankings.FURTHER if propensities else ()))
        return calls_of(
            asked, None, write=ranking_tensors, read=lists_in, outputs=outputs, rows_at_once=self.rows_at_once
        )

    def replies(self, asked: Sequence[Message], keys: Keys, *, further: bool) -> list[Call[SuggestedReplies]]:
        """About customers' messages."""
        outputs = (*replies.USUAL, *((*replies.FURTHER, KNOWN) if further else ()))
        return calls_of(
            asked, keys, write=message_tensors, read=replies_in, outputs=outputs, rows_at_once=self.rows_at_once
        )

    def rewrites(self, asked: Sequence[Rewrite], keys: Keys, *, further: bool) -> list[Call[Rewritten]]:
        """About approved replies."""
        outputs = (*rewrites.USUAL, *(rewrites.FURTHER if further else ()))
        return calls_of(
            asked, keys, write=rewrite_tensors, read=rewrites_in, outputs=outputs, rows_at_once=self.rows_at_once
        )

    def opinions(self, asked: Sequence[Headline], keys: Keys, *, further: bool) -> list[Call[Opinion]]:
        """About headlines."""
        outputs = (*opinions.USUAL, *((*opinions.FURTHER, KNOWN) if further else ()))
        return calls_of(
            asked, keys, write=headline_tensors, read=opinions_in, outputs=outputs, rows_at_once=self.rows_at_once
        )


def message_of(asked: str | Message) -> Message:
    """A message; a bare text is nobody's, and the first of its conversation."""
    return asked if isinstance(asked, Message) else Message(text=asked)


def rewrite_of(asked: str | Rewrite) -> Rewrite:
    """A rewrite; a bare text is a reply that is told in no certain tone, and greets nobody."""
    return asked if isinstance(asked, Rewrite) else Rewrite(approved=asked)


def headline_of(asked: str | Headline) -> Headline:
    """A headline; a bare text is of an unknown source."""
    return asked if isinstance(asked, Headline) else Headline(text=asked)
