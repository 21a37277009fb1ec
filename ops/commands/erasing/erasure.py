"""A person's rows leave: ledger, traffic, buffer and caches at once, the champion's sums exactly, tuned models by name.

The order survives a kill at any point, and a second call finishes the work: first every writer is told to refuse the
key, then a note of what must go is written, then rows are deleted, then the head is corrected. Who called it forgets
embeddings once all models are corrected, and searches (`perennial.ops.commands.erasing.person`); the note goes last.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from perennial.continual.errors import DataError, PerennialError
from perennial.continual.jobs.process import Progress
from perennial.continual.learning.names import AUTO_ENCODER
from perennial.continual.task import AnyTask
from perennial.continual.tasks import task_named
from perennial.ops.commands.correction import Correction
from perennial.ops.commands.erasing.copies import forget_copies, forget_texts
from perennial.ops.commands.erasing.damaged import damaged_files_of
from perennial.ops.commands.erasing.note import ErasureNote
from perennial.ops.commands.erasing.search import Sought, beginnings_of
from perennial.ops.ledger import ErasureReceipt, VersionRow
from perennial.ops.making.encoder_for import named_encoder
from perennial.ops.making.retention import VersionRemoval
from perennial.ops.parts import Parts
from perennial.ops.store.remembered import forget, remembered, remembered_texts
from perennial.ops.store.replay_buffer import open_buffer
from perennial.ops.store.tainted import taint, tainted_encoders
from perennial.ops.store.traffic_of import traffic_of

__all__ = ["Erasure", "Plan", "erase", "plan_erasure"]

logger = logging.getLogger(__name__)
_RENEWED_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What carries a key now, and what has to become of the versions that learnt from it.

    `in_sums` are versions on disk whose sums hold the rows: the champion is corrected, the others are removed.
    `tuned` are versions whose encoder was trained on them: no arithmetic takes that back, only a retraining from the
    encoder of the settings does. Those that don't answer are removed.
    """

    traffic_rows: int
    feedback: int
    examples: int
    buffer_rows: int
    learnt_by: tuple[int, ...]
    in_sums: tuple[int, ...]
    tuned: tuple[int, ...]
    damaged_files: tuple[str, ...]  # in quarantine; they hold the rows, or nobody can tell
    remembered: int = 0  # beside versions and logs: what is known of a user, or headlines that came with the key

    @property
    def nothing(self) -> bool:
        """Whether nothing carries the key."""
        rows = self.traffic_rows or self.feedback or self.examples or self.buffer_rows or self.remembered
        return not (rows or self.tuned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was done in a model. `corrected` is the version that took the champion's place, None when nothing had to."""

    traffic_rows: int
    feedback: int
    examples: int
    buffer_rows: int
    rows_taken_back: int
    corrected: int | None
    removed: tuple[int, ...]
    tuned: tuple[int, ...]
    retraining: int | None  # the id of the command that asks for it; None when the champion's encoder is clean
    damaged_files: tuple[str, ...] = ()  # deleted from quarantine: they held the rows, or nobody could tell
    held: tuple[int, ...] = ()  # versions of a model that no settings name, whose sums hold the rows still
    remembered: int = 0  # beside versions and logs: what is known of a user, or headlines that came with the key

    @property
    def nothing(self) -> bool:
        """Whether nothing carried the key."""
        rows = self.traffic_rows or self.feedback or self.examples or self.buffer_rows or self.remembered
        return not (rows or self.tuned)


def plan_erasure(parts: Parts, model: str, key: str) -> Plan:
    """What `erase` would find and do; changes nothing."""
    ids = traffic_of(parts.workspace, model).rows_of(key)["prediction_id"].to_pylist()
    rows, receipt = parts.ledger.rows_of_key(model, key, prediction_ids=ids)
    note = ErasureNote.of(parts.workspace, model, key, _task_of(parts, model))
    note = note.joined(rows, versions=(), prediction_ids=(), texts=())
    holders = _holders(parts, model, _keys(note), receipt.versions)
    texts = note.every_text
    return Plan(
        remembered=remembered(parts.workspace, model, _task_of(parts, model).name, key),
        traffic_rows=len(ids),
        feedback=receipt.feedback,
        examples=receipt.examples,
        buffer_rows=receipt.buffer_rows,
        learnt_by=receipt.versions,
        in_sums=holders.in_sums,
        tuned=holders.tuned,
        damaged_files=damaged_files_of(parts.workspace.traffic(model), Sought(keys=frozenset({key}), texts=texts)),
    )


def erase(
    parts: Parts,
    model: str,
    key: str,
    *,
    actor: str,
    every_model: bool = False,
    on_progress: Progress = lambda _: None,
) -> tuple[Erasure, ErasureNote]:
    """Remove everything that carries the key, correct the champion's head exactly, and name what was tuned on it.

    The note that comes back says what to search for; its file is the caller's to remove once that is done. Repeating
    it is harmless; after a kill it finishes what was begun. The corrected head is a version of its own, with the same
    engine, proved by parity alone: it must not be refused for being no better.

    Raises:
        Refused: a cycle is under way, whose challenger may have learnt the rows and is not the champion yet, or
            another erasure.
        TrainingFailed, ParityFailed, ExportFailed: the head could not be corrected; the rows are gone all the same, and
            the next call tries again.
        DependencyUnreachable: Triton answers no more, or a traffic stream stays locked; call again.
    """
    token, at = parts.ledger.begin_erasure(model, key, every_model=every_model)
    with _kept_up(parts, model, token):
        on_progress({"stage": "looking for rows"})
        log = traffic_of(parts.workspace, model)
        logged = log.bar(key, at)
        task, ids = _task_of(parts, model), logged["prediction_id"].to_pylist()
        texts = [text for name in task.text_columns for text in logged[name].to_pylist() if text]
        rows, foretold = parts.ledger.rows_of_key(model, key, prediction_ids=ids)
        known = {*ids, *parts.ledger.predictions_of_key(model, key)}
        known |= {row.prediction_id for row in rows if row.prediction_id is not None}
        texts += sorted(remembered_texts(parts.workspace, model, task.name, key))
        before = ErasureNote.of(parts.workspace, model, key, task)
        note = before.joined(rows, versions=foretold.versions, prediction_ids=known, texts=texts)
        note.write()
        on_progress({"stage": "deleting rows"})
        log.erase(key)
        told = forget(parts.workspace, model, task.name, key)
        mine = Sought(keys=frozenset({key}), prediction_ids=note.prediction_ids, texts=note.every_text)
        dropped = log.drop_quarantined(damaged_files_of(parts.workspace.traffic(model), mine))
        held = _erase_buffer(parts, model, key)
        receipt = parts.ledger.erase_key(model, key, prediction_ids=note.prediction_ids, actor=actor, erased_at=at)
        forget_copies(parts, model, prediction_ids=note.prediction_ids, texts=note.every_text)
        receipt = replace(receipt, buffer_rows=receipt.buffer_rows + held)
        done = _correct(parts, model, note, receipt, actor, on_progress)
        parts.ledger.renew_erasure(model, token)
        on_progress({"stage": "cleaning up"})
        forget_texts(parts, model, note.every_text, rows=len(note.rows), requests=len(note.prediction_ids))
        # a late writer brought it until the ledger refused the key
        told += forget(parts.workspace, model, task.name, key)
    retraining = _ask_for_retraining(parts, model, actor)  # not before: while an erasure is under way it is refused
    erasure = replace(done, traffic_rows=len(ids), damaged_files=dropped, remembered=told, retraining=retraining)
    detail: dict[str, Any] = {
        "corrected": erasure.corrected,
        "removed": list(erasure.removed),
        "tuned": list(erasure.tuned),
    }
    detail["damaged_files"] = list(erasure.damaged_files)
    detail["key_digest"] = parts.ledger.key_digest(key)
    parts.ledger.audit(actor, "erase.finished", model, detail)
    # watch cursors and reports held ids as well
    parts.ledger.leave_no_copies(beginnings_of(mine).found_in_bytes)
    logger.info("erasure.finished", extra={"model": model, **asdict(erasure)})
    return erasure, note


def _correct(
    parts: Parts, model: str, note: ErasureNote, receipt: ErasureReceipt, actor: str, on_progress: Progress
) -> Erasure:
    """Take the rows out of the champion's sums, and remove the other versions that hold them."""
    done = Erasure(
        traffic_rows=0,
        feedback=receipt.feedback,
        examples=receipt.examples,
        buffer_rows=receipt.buffer_rows,
        rows_taken_back=0,
        corrected=None,
        removed=(),
        tuned=(),
        retraining=None,
    )
    if model not in parts.settings.models:  # it is served by nobody, and nothing can be trained for it
        held = _in_sums(parts, model, _keys(note))
        return replace(done, held=held)
    holders = _holders(parts, model, _keys(note), note.versions)
    taint(parts.ledger, model, holders.encoders)
    route = parts.ledger.route(model)
    corrected = taken = None
    if route is not None and route.champion in holders.in_sums:
        corrected, taken = Correction(parts, model, note.rows, on_progress).run(route)
    removed = _remove(parts, model, tuple(v for v in holders.in_sums if v != corrected), actor)
    return replace(
        done,
        rows_taken_back=taken or 0,
        corrected=corrected,
        removed=removed,
        tuned=holders.tuned,
    )


@contextmanager
def _kept_up(parts: Parts, model: str, token: str) -> Iterator[None]:
    """Tell the ledger each minute that the erasure still runs, until it has ended, well or not."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEWED_S):
            try:
                parts.ledger.renew_erasure(model, token)
            except PerennialError as exc:  # the last renewal, before files are removed, tells the caller
                logger.warning("erasure.not_renewed", extra={"model": model, "reason": str(exc)})

    thread = threading.Thread(target=renew, name=f"erasure-{model}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        parts.ledger.end_erasure(model, token)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holders:
    in_sums: tuple[int, ...]
    tuned: tuple[int, ...]
    encoders: frozenset[str]  # fingerprints of the tuned ones


def _task_of(parts: Parts, model: str) -> AnyTask:
    """A model's task, as the ledger has it; the settings name no model that was removed."""
    kept = {row.name: row.settings for row in parts.ledger.models()}
    return task_named(kept.get(model, {}).get("task") or parts.settings.task_of(model))


def _keys(note: ErasureNote) -> frozenset[int]:
    """The numbers by which sums know what the rows brought."""
    from perennial.continual.learning.learners import learner_of_task

    return learner_of_task(note.task.name).keys(note.rows)


def _erase_buffer(parts: Parts, model: str, key: str) -> int:
    """The buffer first, so that its counters forget the rows too."""
    if model not in parts.settings.models or parts.ledger.load_buffer(model) is None:
        return 0
    buffer = open_buffer(parts.ledger, parts.workspace, model)
    held = buffer.erase(key)
    parts.ledger.save_buffer(model, buffer.state())
    return held


def _holders(parts: Parts, model: str, hashes: frozenset[int], learnt_by: tuple[int, ...]) -> _Holders:
    """Versions on disk that hold the rows: in their sums, or in an encoder that a version was tuned to.

    A head that was learnt later on a tuned encoder is named with it: the encoder is the same.
    """
    on_disk, in_sums = parts.repository.versions(parts.workspace.engine_model(model)), _in_sums(parts, model, hashes)
    if model not in parts.settings.models:
        return _Holders(in_sums=in_sums, tuned=(), encoders=frozenset())
    rows = parts.ledger.versions(model)
    encoders = {row.encoder_fingerprint for row in rows if row.version in learnt_by and _was_tuned(parts, row)}
    known = frozenset(name for name in encoders if name)
    known = known - _base_encoders(parts, model, rows) if known else known
    tuned = tuple(row.version for row in rows if row.version in on_disk and row.encoder_fingerprint in known)
    return _Holders(in_sums=in_sums, tuned=tuned, encoders=known)


def _in_sums(parts: Parts, model: str, hashes: frozenset[int]) -> tuple[int, ...]:
    """Versions on disk whose sums hold the rows, or cannot be read, so that nobody can tell."""
    from perennial.continual.learning.learners import sums_hold

    held = []
    for version in parts.repository.versions(parts.workspace.engine_model(model)) if hashes else ():
        bundle = parts.workspace.bundle(model, version)
        try:
            holds = sums_hold(bundle, hashes)
        except DataError as exc:
            logger.warning("erasure.sums_not_read", extra={"path": str(bundle), "reason": str(exc)})
            holds = True
        if holds:
            held.append(version)
    return tuple(held)


def _was_tuned(parts: Parts, row: VersionRow) -> bool:
    """Whether a version's own training changed the encoder; its card says so, and without one the ledger."""
    from perennial.continual.learning.card import read_card
    from perennial.continual.learning.learners import LEARNERS

    try:
        name: str | None = read_card(parts.workspace.bundle(row.model, row.version)).learner
    except DataError:  # made by another tool, or off the disk: the ledger's word is all there is
        name = row.learner
    return not any(learner.name == name and not learner.tunes_encoder for learner in LEARNERS.values())


def _base_encoders(parts: Parts, model: str, rows: Sequence[VersionRow]) -> set[str]:
    """The fingerprints of encoders before any tuning: the settings', or those that were chosen for the versions.

    One that is there no more is left out: a version that was tuned from it is named with those that may hold the rows.
    """
    from perennial.continual.learning.encoder import fingerprint, resolve_encoder

    found, seen = set[str](), {AUTO_ENCODER}
    for row in rows:
        try:
            name = named_encoder(parts.workspace, model, row)
            if name not in seen:
                seen.add(name)
                found.add(fingerprint(resolve_encoder(name)))
        except PerennialError as exc:
            facts = {"model": model, "version": row.version, "reason": str(exc)}
            logger.warning("erasure.encoder_not_read", extra=facts)
    return found


def _remove(parts: Parts, model: str, versions: tuple[int, ...], actor: str) -> tuple[int, ...]:
    """Remove versions that hold the rows and don't answer."""
    removal = VersionRemoval(
        model=model,
        ledger=parts.ledger,
        workspace=parts.workspace,
        repository=parts.repository,
        reconciler=parts.reconciler,
        live=lambda: all(control.live() for control in parts.controls),
    )
    removal.drop(versions, actor=actor, reason=f"versions {list(versions)} hold erased rows")
    return tuple(sorted({*versions, *removal.drop_tainted(actor=actor)}))


def _ask_for_retraining(parts: Parts, model: str, actor: str) -> int | None:
    """While the champion's encoder was tuned on erased rows, put a retraining into the inbox; one is enough."""
    if model not in parts.settings.models:
        return None
    route = parts.ledger.route(model)
    if route is None:
        return None
    champion = parts.ledger.version(model, route.champion)
    if champion.encoder_fingerprint not in tainted_encoders(parts.ledger, model):
        return None
    waiting = [row.id for row in parts.ledger.waiting_commands(model) if row.kind == "retrain"]
    return waiting[-1] if waiting else parts.ledger.request_command(model, "retrain", {"reason": "erasure"}, actor)
