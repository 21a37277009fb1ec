"""Generation: the input is an approved reply with manners, an answer is a reply, the target what somebody accepted."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_key, admit_text, admit_time, normalise, shown
from perennial.continual.records import Origin
from perennial.continual.task import PREDICTION, ColumnKind, KeptRow, Row
from perennial.continual.tasks.generation.rewrite import AcceptedEdit, Rewrite

__all__ = ["SOMEBODY", "Generation", "anonymous", "likeness"]

SOMEBODY = "{name}"
"""Stands for whoever is greeted, in everything that is kept."""

_MANNERS = ("tone", "language", "name")
_PLAIN = "plain"  # the stratum of rewrites without a tone
_PIECE = 3  # characters, by which texts are compared


@dataclass(frozen=True, slots=True)
class Generation:
    """Rows are `AcceptedEdit`s; the score is how much of the accepted text an answer has.

    >>> task = Generation()
    >>> task.score("Hi Jo, it costs $5.", "Hi Jo, it costs $5.")
    1.0
    """

    name: ClassVar[str] = "generation"
    stratum_noun: ClassVar[str] = "tone"
    adds_up: ClassVar[bool] = False
    stays_right: ClassVar[bool] = True
    text_columns: ClassVar[Sequence[str]] = ("approved", PREDICTION)
    log_columns: ClassVar[Mapping[str, ColumnKind]] = MappingProxyType(
        {
            "approved": ColumnKind.TEXT,
            "tone": ColumnKind.TEXT,
            "language": ColumnKind.TEXT,
            PREDICTION: ColumnKind.TEXT,
            "let_through": ColumnKind.FLAG,
            "why": ColumnKind.TEXT,
            "tokens": ColumnKind.WHOLE,
        }
    )

    def watched(self, logged: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
        """The approved replies, and whether the rewrite was let through."""
        return {
            "text": logged["approved"],
            PREDICTION: ["rewritten" if through else "as approved" for through in logged["let_through"]],
            "answer": logged[PREDICTION],
            "tokens": logged["tokens"],
        }

    def read_row(self, raw: Mapping[str, Any], *, now: datetime) -> AcceptedEdit:
        """An accepted edit from `approved` and `accepted`, and the other fields of `write_row` where given."""
        for field in ("approved", "accepted"):
            if field not in raw:
                raise DataError(f"a row has the fields {sorted(raw)}; it needs 'approved' and 'accepted'")
        manners = {name: _manner(raw, name) for name in _MANNERS}
        asked, changed = self.redact(Rewrite(approved=raw["approved"], **manners))
        accepted = admit_text(raw["accepted"], field="accepted")
        target = anonymous(accepted.text, manners["name"])
        return AcceptedEdit(
            input=asked,
            target=target,
            at=admit_time(raw.get("at"), now=now),
            origin=Origin.named(raw.get("origin", Origin.IMPORT)),
            key=admit_key(raw["key"]) if raw.get("key") is not None else None,
            prediction_id=raw.get("prediction_id"),
            redacted=changed or accepted.redacted or bool(raw.get("redacted", False)),
        )

    def write_row(self, row: Row[Rewrite, str]) -> dict[str, Any]:
        """The fields of an accepted edit."""
        return {
            **asdict(row.input),
            "accepted": row.target,
            "at": row.at.isoformat(),
            "key": row.key,
            "redacted": row.redacted,
            "origin": row.origin.value,
            "prediction_id": row.prediction_id,
        }

    def keep(self, row: Row[Rewrite, str]) -> KeptRow:
        """What was asked as a JSON object; the accepted text as it is."""
        return KeptRow(
            input=json.dumps(asdict(row.input), ensure_ascii=False, sort_keys=True),
            target=row.target,
            at=row.at,
            origin=row.origin,
            key=row.key,
            prediction_id=row.prediction_id,
            redacted=row.redacted,
        )

    def read_kept(self, kept: KeptRow) -> AcceptedEdit:
        """An accepted edit."""
        try:
            asked = Rewrite(**json.loads(kept.input))
        except (ValueError, TypeError) as exc:
            raise DataError(f"a kept rewrite is {shown(kept.input)}, which is none: {exc}") from exc
        return AcceptedEdit(
            input=asked,
            target=kept.target,
            at=kept.at,
            origin=kept.origin,
            key=kept.key,
            prediction_id=kept.prediction_id,
            redacted=kept.redacted,
        )

    def read_answer(self, kept: str) -> str:
        """The text itself."""
        return kept

    def read_target(self, kept: str) -> str:
        """The text itself."""
        return kept

    def joined(self, known: str, later: str) -> str:
        """What was accepted last."""
        return later

    def redact(self, task_input: Rewrite) -> tuple[Rewrite, bool]:
        """The approved reply as it may be kept; whoever is greeted becomes a variable."""
        admitted = admit_text(task_input.approved, field="approved")
        approved = anonymous(admitted.text, task_input.name)
        kept = replace(task_input, approved=approved, name=SOMEBODY if task_input.name.strip() else "")
        return kept, admitted.redacted or kept.name != task_input.name

    def identity(self, task_input: Rewrite) -> bytes:
        """Reply, tone, language, and whether somebody is greeted."""
        manners = [task_input.tone.strip().casefold(), task_input.language.strip().casefold()]
        asked = [normalise(task_input.approved), *manners, bool(task_input.name.strip())]
        return json.dumps(asked, ensure_ascii=False).encode()

    def stratum(self, row: Row[Rewrite, str]) -> str:
        """The tone."""
        return row.input.tone.strip().casefold() or _PLAIN

    def class_of(self, row: Row[Rewrite, str]) -> str | None:
        """None: answers are of no fixed set."""
        return None

    def size_bytes(self, row: Row[Rewrite, str]) -> int:
        """The UTF-8 of all of its texts."""
        return sum(len(text.encode()) for text in (*asdict(row.input).values(), row.target))

    def texts(self, task_input: Rewrite) -> Sequence[str]:
        """The approved reply."""
        return (task_input.approved,)

    def words(self, task_input: Rewrite) -> Sequence[str]:
        """The words of the approved reply."""
        return normalise(task_input.approved).split()

    def score(self, answer: str, target: str) -> float:
        """See `likeness`."""
        return likeness(answer, target)

    def shown(self, answer: str) -> Sequence[str]:
        """Nothing: the approved replies decide what is said."""
        del answer
        return ()

    def same(self, one: str, other: str) -> bool:
        """Whether the texts are equal."""
        return one == other

    def apprentice(self) -> None:
        """None: it would have to write."""
        return


def anonymous(text: str, name: str) -> str:
    """The text with a variable where it names whoever is greeted.

    >>> anonymous("Hi Jo, Jona is here.", "Jo")
    'Hi {name}, Jona is here.'
    """
    if not name.strip() or name == SOMEBODY:
        return text
    return re.sub(rf"(?<!\w){re.escape(name.strip())}(?!\w)", lambda _: SOMEBODY, text)


def likeness(one: str, other: str) -> float:
    """How much two texts share, in [0, 1]: twice the common pieces of three characters, of all pieces (Dice).

    >>> likeness("refund", "refund"), likeness("abc", "xyz")
    (1.0, 0.0)
    """
    left, right = _pieces(one), _pieces(other)
    whole = left.total() + right.total()
    return 2.0 * (left & right).total() / whole if whole else float(one == other)


def _pieces(text: str) -> Counter[str]:
    clean = f"  {' '.join(text.split())} "
    return Counter(clean[place : place + _PIECE] for place in range(len(clean) - _PIECE + 1))


def _manner(raw: Mapping[str, Any], name: str) -> str:
    """A manner as it may be kept: one short line."""
    value = raw.get(name) or ""
    return "" if value == "" else admit_key(value, field=name) or ""
