"""Which rows a training gets (fresh ones and the replay buffer's), and which are held out to prove its version."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from perennial.continual.atomic_file import write_atomically
from perennial.continual.identity import number_of
from perennial.continual.learning.card import ModelCard, is_finished, read_card
from perennial.continual.learning.encoder import resolve_encoder, usable_length
from perennial.continual.learning.learners import learner_of_task, outgrown
from perennial.continual.records import Split
from perennial.continual.task import AnyRow
from perennial.continual.tasks import task_named
from perennial.ops.ledger import Ledger, StoredExample, VersionRow
from perennial.ops.making.starting_point import StartingPoint
from perennial.ops.store.replay_buffer import buffered_rows, open_buffer
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["HoldoutRows", "ModelRows", "TrainingRows"]

_TAUGHT = "taught.json"  # in a version's run folder: the rows that its training was given


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """What one training learns from. `learnt` are the ids of the rows that the new version learns itself.

    Where it goes on from `base`, it will have learnt all that this version had as well. `last_example_id` was the
    newest in the ledger when the rows were read. `afresh`: these are all rows that are stored, and the training begins
    without the champion's sums. `left_out` counts what rows name and is lost, so that they could not be learnt.
    """

    fresh: tuple[StoredExample, ...]
    replay: tuple[AnyRow, ...]
    learnt: tuple[int, ...]
    last_example_id: int = 0
    base: int | None = None
    afresh: bool = False
    left_out: int = 0

    @property
    def counted(self) -> Mapping[str, int]:
        """What a version's lineage tells of them; what was left out is told where there is any."""
        counts = {"rows": len(self.fresh), "replay_rows": len(self.replay), "last_example_id": self.last_example_id}
        return counts | ({"rows_left_out": self.left_out} if self.left_out else {})

    @property
    def examples(self) -> tuple[AnyRow, ...]:
        """The fresh rows without their ids."""
        return tuple(stored.example for stored in self.fresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutRows:
    """Rows kept for proof: those that came since the champion was trained, and those from before."""

    fresh: tuple[AnyRow, ...]
    old: tuple[AnyRow, ...]
    ids: tuple[int, ...] = ()  # in the ledger, of all of them in their order

    @property
    def all(self) -> tuple[AnyRow, ...]:
        """Old rows first."""
        return (*self.old, *self.fresh)


class ModelRows:
    """One model's labelled rows, chosen for its trainings and proofs."""

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._learning = workspace.model(model).learning
        self._task = task_named(workspace.model(model).task)

    def training_rows(self, champion: VersionRow | None) -> TrainingRows:
        """Rows that the champion has not learnt yet, and the replay buffer's.

        A class that is new to the champion counts once it has `min_class_rows` rows, or a description: a slip of a
        labeller's pen makes no class. Without a champion to go on from, all rows are fresh. Where what was right does
        not stay right, the newest rows are left to the next training: they prove this one, which must not know them.
        """
        last = self._ledger.last_example_id(self._model)  # before the rows: one that comes between is proof, not old
        parent = self._parent(champion)
        new = self._ledger.examples(self._model, split=Split.TRAIN, not_learnt_by=parent)
        fresh = self._of_classes(new, champion)
        if not self._task.stays_right:
            fresh = self._before_the_newest(fresh)
        return TrainingRows(
            fresh=fresh,
            replay=self.replay_rows(),
            learnt=tuple(s.id for s in fresh),
            last_example_id=last,
            base=parent,
            afresh=parent is None,
        )

    def note_taught(self, version: int, rows: TrainingRows) -> None:
        """Note what the version's training is about to be given, for `taught_rows`."""
        ids = [stored.id for stored in rows.fresh]
        noted = {"ids": ids, "last_example_id": rows.last_example_id, "afresh": rows.afresh, "left_out": rows.left_out}
        write_atomically(self._workspace.run(self._model, version) / _TAUGHT, json.dumps(noted))

    def taught_rows(self, version: int, champion: VersionRow | None) -> TrainingRows:
        """The rows of the training that made this version, whatever has come since; erased and relabelled ones miss.

        `learnt` holds the relabelled ones too: the version learnt them as they were.
        """
        noted = self._workspace.run(self._model, version) / _TAUGHT
        if not noted.is_file():  # trained before such notes were taken
            return self.training_rows(champion)
        taught = json.loads(noted.read_text(encoding="utf-8"))
        ids = sorted(set(taught["ids"]))
        there = self._ledger.examples_of(self._model, ids)
        parent = self._parent(champion, afresh=taught.get("afresh"))
        return TrainingRows(
            fresh=tuple(there[number] for number in ids if number in there),
            replay=self.replay_rows(),
            learnt=tuple(ids),
            last_example_id=int(taught["last_example_id"]),
            base=parent,
            afresh=parent is None,
            left_out=int(taught.get("left_out", 0)),
        )

    def replay_rows(self) -> tuple[AnyRow, ...]:
        """The replay buffer's rows."""
        return buffered_rows(self._ledger, self._workspace, self._model)

    def holdout_rows(self, champion: VersionRow | None, taught: Collection[int] = ()) -> HoldoutRows:
        """Held-out rows, told apart by whether they came before or after the champion's training.

        At most `holdout_rows` old ones are taken, so that proof stays affordable: those whose input and seed make the
        least numbers, so that a row more takes the place of one at most. Where what was right does not stay right,
        fresh ones are those later than all that was `taught` (ids of rows that the training in question was given):
        else it would be asked about a time whose future it knows.
        """
        last = 0 if champion is None else int(champion.lineage.get("last_example_id", 0))
        rows = self._ledger.examples(self._model, split=Split.HOLDOUT)
        old = [s for s in rows if s.id <= last]
        most = self._learning.holdout_rows
        if len(old) > most:
            old = sorted(sorted(old, key=self._number_of)[:most], key=lambda stored: stored.id)
        fresh = [s for s in rows if s.id > last]
        if taught and not self._task.stays_right:
            fresh = self._later_than(set(taught), fresh, None if champion is None else champion.version)
        fresh = fresh[-most:]
        return HoldoutRows(
            fresh=tuple(s.example for s in fresh),
            old=tuple(s.example for s in old),
            ids=tuple(s.id for s in (*old, *fresh)),
        )

    def learnt_by(self, version: int) -> tuple[int, ...]:
        """The ids of the rows that a version has learnt and that are still there."""
        new = {s.id for s in self._ledger.examples(self._model, split=Split.TRAIN, not_learnt_by=version)}
        return tuple(s.id for s in self._all_train() if s.id not in new)

    def remember(self, rows: TrainingRows) -> int:
        """Offer what was learnt to the replay buffer, save it, and return how many rows it holds.

        The buffer knows a text by its hash, so that offering the same rows again after a crash changes nothing. A row
        that was a request comes with the doubt of the version that answered it.
        """
        buffer = open_buffer(self._ledger, self._workspace, self._model)
        sure = self._confidences([s.example.prediction_id for s in rows.fresh if s.example.prediction_id is not None])
        for stored in rows.fresh:
            known = sure.get(stored.example.prediction_id or "")
            doubt = None if known is None else min(1.0, max(0.0, 1.0 - known))
            buffer.offer(stored.example, uncertainty=doubt)
        self._ledger.save_buffer(self._model, buffer.state())
        return len(buffer.rows())

    def _of_classes(
        self, candidates: Sequence[StoredExample], champion: VersionRow | None
    ) -> tuple[StoredExample, ...]:
        """The rows whose class is known or has rows enough, and those of no class."""
        classes = [self._task.class_of(stored.example) for stored in candidates]
        counts = Counter(name for name in classes if name is not None)
        if champion is None and counts:  # a class's rows count as the file has them, before some were held out
            counts.update(self._ledger.label_counts(self._model, Split.HOLDOUT))
        known = set() if champion is None else set(champion.labels)
        known |= {row.label for row in self._ledger.descriptions(self._model)}
        enough = self._learning.min_class_rows
        pairs = zip(candidates, classes, strict=True)
        return tuple(s for s, name in pairs if name is None or name in known or counts[name] >= enough)

    def _before_the_newest(self, fresh: tuple[StoredExample, ...]) -> tuple[StoredExample, ...]:
        """The rows without the newest share of them, in the order of the ledger."""
        left = sorted(fresh, key=_age)[: len(fresh) - int(len(fresh) * self._learning.holdout_share)]
        kept = {stored.id for stored in left}
        return tuple(stored for stored in fresh if stored.id in kept)

    def _later_than(
        self, taught: set[int], held_out: Sequence[StoredExample], champion: int | None
    ) -> list[StoredExample]:
        """The rows of both uses, oldest first, that neither knows and that are later than all that was taught."""
        train = self._ledger.examples(self._model, split=Split.TRAIN, not_learnt_by=champion)
        last = max((_age(stored) for stored in train if stored.id in taught), default=None)
        rows = [*held_out, *(stored for stored in train if stored.id not in taught)]
        return sorted((stored for stored in rows if last is None or _age(stored) > last), key=_age)

    def _confidences(self, prediction_ids: Sequence[str]) -> dict[str, float]:
        """How sure the answers were, where the task's log keeps that."""
        if "confidence" not in self._task.log_columns:
            return {}
        log = traffic_of(self._workspace, self._model)
        table = log.lookup(prediction_ids, columns=["prediction_id", "confidence"])
        return dict(zip(table["prediction_id"].to_pylist(), table["confidence"].to_pylist(), strict=True))

    def _parent(self, champion: VersionRow | None, *, afresh: bool | None = None) -> int | None:
        """The version that a training goes on from."""
        if afresh is None:
            start = StartingPoint.of(self._ledger, self._workspace, self._model, champion)
            afresh = start.afresh or champion is None or self._outgrown(champion, start.encoder)
        return None if afresh or champion is None else champion.version

    def _outgrown(self, champion: VersionRow, encoder: str) -> bool:
        """Whether another learner is due than the champion's, which could go on from its sums; see `outgrown`.

        With noise every stored row is learnt where sums do not go on: one row more changes which ones a buffer holds.
        """
        bundle = self._workspace.bundle(self._model, champion.version)
        if not is_finished(bundle):
            return False

        def rows() -> int:  # as sums count them: of classes with rows enough, and once
            learnable = self._of_classes(self._all_train(), champion)
            return len(learner_of_task(self._task.name).keys(stored.example for stored in learnable))

        told = self._workspace.model(self._model).privacy
        private = None if told.epsilon is None else told.by
        card = read_card(bundle)
        if private is not None and not self._goes_on(card, encoder):
            return True
        return outgrown(card, self._learning.learner, self._learning.params, rows=rows, private=private)

    def _goes_on(self, card: ModelCard, encoder: str) -> bool:
        """Whether texts are embedded as when the card's version learnt."""
        if card.encoder != encoder or card.max_length == self._learning.max_length:
            return card.encoder == encoder
        return card.max_length == usable_length(resolve_encoder(encoder), self._learning.max_length)

    def _number_of(self, stored: StoredExample) -> int:
        """As if drawn, and the same whatever other rows there are."""
        return number_of(self._task.identity(stored.example.input), salt=str(self._workspace.settings.seed))

    def _all_train(self) -> tuple[StoredExample, ...]:
        return self._ledger.examples(self._model, split=Split.TRAIN)


def _age(stored: StoredExample) -> tuple[datetime, int]:
    """When a row became known; rows of one moment are as old as the ledger has them."""
    return stored.example.at, stored.id
