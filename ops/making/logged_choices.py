"""What live answers put first and earned, and whether other versions would have put the same first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.off_policy import Choice, LoggedChoices
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.port import Memory, Outcomes, ServingSide

if TYPE_CHECKING:  # what judges waits in memory, and asks no database
    from perennial.ops.ledger.ports import Labels
    from perennial.ops.store.workspace import Workspace

__all__ = [
    "MadeChoice",
    "UnknownTime",
    "choices_of",
    "first_choices",
    "kept_answers",
    "logged_choices",
    "read_logged",
    "whose",
]

MOST = 1_000  # answers: each costs one of every version that is asked
_LEAST = 50  # choices: fewer say nothing
_BATCH = 200
_TARGET = "target"
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownTime:
    """The time of answers whose outcome is known to the log and to no version in question.

    It begins after all that a version learnt, and ends where the newest answers may get their feedback still.
    """

    after: datetime | None
    until: datetime

    @classmethod
    def of(cls, workspace: "Workspace", model: str, learnt_until: datetime | None) -> Self:
        """Of a version whose newest row became known then."""
        patience = timedelta(seconds=workspace.model(model).drift.feedback_within_s)
        return cls(after=learnt_until, until=datetime.now(UTC) - patience)

    def holds(self, at: datetime) -> bool:
        """Whether an answer was given in it."""
        return at < self.until and (self.after is None or at > self.after)


class MadeChoice(NamedTuple):
    """A logged choice, what was asked, and when it was answered."""

    choice: Choice
    asked: Any
    at: datetime


def read_logged(
    ledger: "Labels",
    workspace: "Workspace",
    model: str,
    outcomes: Outcomes,
    side: ServingSide,
    *,
    version: int | None = None,
    within: UnknownTime | None = None,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """The newest logged answers, of a version where one is named, each with what is known of it as `target`."""
    from perennial.ops.store.traffic_of import traffic_of

    columns = ["prediction_id", "at", *side.input_columns, *outcomes.choice_columns]
    since = None if within is None or within.after is None else within.after + _MICROSECOND
    until = None if within is None else within.until
    if since is not None and until is not None and since >= until:
        return []
    log = traffic_of(workspace, model)
    rows: list[dict[str, Any]] = log.read(
        since=since, until=until, version=version, columns=list(dict.fromkeys(columns)), last=most
    ).to_pylist()
    known = ledger.feedback_labels(model, [row["prediction_id"] for row in rows])
    return [
        row | {"at": row["at"].astimezone(UTC).isoformat(), _TARGET: known.get(row.pop("prediction_id"))}
        for row in rows
    ]


def choices_of(rows: Sequence[dict[str, Any]], outcomes: Outcomes, side: ServingSide) -> list[MadeChoice]:
    """The choices among logged rows."""
    found = []
    for row in rows:
        choice, task_input = outcomes.choice(row, row[_TARGET]), side.logged_input(row)
        if choice is not None and task_input is not None:
            found.append(MadeChoice(choice, task_input, datetime.fromisoformat(row["at"])))
    return found


def whose(made: Sequence[MadeChoice], side: ServingSide) -> NDArray[np.int64]:
    """For whom each choice was made, as numbers from 0."""
    _, numbers = np.unique([side.caller(one.asked) for one in made], return_inverse=True)
    return numbers.astype(np.int64)


def kept_answers(version: BundledVersion, memory: Memory, asked: Sequence[Any]) -> Iterator[str]:
    """A version's answers as they are kept, by what was known before each question."""
    recalled = memory.recalled(asked)
    for start in range(0, len(recalled), _BATCH):
        yield from (answer.kept for answer in version.answers(recalled[start : start + _BATCH]))


def first_choices(version: BundledVersion, outcomes: Outcomes, memory: Memory, asked: Sequence[Any]) -> list[str]:
    """What a version puts first."""
    return [outcomes.chosen(kept) for kept in kept_answers(version, memory, asked)]


def logged_choices(
    rows: Sequence[dict[str, Any]],
    outcomes: Outcomes,
    side: ServingSide,
    memory: Memory,
    versions: tuple[BundledVersion, BundledVersion],
) -> LoggedChoices | None:
    """The choices beside champion and challenger; None where they are few or none was drawn, which tells nothing."""
    made = choices_of(rows, outcomes, side)
    choices, asked = [one.choice for one in made], [one.asked for one in made]
    if len(choices) < _LEAST or all(choice.propensity == 1.0 for choice in choices):
        return None
    champion, challenger = (_same(choices, first_choices(one, outcomes, memory, asked)) for one in versions)
    return LoggedChoices(
        reward=np.array([choice.earned for choice in choices]),
        propensity=np.array([choice.propensity for choice in choices]),
        champion=champion,
        challenger=challenger,
        whose=whose(made, side),
    )


def _same(choices: Sequence[Choice], firsts: Sequence[str]) -> NDArray[np.float64]:
    return np.array(
        [float(choice.chosen == first) for choice, first in zip(choices, firsts, strict=True)], dtype=np.float64
    )
