"""Versions as engines: which there are, whether one still answers as promised, and one compiled anew into another."""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import perennial.continual.errors
from perennial.continual.errors import ConfigurationError, DataError, ExportFailed, NotFound, PerennialError
from perennial.continual.jobs.process import JobResult, run_job
from perennial.continual.records import Split
from perennial.exporters.build import check_available, choose_engine
from perennial.exporters.bundle import EngineKind, Manifest, Precision, read_manifest, verify_bundle
from perennial.exporters.texts import spread
from perennial.ops.ledger import VersionRow, VersionState
from perennial.ops.parts import Parts
from perennial.ops.store.workspace import write_atomically

__all__ = ["EngineExport", "HeldOut", "engine_facts", "export_version", "held_out", "plan_export"]

Progress = Callable[[dict[str, Any]], None]
_CALIBRATION_ROWS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Texts and labels that no version was trained on."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineExport:
    """What an export of an existing version would do, or did; `made` is None until it is done."""

    model: str
    source: int
    engine: EngineKind
    precision: Precision
    rows: int  # held-out texts that the parity gate compares
    made: int | None = None


def engine_facts(parts: Parts, model: str) -> list[dict[str, Any]]:
    """Each bundle on disk: its engine, precision, megabytes and the parity figures it was accepted with."""
    parts.workspace.model(model)
    facts = []
    for version in parts.repository.versions(parts.workspace.engine_model(model)):
        manifest = read_manifest(parts.workspace.bundle(model, version))
        facts.append({"version": version, **_facts(manifest)})
    return facts


def held_out(parts: Parts, model: str) -> HeldOut:
    """The model's held-out rows, at most as many as its parity gate compares.

    Raises:
        DataError: there are none.
    """
    rows = parts.ledger.examples(model, split=Split.HOLDOUT)
    if not rows:
        raise DataError(f"model {model} has no held-out rows, so no engine can be proved; import labelled rows first")
    texts, labels = spread(
        [row.example.text for row in rows],
        [row.example.label for row in rows],
        parts.workspace.model(model).engine.parity_rows,
    )
    return HeldOut(texts=tuple(texts), labels=tuple(labels or ()))


def plan_export(parts: Parts, model: str, version: int, engine: str, precision: str) -> EngineExport:
    """What `export_version` would do; nothing is changed.

    Raises:
        NotFound: there is no such version on disk.
        ConfigurationError: the version is of that engine and precision already, or the engine has no such precision.
        DependencyUnreachable: the engine needs a package or a GPU that is not here.
        BundleRejected: the version's files do not match its manifest.
    """
    parts.workspace.model(model)
    bundle = parts.workspace.bundle(model, version)
    if not bundle.is_dir():
        on_disk = list(parts.repository.versions(parts.workspace.engine_model(model)))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {on_disk}")
    kind, wanted = choose_engine(engine, precision)
    check_available(kind, wanted)
    manifest = verify_bundle(bundle)
    if (manifest.engine, manifest.precision) == (kind, wanted):
        raise ConfigurationError(
            f"version {version} is {kind.value} {wanted.value} already; name another engine or precision"
        )
    rows = len(held_out(parts, model).texts)
    return EngineExport(model=model, source=version, engine=kind, precision=wanted, rows=rows)


def export_version(
    parts: Parts, plan: EngineExport, *, actor: str, on_progress: Progress = lambda _: None
) -> EngineExport:
    """Compile the version's model into the planned engine, prove it, and publish it as a new version.

    The new version is not loaded: `perennial model promote` does that. When the gate refuses the engine nothing is
    published, and the number stays unused.

    Raises:
        ParityFailed: the engine does not answer like the model.
        DependencyUnreachable: a package or device is missing after all.
        ExportFailed: the process ended without a bundle.
    """
    model, workspace = plan.model, parts.workspace
    source = parts.ledger.version(model, plan.source)
    number = parts.ledger.next_version(model)
    staged = parts.repository.staging / f"{workspace.engine_model(model)}-{number}"
    _run_export(parts, plan, source, number, staged, on_progress)
    manifest = verify_bundle(staged)
    label = f"{plan.engine.value} {plan.precision.value}"
    row = VersionRow(
        model=model,
        version=number,
        state=VersionState.EXPORTED,
        parent=plan.source,
        learner=source.learner,
        encoder_fingerprint=manifest.encoder_fingerprint,
        labels=source.labels,
        metrics={**source.metrics, "parity": dict(manifest.parity), "engine": label},
        lineage={**source.lineage, "reason": f"version {plan.source} as {label}"},
    )
    unlearnt = {stored.id for stored in parts.ledger.examples(model, split=Split.TRAIN, not_learnt_by=plan.source)}
    learnt = [s.id for s in parts.ledger.examples(model, split=Split.TRAIN) if s.id not in unlearnt]
    with parts.ledger.transaction():
        parts.ledger.add_version(row)
        parts.ledger.mark_learnt(model, learnt, number)
        parts.ledger.audit(actor, "engine.exported", model, {"version": number, "of": plan.source, "engine": label})
    parts.repository.publish(staged, workspace.engine_model(model), number)
    parts.ledger.set_version_state(model, number, VersionState.PUBLISHED)
    return EngineExport(**{name: getattr(plan, name) for name in plan.__slots__ if name != "made"}, made=number)


def _facts(manifest: Manifest) -> dict[str, Any]:
    parity = manifest.parity
    return {
        "engine": manifest.engine.value,
        "precision": manifest.precision.value,
        "classes": manifest.classes,
        "megabytes": sum(record.size_bytes for record in manifest.files.values()) / 2**20,
        "agreement": parity.get("agreement"),
        "max_abs_logit": parity.get("max_abs_logit"),
        "accuracy": parity.get("accuracy"),
        "parent": manifest.lineage.parent_version,
        "created_at": manifest.created_at,
    }


def _run_export(
    parts: Parts, plan: EngineExport, source: VersionRow, number: int, staged: Path, on_progress: Progress
) -> None:
    settings = parts.workspace.model(plan.model)
    folder = parts.workspace.run(plan.model, number)
    proof = held_out(parts, plan.model)
    training = [row.example.text for row in parts.ledger.examples(plan.model, split=Split.TRAIN)]
    _write_texts(folder / "heldout.json", proof.texts, labels=list(proof.labels))
    _write_texts(folder / "calibration.json", spread(training, None, _CALIBRATION_ROWS)[0] or list(proof.texts))
    spec = {
        "trained_dir": str(parts.workspace.bundle(plan.model, plan.source)),
        "out_dir": str(staged),
        "held_out": str(folder / "heldout.json"),
        "calibration": str(folder / "calibration.json"),
        "model": plan.model,
        "version": number,
        "engine": plan.engine.value,
        "precision": plan.precision.value,
        "lineage": {
            "parent_version": plan.source,
            "learner": source.learner,
            "rows": int(source.lineage.get("rows", 0)),
            "replay_rows": int(source.lineage.get("replay_rows", 0)),
        },
        "threads": settings.learning.threads,
        "parity_rows": settings.engine.parity_rows,
        "limits_by_precision": settings.engine.limits,
        "result": str(folder / "export.result.json"),
    }
    write_atomically(folder / "export.json", json.dumps(spec, indent=1))
    ended = run_job(
        "perennial.exporters.job",
        [str(folder / "export.json")],
        log=folder / "export.log",
        timeout_s=settings.engine.timeout_s,
        niceness=0,
        cancel=threading.Event(),
        on_progress=on_progress,
    )
    if ended.exit_code != 0 or not (staged / "manifest.json").is_file():
        raise _error(ended, folder, f"export of version {plan.source} as {plan.engine.value} {plan.precision.value}")


def _write_texts(path: Path, texts: Sequence[str], **more: Any) -> None:
    write_atomically(path, json.dumps({"texts": list(texts), **more}, ensure_ascii=False))


def _error(ended: JobResult, folder: Path, what: str) -> PerennialError:
    """The error that ended the process, as it was raised there."""
    try:
        told: Mapping[str, str] = json.loads((folder / "export.result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}
    kind = getattr(perennial.continual.errors, told.get("error", ""), None)
    if isinstance(kind, type) and issubclass(kind, PerennialError):
        return kind(told["message"])
    if ended.timed_out:
        return ExportFailed(f"{what} took longer than its limit; raise engine.timeout_s (log: {folder}/export.log)")
    last = ended.tail.splitlines()[-1] if ended.tail else "nothing on stderr"
    return ExportFailed(f"{what} ended with exit code {ended.exit_code}: {last} (log: {folder}/export.log)")
