"""A person's rows leave: ledger, traffic, buffer and caches at once, the champion's sums exactly, tuned models by name.

The order survives a kill at any point, and a second call finishes the work: first a note of what must be taken out of
the head is written, then rows are deleted, then the head is corrected, and the note goes last.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from continual.errors import ConfigurationError, DataError, Refused
from continual.preparation import row_hash
from continual.records import Example, Origin
from exporters.bundle import read_manifest
from ops.correction import Correction
from ops.ledger import ErasureReceipt, VersionRow
from ops.replay_buffer import open_buffer
from ops.tainted import VersionRemoval, taint, tainted_encoders
from ops.traffic import TrafficLog
from ops.wiring import Parts
from ops.workspace import write_atomically

__all__ = ["Erasure", "Plan", "erase", "plan_erasure"]

logger = logging.getLogger(__name__)

Progress = Callable[[dict[str, Any]], None]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was done. `corrected` is the version that took the champion's place, None when nothing had to be."""

    traffic_rows: int
    feedback: int
    examples: int
    buffer_rows: int
    rows_taken_back: int
    corrected: int | None
    removed: tuple[int, ...]
    tuned: tuple[int, ...]
    retraining: int | None  # the id of the command that asks for it; None when the champion's encoder is clean


def plan_erasure(parts: Parts, model: str, key: str) -> Plan:
    """What `erase` would find and do; changes nothing."""
    _check(key)
    ids = _answers(parts, model, key)
    rows, receipt = parts.ledger.rows_of_key(model, key, prediction_ids=ids)
    hashes = {row_hash(row.text) for row in (*rows, *_noted(parts, model, key))}
    holders = _holders(parts, model, hashes, receipt.versions)
    return Plan(
        traffic_rows=len(ids),
        feedback=receipt.feedback,
        examples=receipt.examples,
        buffer_rows=receipt.buffer_rows,
        learnt_by=receipt.versions,
        in_sums=holders.in_sums,
        tuned=holders.tuned,
    )


def erase(parts: Parts, model: str, key: str, *, actor: str, on_progress: Progress = lambda _: None) -> Erasure:
    """Remove everything that carries the key, correct the champion's head exactly, and name what was tuned on it.

    Repeating it is harmless; after a kill it finishes what was begun. The corrected head is a version of its own, with
    the same engine, proved by parity alone: it must not be refused for being no better.

    Raises:
        ConfigurationError: the key is empty.
        Refused: a cycle is under way, whose challenger may have learnt the rows.
        TrainingFailed, ParityFailed, ExportFailed: the head could not be corrected; the rows are gone all the same, and
            the next call tries again.
        DependencyUnreachable: Triton answers no more, or a traffic stream stays locked; call again.
    """
    _check(key)
    if (cycle := parts.ledger.active_cycle(model)) is not None:
        raise Refused(
            f"model {model} has cycle {cycle.id} under way ({cycle.state}), whose challenger may have learnt this "
            f"person's rows; wait for its end or abort it (POST /v1/models/{model}/commands/abort), then erase again"
        )
    on_progress({"stage": "looking for rows"})
    ids = _answers(parts, model, key)
    rows, foretold = parts.ledger.rows_of_key(model, key, prediction_ids=ids)
    doomed = _note(parts, model, key, rows, foretold.versions)
    on_progress({"stage": "deleting rows"})
    traffic_rows = TrafficLog(parts.workspace.traffic(model)).erase(key)
    receipt = _erase_rows(parts, model, key, ids, actor)
    holders = _holders(parts, model, {row_hash(row.text) for row in doomed.rows}, doomed.versions)
    taint(parts.ledger, model, holders.encoders)
    correction = Correction(parts, model, doomed.rows, on_progress)
    route = parts.ledger.route(model)
    corrected = taken = None
    if route is not None and route.champion in holders.in_sums:
        corrected, taken = correction.run(route)
    removed = _remove(parts, model, tuple(v for v in holders.in_sums if v != corrected), actor)
    retraining = _ask_for_retraining(parts, model, actor)
    on_progress({"stage": "cleaning up"})
    _forget_texts(parts, model, [row.text for row in doomed.rows])
    doomed.path.unlink(missing_ok=True)
    told = Erasure(
        traffic_rows=traffic_rows,
        feedback=receipt.feedback,
        examples=receipt.examples,
        buffer_rows=receipt.buffer_rows,
        rows_taken_back=taken or 0,
        corrected=corrected,
        removed=removed,
        tuned=holders.tuned,
        retraining=retraining,
    )
    detail = {"key_sha256": _digest(key), "corrected": corrected, "removed": list(removed), "tuned": list(told.tuned)}
    parts.ledger.audit(actor, "erase.finished", model, detail)
    logger.info("erasure.finished", extra={"model": model, **asdict(told)})
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holders:
    in_sums: tuple[int, ...]
    tuned: tuple[int, ...]
    encoders: frozenset[str]  # fingerprints of the tuned ones


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    path: Path
    rows: tuple[Example, ...]
    versions: tuple[int, ...]


def _check(key: str) -> None:
    if not key.strip():
        raise ConfigurationError(f"key is {key!r}; give the caller's key as it was sent with requests and labels")


def _answers(parts: Parts, model: str, key: str) -> tuple[str, ...]:
    """Prediction ids of the requests that were logged with the key."""
    import pyarrow.compute as pc

    table = TrafficLog(parts.workspace.traffic(model)).read(columns=["prediction_id", "key"])
    return tuple(table.filter(pc.equal(table["key"], key))["prediction_id"].to_pylist())


def _note(parts: Parts, model: str, key: str, rows: tuple[Example, ...], versions: tuple[int, ...]) -> _Note:
    """Write down what must leave the head, joined with what an unfinished erasure wrote down before."""
    path = _note_path(parts, model, key)
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": [], "versions": []}
    joined = {row.text: row for row in (*_rows(before), *rows)}
    known = sorted({*before["versions"], *versions})
    told = {"rows": [[r.text, r.label, r.at.isoformat()] for r in joined.values()], "versions": known}
    write_atomically(path, json.dumps(told, ensure_ascii=False))
    path.chmod(0o600)
    return _Note(path=path, rows=tuple(joined.values()), versions=tuple(known))


def _noted(parts: Parts, model: str, key: str) -> tuple[Example, ...]:
    path = _note_path(parts, model, key)
    return _rows(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else ()


def _rows(told: dict[str, Any]) -> tuple[Example, ...]:
    return tuple(
        Example(text=text, label=label, at=datetime.fromisoformat(at), origin=Origin.SEED)
        for text, label, at in told["rows"]
    )


def _note_path(parts: Parts, model: str, key: str) -> Path:
    return parts.workspace.state / "erasure" / model / f"{_digest(key)[:32]}.json"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _erase_rows(parts: Parts, model: str, key: str, ids: tuple[str, ...], actor: str) -> ErasureReceipt:
    """Buffer first, so that its counters forget the rows too; then everything in the ledger."""
    held = 0
    if parts.ledger.load_buffer(model) is not None:
        buffer = open_buffer(parts.ledger, parts.workspace, model)
        held = buffer.erase(key)
        parts.ledger.save_buffer(model, buffer.state())
    receipt = parts.ledger.erase_key(model, key, prediction_ids=ids, actor=actor)
    return replace(receipt, buffer_rows=receipt.buffer_rows + held)


def _holders(parts: Parts, model: str, hashes: set[int], learnt_by: tuple[int, ...]) -> _Holders:
    """Versions on disk that hold the rows: in their sums, or in an encoder that a version was tuned to.

    A head that was learnt later on a tuned encoder is named with it: the encoder is the same.
    """
    from continual.learning.kernel_lda import load_keys
    from continual.learning.trained import STATISTICS_FILE

    engine, in_sums = parts.workspace.engine_model(model), []
    on_disk = parts.repository.versions(engine)
    for version in on_disk:
        statistics = parts.workspace.bundle(model, version) / STATISTICS_FILE
        if statistics.is_file() and hashes & load_keys(statistics):
            in_sums.append(version)
    rows = parts.ledger.versions(model)
    encoders = {row.encoder_fingerprint for row in rows if row.version in learnt_by and _was_tuned(parts, row)}
    known = frozenset(name for name in encoders if name is not None) - {_base_encoder(parts, model)}
    tuned = tuple(row.version for row in rows if row.version in on_disk and row.encoder_fingerprint in known)
    return _Holders(in_sums=tuple(in_sums), tuned=tuned, encoders=known)


def _was_tuned(parts: Parts, row: VersionRow) -> bool:
    """Whether a version's own training changed the encoder; its card says so, and without one the ledger."""
    from continual.learning.trained import read_card

    try:
        return read_card(parts.workspace.bundle(row.model, row.version)).learner != "kernel_lda"
    except DataError:  # made by another tool, or off the disk: the ledger's word is all there is
        return row.learner != "kernel_lda"


def _base_encoder(parts: Parts, model: str) -> str:
    from continual.learning.encoder import fingerprint, resolve_encoder

    return fingerprint(resolve_encoder(parts.workspace.model(model).learning.encoder))


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
    route = parts.ledger.route(model)
    if route is None:
        return None
    champion = parts.ledger.version(model, route.champion)
    if champion.encoder_fingerprint not in tainted_encoders(parts.ledger, model):
        return None
    waiting = [row.id for row in parts.ledger.commands(model) if row.kind == "retrain" and row.taken_at is None]
    return waiting[0] if waiting else parts.ledger.request_command(model, "retrain", {"reason": "erasure"}, actor)


def _forget_texts(parts: Parts, model: str, texts: list[str]) -> None:
    """Embeddings by text, and the work folders of trainings and exports, which hold rows as files."""
    from continual.learning.embedding_cache import EmbeddingCache

    if not texts:
        return
    for encoder, max_length, dimension in _caches(parts, model):
        folder = parts.workspace.state / "embeddings"
        EmbeddingCache(folder, encoder=encoder, max_length=max_length, dimension=dimension).erase(texts)
    shutil.rmtree(parts.workspace.state / "runs" / model, ignore_errors=True)


def _caches(parts: Parts, model: str) -> set[tuple[str, int, int]]:
    """Encoder, longest text and embedding size of every cache that this model's versions may have filled."""
    from continual.learning.encoder import fingerprint, hidden_size, resolve_encoder

    learning = parts.workspace.model(model).learning
    folder = resolve_encoder(learning.encoder)
    found = {(fingerprint(folder), learning.max_length, hidden_size(folder))}
    for version in parts.repository.versions(parts.workspace.engine_model(model)):
        manifest = read_manifest(parts.workspace.bundle(model, version))
        found.add((manifest.encoder_fingerprint, manifest.max_length, manifest.dimension))
    return found
