"""Versions as engines: which there are, whether one still answers as promised, and one compiled anew into another."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from perennial.continual.errors import ConfigurationError, DataError, ExportFailed, NotFound, Refused
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import Progress
from perennial.continual.learning.card import noise_of
from perennial.continual.records import Split
from perennial.continual.task import AnyRow
from perennial.continual.tasks import task_named
from perennial.exporters.build import check_available, engines_to_try
from perennial.exporters.bundle import EngineKind, Lineage, Manifest, Precision, read_manifest, verify_bundle
from perennial.exporters.port import HeldOut
from perennial.exporters.tasks import room_of
from perennial.exporters.timing import MEASURED, NEW
from perennial.ops.ledger import VersionRow, VersionState
from perennial.ops.making.version_maker import EngineOrder, VersionMaker, engine_metrics
from perennial.ops.making.written_rows import nameless
from perennial.ops.parts import Parts
from perennial.ops.serving.tasks import serving_side

__all__ = [
    "EngineExport",
    "EngineFacts",
    "engine_facts",
    "export_errors",
    "export_order",
    "export_version",
    "held_out",
    "note_export",
    "plan_export",
    "publish_export",
]

_CALIBRATION_ROWS = 300
_RANGED = frozenset({Precision.INT8, Precision.FP8})  # scaled by what rows give


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineExport:
    """What an export of an existing version would do, or did; `made` is None until it is done."""

    model: str
    source: int
    engine: EngineKind
    precision: Precision
    rows: int  # held-out texts that the parity gate compares
    made: int | None = None
    what: str = ""  # was done to the model before, in two words; nothing where it is only compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """One bundle on disk, with the parity figures that it was accepted with.

    `rows_per_s` is what it was chosen for, by the rows of a batch; None where nothing was measured.
    """

    version: int
    engine: str
    precision: str
    classes: int | None
    megabytes: float
    agreement: float | None
    max_abs_logit: float | None
    accuracy: float | None
    parent: int | None
    created_at: str
    rows_per_s: Mapping[str, float] | None = None


def engine_facts(parts: Parts, model: str) -> list[EngineFacts]:
    """Every bundle of a model on disk."""
    parts.workspace.model(model)
    return [
        _facts(version, read_manifest(parts.workspace.bundle(model, version)))
        for version in parts.repository.versions(parts.workspace.engine_model(model))
    ]


def held_out(parts: Parts, model: str) -> HeldOut:
    """The model's held-out rows, at most as many as its parity gate compares.

    Raises:
        DataError: there are none.
    """
    rows, side = _held_out_rows(parts, model), serving_side(parts.workspace.model(model).task)
    asked = side.memory(parts.workspace.memory(model)).recalled([row.input for row in rows])
    held = HeldOut(inputs=asked, targets=[row.target for row in rows])
    return held.spread(parts.workspace.model(model).engine.parity_rows)


def _held_out_rows(parts: Parts, model: str) -> list[AnyRow]:
    rows = parts.ledger.examples(model, split=Split.HOLDOUT)
    if not rows:
        raise DataError(f"model {model} has no held-out rows, so no engine can be proved; import labelled rows first")
    return [row.example for row in rows]


def plan_export(parts: Parts, model: str, version: int, engine: str, precision: str) -> EngineExport:
    """What `export_version` would do; nothing is changed.

    Raises:
        NotFound: there is no such version on disk.
        ConfigurationError: the version is of that engine and precision already, or the engine has no such precision.
        DependencyUnreachable: the engine needs a package or a GPU that is not here.
        BundleRejected: the version's files do not match its manifest.
        Refused: it was learnt with noise, and the precision takes its ranges from rows without.
    """
    task = parts.workspace.model(model).task
    bundle = parts.workspace.bundle(model, version)
    if not bundle.is_dir():
        on_disk = list(parts.repository.versions(parts.workspace.engine_model(model)))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {on_disk}")
    kind, wanted = engines_to_try(engine, precision, among=room_of(task).engines())[0]
    check_available(kind, wanted)
    manifest = verify_bundle(bundle)
    if wanted in _RANGED and noise_of(bundle) is not None:
        raise Refused(
            f"version {version} of {model} was learnt with noise, and {wanted.value} takes its ranges from rows "
            "without; export it as fp32 or bf16"
        )
    if (manifest.engine, manifest.precision) == (kind, wanted):
        raise ConfigurationError(
            f"version {version} is {kind.value} {wanted.value} already; name another engine or precision"
        )
    rows = len(held_out(parts, model).inputs)
    return EngineExport(model=model, source=version, engine=kind, precision=wanted, rows=rows)


def export_version(
    parts: Parts, plan: EngineExport, *, actor: str, on_progress: Progress = lambda _: None
) -> EngineExport:
    """Compile the version's model into the planned engine, prove it, and publish it as a new version.

    The new version is not loaded: `perennial model promote` does that. When the gate refuses the engine nothing is
    published, and the number stays unused. One that was killed after its proof goes on with its number.

    Raises:
        ParityFailed: the engine does not answer like the model.
        Refused: an erasure concerns the version that was exported; see `publish_export`.
        DependencyUnreachable: a package or device is missing after all.
        ExportFailed: the process ended without a bundle.
    """
    model = plan.model
    maker = VersionMaker(parts.ledger, parts.workspace, model, niceness=0)
    begun = _begun(parts, model, _reason(plan))
    number = parts.ledger.next_version(model) if begun is None else begun
    errors = export_errors(maker, number, plan)
    manifest = verify_bundle(maker.compile(number, export_order(parts, plan), errors, on_progress))
    return publish_export(parts, maker, plan, number, manifest, actor=actor)


def publish_export(
    parts: Parts, maker: VersionMaker, plan: EngineExport, number: int, manifest: Manifest, *, actor: str
) -> EngineExport:
    """Note a bundle that an export left as a version, and publish it.

    Raises:
        Refused: an erasure has begun or has been meanwhile, whose rows may be in it; the bundle is deleted.
    """
    model = plan.model
    try:
        note_export(parts, plan, number, manifest, actor=actor)
    except Refused:
        maker.discard(number)
        raise
    maker.publish(number)
    parts.ledger.set_version_state(model, number, VersionState.PUBLISHED)
    return replace(plan, made=number)


def note_export(parts: Parts, plan: EngineExport, number: int, manifest: Manifest, *, actor: str) -> None:
    """Have the ledger know the bundle that an export left; a repetition changes nothing.

    Raises:
        Refused: an erasure has begun or has been meanwhile, whose rows may be in it.
    """
    model = plan.model
    _check_not_erased(parts, plan)
    source = parts.ledger.version(model, plan.source)
    if all(row.version != number for row in parts.ledger.versions(model)):
        row = VersionRow(
            model=model,
            version=number,
            state=VersionState.EXPORTED,
            parent=plan.source,
            learner=manifest.lineage.learner or source.learner,
            card={**source.card, "encoder_fingerprint": manifest.encoder_fingerprint},
            metrics={**source.metrics, **engine_metrics(manifest)},
            lineage={**source.lineage, "reason": _reason(plan)},
        )
        label = f"{plan.engine.value} {plan.precision.value}"
        with parts.ledger.transaction():
            parts.ledger.add_version(row)
            parts.ledger.mark_learnt(model, (), number, base=plan.source)
            parts.ledger.audit(actor, "engine.exported", model, {"version": number, "of": plan.source, "engine": label})
            _check_not_erased(parts, plan)  # one that begins from now on knows of the version, and removes it


def _check_not_erased(parts: Parts, plan: EngineExport) -> None:
    """Return where no erasure concerns the version that was exported; one removes all versions that hold its rows."""
    if parts.ledger.erasure_under_way(plan.model) is None and parts.workspace.bundle(plan.model, plan.source).is_dir():
        return
    raise Refused(
        f"version {plan.source} of {plan.model} is being erased from, or was removed, since its export began; nothing "
        "was published: export the version that answers now"
    )


def export_errors(maker: VersionMaker, number: int, plan: EngineExport) -> JobErrors:
    """What the end of the export's process means."""
    return JobErrors(
        what=f"export of {_reason(plan)}",
        failed=ExportFailed,
        report=maker.report(number),
        log=maker.folder(number) / "export.log",
        if_late="raise engine.timeout_s",
    )


def _reason(plan: EngineExport) -> str:
    done = f" {plan.what}" if plan.what else ""
    return f"version {plan.source}{done} as {plan.engine.value} {plan.precision.value}"


def _facts(version: int, manifest: Manifest) -> EngineFacts:
    parity = manifest.parity
    return EngineFacts(
        version=version,
        engine=manifest.engine.value,
        precision=manifest.precision.value,
        classes=manifest.part.get("classes"),
        megabytes=sum(record.size_bytes for record in manifest.files.values()) / 2**20,
        agreement=parity.get("agreement"),
        max_abs_logit=parity.get("max_abs_logit"),
        accuracy=parity.get("accuracy"),
        parent=manifest.lineage.parent_version,
        created_at=manifest.created_at,
        rows_per_s=json.loads(manifest.options[MEASURED])[NEW] if MEASURED in manifest.options else None,
    )


def _begun(parts: Parts, model: str, reason: str) -> int | None:
    """The number of such an export that was killed before it had published its bundle."""
    for row in parts.ledger.versions(model):
        if row.state is VersionState.EXPORTED and row.lineage.get("reason") == reason:
            return row.version
    return None


def export_order(parts: Parts, plan: EngineExport, *, beside: Path | None = None) -> EngineOrder:
    """The engine that a plan wants, with the rows that prove it; with `beside` it is timed beside that bundle's."""
    source = parts.ledger.version(plan.model, plan.source)
    proof, task = _held_out_rows(parts, plan.model), task_named(parts.workspace.model(plan.model).task)
    training = [row.example for row in parts.ledger.examples(plan.model, split=Split.TRAIN)]
    bundle = parts.workspace.bundle(plan.model, plan.source)
    return EngineOrder(
        trained=bundle,
        engine=plan.engine.value,
        precision=plan.precision.value,
        lineage=Lineage(
            parent_version=plan.source,
            learner=source.learner,
            rows=int(source.lineage.get("rows", 0)),
            replay_rows=int(source.lineage.get("replay_rows", 0)),
            privacy=noise_of(bundle),
        ),
        held_out=nameless(task, proof),
        calibration=nameless(task, HeldOut(inputs=training).spread(_CALIBRATION_ROWS).inputs or proof),
        beside=beside,
    )
