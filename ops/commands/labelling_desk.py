"""Labelling by people at once: one text each, one after another, with skipping and going back."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from perennial.continual.errors import NotFound
from perennial.continual.preparation import admit_prediction_id
from perennial.continual.records import Example
from perennial.ops.commands.label_queue import LabelQueue, QueueItem
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.store.feedback import GivenLabel, add_labels, admit_given, check_takes, known_labels
from perennial.ops.store.state import QueueChoice
from perennial.ops.store.workspace import Workspace

__all__ = ["Handouts", "LabellingDesk", "Task", "keep_labels"]

_HELD_S = 300.0  # a text that somebody looks at longer may be given to another
_SEATS = 1_000
_BACK = 20
_LOOKED_AT = 300  # of those that wait


@dataclass(slots=True)
class _Seat:
    skipped: set[str] = field(default_factory=set)
    given: list[str] = field(default_factory=list)
    recent: list[str] = field(default_factory=list)


class Handouts:
    """Who looks at which text of one model. Seats are browsers; all of this lives as long as the process.

    >>> handouts = Handouts()
    >>> handouts.next("one", ["a", "b"]), handouts.next("two", ["a", "b"]), handouts.next("one", ["a", "b"])
    ('a', 'b', 'a')
    >>> handouts.skip("one", "a"), handouts.next("one", ["a", "b"]), handouts.next("three", ["a", "b"])
    (None, None, 'a')
    """

    def __init__(self, held_s: float = _HELD_S) -> None:
        self._held_s, self._lock = held_s, threading.Lock()
        self._held: dict[str, tuple[str, float]] = {}  # by text: the seat, and until when
        self._seats: OrderedDict[str, _Seat] = OrderedDict()

    def next(self, seat: str, waiting: list[str]) -> str | None:
        """Return the text that the seat has in hand, or the first that nobody has and it did not skip; None without."""
        with self._lock:
            now, skipped = time.monotonic(), self._seat(seat).skipped
            held = {name: holder for name, (holder, until) in self._held.items() if until > now}
            in_hand = next((name for name in waiting if held.get(name) == seat), None)
            free = (name for name in waiting if name not in held and name not in skipped)
            chosen = in_hand or next(free, None)
            if chosen is not None:
                self._held[chosen] = (seat, now + self._held_s)
            return chosen

    def take(self, seat: str, name: str) -> None:
        """Put a text into the seat's hand, whoever has it."""
        with self._lock:
            self._drop(seat)
            self._held[name] = (seat, time.monotonic() + self._held_s)

    def skip(self, seat: str, name: str) -> None:
        """Put a text back, which the seat does not get again until it asks for what it skipped."""
        with self._lock:
            self._drop(seat)
            self._seat(seat).skipped.add(name)

    def again(self, seat: str) -> None:
        """Forget what the seat skipped."""
        with self._lock:
            self._seat(seat).skipped.clear()

    def done(self, seat: str, name: str, label: str) -> None:
        """Note that the seat labelled a text."""
        with self._lock:
            self._drop(seat)
            own = self._seat(seat)
            own.given = [*(each for each in own.given if each != name), name][-_BACK:]
            own.recent = [label, *(each for each in own.recent if each != label)][:8]

    def last(self, seat: str) -> str | None:
        """Return the text that the seat labelled last, once; then the one before it."""
        with self._lock:
            own = self._seat(seat)
            return own.given.pop() if own.given else None

    def recent(self, seat: str) -> tuple[str, ...]:
        """Return the labels that the seat gave last, the latest first."""
        with self._lock:
            return tuple(self._seat(seat).recent)

    def _drop(self, seat: str) -> None:
        now = time.monotonic()
        self._held = {name: held for name, held in self._held.items() if held[0] != seat and held[1] > now}

    def _seat(self, seat: str) -> _Seat:
        own = self._seats.setdefault(seat, _Seat())
        self._seats.move_to_end(seat)
        while len(self._seats) > _SEATS:
            self._seats.popitem(last=False)
        return own


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a person labels next. `item` is None where nothing waits for this seat; `label` where it has one already."""

    item: QueueItem | None
    waiting: int
    label: str | None
    labels: tuple[str, ...]
    recent: tuple[str, ...]


class LabellingDesk:
    """The labelling of every model of a workspace."""

    def __init__(self, ledger: Ledger, workspace: Workspace) -> None:
        self._ledger, self._workspace = ledger, workspace
        self._handouts: dict[str, Handouts] = {}

    def of(self, model: str) -> Handouts:
        """Return who looks at what of a model."""
        return self._handouts.setdefault(model, Handouts())

    def next(self, model: str, seat: str, *, named: str = "") -> Task:
        """Return what a seat labels next, or the request that it names.

        Raises:
            DataError: the model takes no labels.
        """
        check_takes(self._ledger, model, "text_classification")
        queue = LabelQueue(self._ledger, self._workspace, model)
        choices = {row.prediction_id: row for row in queue.waiting_choices(_LOOKED_AT)}
        item, handouts = None, self.of(model)
        left = list(choices)
        if named:
            given = choices.get(named, QueueChoice(prediction_id=named, reason="", probability=1.0))
            item = next(iter(queue.items_of([given])), None)
        while item is None and (name := handouts.next(seat, left)) is not None:
            item = next(iter(queue.items_of([choices[name]])), None)
            if item is None:  # its text was pruned or erased
                left.remove(name)
        labels = {} if item is None else self._ledger.feedback_labels(model, [item.prediction_id])
        known = known_labels(self._ledger, model)
        return Task(
            item=item,
            waiting=len(choices),
            label=None if item is None else labels.get(item.prediction_id),
            labels=tuple(known),
            recent=tuple(label for label in handouts.recent(seat) if label in known),
        )

    def give(self, model: str, seat: str, prediction_id: str, label: str) -> None:
        """Give an answered request its label.

        Raises:
            DataError: the id or the label breaks the rule of the entrance.
            NotFound: no such request was answered.
        """
        check_takes(self._ledger, model, "text_classification")
        name = admit_prediction_id(prediction_id)
        asked = QueueChoice(prediction_id=name, reason="", probability=1.0)
        if not LabelQueue(self._ledger, self._workspace, model).items_of([asked]):
            raise NotFound(f"prediction {name!r} is not in the traffic of {model}; it was pruned or erased meanwhile")
        given = GivenLabel(prediction_id=name, label=label)
        row = admit_given(given, known=known_labels(self._ledger, model), now=datetime.now(UTC))
        add_labels(self._ledger, model, [row])
        self.of(model).done(seat, name, row.label)


def keep_labels(ledger: Ledger, model: str, rows: Sequence[FeedbackRow | Example]) -> Mapping[str, int]:
    """Keep labels of any number, and return what became of them.

    Raises:
        DataError: the model takes none.
    """
    check_takes(ledger, model, "text_classification")
    return add_labels(ledger, model, rows)
