"""What live answers put first and earned, and whether other versions would have put the same first."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.off_policy import Choice, LoggedChoices
from perennial.ops.ledger.ports import Labels
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.port import Memory, Outcomes, ServingSide
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["choices_of", "first_choices", "kept_answers", "logged_choices", "read_logged"]

MOST = 1_000  # answers: each costs one of every version that is asked
_BATCH = 200
_TARGET = "target"


def read_logged(
    ledger: Labels,
    workspace: Workspace,
    model: str,
    outcomes: Outcomes,
    side: ServingSide,
    *,
    version: int | None = None,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """The newest logged answers, of a version where one is named, each with what is known of it as `target`."""
    columns = ["prediction_id", *side.input_columns, *outcomes.choice_columns]
    rows: list[dict[str, Any]] = (
        traffic_of(workspace, model).read(version=version, columns=list(dict.fromkeys(columns)), last=most).to_pylist()
    )
    known = ledger.feedback_labels(model, [row["prediction_id"] for row in rows])
    return [row | {_TARGET: known.get(row.pop("prediction_id"))} for row in rows]


def choices_of(rows: Sequence[dict[str, Any]], outcomes: Outcomes, side: ServingSide) -> tuple[list[Choice], list[Any]]:
    """The choices among logged rows, and what was asked each time."""
    choices, asked = [], []
    for row in rows:
        choice, task_input = outcomes.choice(row, row[_TARGET]), side.logged_input(row)
        if choice is not None and task_input is not None:
            choices.append(choice)
            asked.append(task_input)
    return choices, asked


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
    """The choices beside champion and challenger; None where no chance was left to any, which tells nothing."""
    choices, asked = choices_of(rows, outcomes, side)
    if not choices or all(choice.propensity == 1.0 for choice in choices):
        return None
    champion, challenger = (_same(choices, first_choices(one, outcomes, memory, asked)) for one in versions)
    return LoggedChoices(
        reward=np.array([choice.earned for choice in choices]),
        propensity=np.array([choice.propensity for choice in choices]),
        champion=champion,
        challenger=challenger,
    )


def _same(choices: Sequence[Choice], firsts: Sequence[str]) -> NDArray[np.float64]:
    return np.array(
        [float(choice.chosen == first) for choice, first in zip(choices, firsts, strict=True)], dtype=np.float64
    )
