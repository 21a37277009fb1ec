"""Labels that people and machines give: brought under the rule of the entrance, then kept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

from perennial.continual.errors import DataError, NotFound
from perennial.continual.preparation import (
    KnownLabels,
    admit_attributes,
    admit_example,
    admit_key,
    admit_prediction_id,
    admit_time,
    shown,
    split_of,
)
from perennial.continual.records import Example, Origin
from perennial.continual.tasks import DEFAULT_TASK, reads_words, task_named
from perennial.ops.ledger import FeedbackRow
from perennial.ops.ledger.ports import ExampleSink, PendingLabels, Transactions, Vocabulary
from perennial.ops.store.feedback.ways import check_takes

__all__ = [
    "COUNTED",
    "GivenLabel",
    "add_labelled",
    "add_labels",
    "admit_given",
    "as_feedback",
    "declared_attributes",
    "known_labels",
]

COUNTED = ("new", "corrected", "confirmed", "unchanged", "stale", "erased")
_AS_FEEDBACK = {"added": "new", "relabelled": "corrected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLabel:
    """One label as it came from outside, unchecked: of an answered prediction, or with a text of its own."""

    label: object
    prediction_id: object = None
    text: object = None
    key: object = None
    at: object = None
    attributes: object = None  # whose it is, by names that the settings declare


class LabelLedger(ExampleSink, PendingLabels, Transactions, Protocol):
    """Where labels of both kinds are kept."""


def known_labels(ledger: Vocabulary, model: str) -> KnownLabels:
    """The labels that a model answers with, has examples of, or has descriptions of."""
    route = ledger.route(model)
    served = () if route is None else ledger.version(model, route.champion).labels
    described = (row.label for row in ledger.descriptions(model))
    return KnownLabels([*served, *ledger.labels(model), *described])


def admit_given(
    given: GivenLabel,
    *,
    known: KnownLabels,
    now: datetime,
    origin: Origin = Origin.FEEDBACK,
    without_zone_is_utc: bool = False,
    attributes: Sequence[str] = (),
) -> FeedbackRow | Example:
    """What the ledger keeps of a label: a feedback row where it belongs to a prediction, else an example.

    `attributes` are those that the model's settings declare.

    Raises:
        DataError: a field breaks its rule, or there is not exactly one of prediction id and text.
    """
    if (given.prediction_id is None) == (given.text is None):
        raise DataError("one of prediction_id and text is needed, and not both; send the one that the label is for")
    at = admit_time(given.at, now=now, without_zone_is_utc=without_zone_is_utc)
    whose = admit_attributes(given.attributes, attributes)
    if given.prediction_id is None:
        return admit_example(
            text=given.text, label=given.label, at=at, origin=origin, known=known, key=given.key, attributes=whose
        )
    prediction_id, key = admit_prediction_id(given.prediction_id), admit_key(given.key)
    label = known.admit(given.label)
    return FeedbackRow(prediction_id=prediction_id, label=label, at=at, key=key, origin=origin, attributes=whose)


def declared_attributes(ledger: ExampleSink, model: str) -> tuple[str, ...]:
    """The attributes of people that a model's settings declare, as the ledger knows the settings."""
    settings = next((row.settings for row in ledger.models() if row.name == model), {})
    return tuple(settings.get("fairness", {}).get("attributes", ()))


def add_labels(ledger: LabelLedger, model: str, rows: Sequence[FeedbackRow | Example]) -> dict[str, int]:
    """Keep labels of both kinds in one transaction, and count what became of them.

    Raises:
        NotFound: the ledger does not know the model.
        DataError: it is of a task that takes no labels, or a text is none that it can learn from.
    """
    check_takes(ledger, model, DEFAULT_TASK)
    feedback = [row for row in rows if isinstance(row, FeedbackRow)]
    with ledger.transaction():
        kept = asdict(ledger.add_feedback(model, feedback))
        added = add_labelled(ledger, model, [row for row in rows if isinstance(row, Example)])
    added_examples = as_feedback(added)
    return {name: kept[name] + added_examples[name] for name in COUNTED}


def as_feedback(added: Mapping[str, int]) -> dict[str, int]:
    """The counts of stored examples by the names that feedback has for the same."""
    return {_AS_FEEDBACK.get(name, name): count for name, count in added.items()}


def add_labelled(ledger: ExampleSink, model: str, examples: Sequence[Example]) -> dict[str, int]:
    """Store labelled texts by the model's own hold-out share, and count what became of them.

    Raises:
        NotFound: the ledger does not know the model.
        DataError: a text is none that it can learn from.
    """
    settings = {row.name: row.settings for row in ledger.models()}
    if model not in settings:
        raise NotFound(f"model {model!r} is not in the ledger; it knows {', '.join(settings) or 'none'}")
    _check_inputs(settings[model].get("task", DEFAULT_TASK), examples)
    share = float(settings[model].get("learning", {}).get("holdout_share", 0.1))
    return asdict(ledger.add_examples(model, examples, lambda text: split_of(text, holdout_share=share)))


def _check_inputs(task: str, examples: Sequence[Example]) -> None:
    """Refuse labels of texts where rows name images: a row without its picture would fail every later training."""
    if reads_words(task):
        return
    for row in examples:
        task_named(task).redact(row.text)
        if row.origin is not Origin.SEED:  # of a file of images, whose pictures are kept before their rows
            raise DataError(f"{shown(row.text)} brings no picture; label an answered request, or import a file")
