"""A version made smaller: in steps, each proved and timed, and the fastest within the user's bound is published."""

import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perennial.continual.errors import (
    ConfigurationError,
    DataError,
    NotFound,
    ParityFailed,
    PerennialError,
    Refused,
    TrainingFailed,
)
from perennial.continual.intervals import Interval, bonett_price
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import KILLED_RETRIES, Progress, run_job
from perennial.continual.learning.card import PRIVACY, read_card
from perennial.continual.learning.compression import CompressionSpec, Step, StepMade, layers_and_width, usual_steps
from perennial.continual.learning.encoder import resolve_encoder
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.network_head import NETWORK_HEADS
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.trained import KERNEL_HEADS
from perennial.continual.records import Split
from perennial.continual.tasks import reads_words, task_named
from perennial.exporters.build import check_available, engines_to_try
from perennial.exporters.bundle import Manifest, read_manifest, verify_bundle
from perennial.exporters.timing import BESIDE, MEASURED, NEW, times_faster
from perennial.ops.commands.engines import (
    EngineExport,
    export_errors,
    export_order,
    note_export,
    publish_export,
)
from perennial.ops.ledger import VersionState
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.probing import answers_of
from perennial.ops.making.rows import ModelRows
from perennial.ops.making.smaller import Compression, SmallerModel, keep_compression
from perennial.ops.parts import Parts
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.store.tainted import tainted_encoders

__all__ = ["CompressionPlan", "compress_version", "plan_compression"]

_AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionPlan:
    """What a compression would do."""

    model: str
    source: int
    engine: str
    precision: str
    steps: tuple[Step, ...]
    most_lost_points: float
    training_rows: int
    held_out_rows: int


def plan_compression(
    parts: Parts, model: str, version: int, engine: str, precision: str, *, most_lost_points: float
) -> CompressionPlan:
    """What `compress_version` would do; nothing is changed.

    Raises:
        NotFound: there is no such version on disk.
        ConfigurationError: it is no classifier of texts that was trained here, or the engine is none of this machine.
        DataError: there are no rows to teach or to judge by.
        Refused: its encoder was tuned on rows that were erased, or it was learnt with noise.
    """
    settings, bundle = parts.workspace.model(model), parts.workspace.bundle(model, version)
    if not bundle.is_dir():
        on_disk = list(parts.repository.versions(parts.workspace.engine_model(model)))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {on_disk}")
    if not reads_words(settings.task):
        raise ConfigurationError(f"{model} is of task {settings.task}; only classifiers of texts are made smaller")
    card = read_card(bundle)
    if card.head not in KERNEL_HEADS | NETWORK_HEADS:
        raise ConfigurationError(
            f"version {version} of {model} has a {card.head!r} head, which was trained elsewhere; make it smaller there"
        )
    if PRIVACY in card.settings:
        raise Refused(
            f"version {version} of {model} was learnt with noise, and making it smaller learns from rows without; take "
            "a smaller encoder: learning.encoder"
        )
    named = "onnxruntime" if engine == "auto" else engine
    kind, form = engines_to_try(named, "int8" if precision == "auto" else precision)[0]
    check_available(kind, form)
    layers, width = layers_and_width(resolve_encoder(card.encoder_source(bundle)))
    if layers < 2:
        raise ConfigurationError(f"the encoder of version {version} tells of {layers} layers; there is nothing to cut")
    _check_untainted(parts, model, version)
    train = len(ModelRows(parts.ledger, parts.workspace, model).learnt_by(version))
    held = parts.ledger.example_count(model, Split.HOLDOUT)
    if not train or not held:
        raise DataError(
            f"of the rows that version {version} of {model} has learnt {train} are left, and {held} are held out; a "
            "smaller one needs both"
        )
    return CompressionPlan(
        model=model,
        source=version,
        engine=kind.value,
        precision=form.value,
        steps=usual_steps(layers, width),
        most_lost_points=most_lost_points,
        training_rows=train,
        held_out_rows=held,
    )


def compress_version(
    parts: Parts,
    plan: CompressionPlan,
    *,
    actor: str,
    on_progress: Progress = lambda _: None,
    cancel: threading.Event | None = None,
) -> Compression:
    """Make smaller models of a version, prove and time each, and publish the fastest that keeps the bound.

    It must pass the ordinary gate beside its source, whose rules on gain and forgetting allow the bound; the next one
    is tried after one that does not. It is not loaded; promote it. Its head is linear, without sums: the next training
    begins from rows. Students learn what the source has learnt and no other row, so that an erasure finds them with it.

    Raises:
        TrainingFailed: the job ended without models.
        Refused: an erasure concerns the source.
    """
    return _Compressing(parts, plan, actor, on_progress, cancel).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """A model of the table with the number under which its bundle lies."""

    number: int
    export: EngineExport
    manifest: Manifest
    shown: SmallerModel


class _Compressing:
    """One compression."""

    def __init__(
        self, parts: Parts, plan: CompressionPlan, actor: str, progress: Progress, cancel: threading.Event | None
    ) -> None:
        self.parts, self.plan, self.actor, self.progress = parts, plan, actor, progress
        self.maker = ChallengerMaker(parts.ledger, parts.workspace, plan.model)
        self.maker.cancel = cancel or self.maker.cancel
        rows = [stored.example for stored in parts.ledger.examples(plan.model, split=Split.HOLDOUT)]
        self._texts, self._labels = [row.text for row in rows], [row.label for row in rows]

    def run(self) -> Compression:
        number = self.parts.ledger.next_version(self.plan.model)
        folder = self.maker.folder(number)
        points, tried = list[_Point](), [self._as_it_is()]
        best: _Point | None = None
        try:
            for step, trained in self._models(folder):
                found = self._point(step, trained)
                tried.append(found.shown if isinstance(found, _Point) else found)
                points += [found] if isinstance(found, _Point) else []
            best = self._published(points, tried)
        finally:
            for point in points:
                if point is not best:
                    self.maker.discard(point.number)
            shutil.rmtree(folder, ignore_errors=True)
        made = Compression(
            model=self.plan.model,
            source=self.plan.source,
            most_lost_points=self.plan.most_lost_points,
            points=tuple(tried),
            chosen=None if best is None else best.shown.step,
            version=None if best is None else best.number,
        )
        keep_compression(self.parts.workspace, made)
        return made

    def _models(self, folder: Path) -> Sequence[tuple[str, Path]]:
        """The source's own model, and those that the job makes of it."""
        source = self.parts.workspace.bundle(self.plan.model, self.plan.source)
        task = task_named(self.parts.workspace.model(self.plan.model).task)
        learnt = self.maker.rows.learnt_by(self.plan.source)
        there = self.parts.ledger.examples_of(self.plan.model, learnt)
        write_rows(folder / "examples.jsonl", [there[row].example for row in learnt if row in there], task)
        learning = self.parts.workspace.model(self.plan.model).learning
        spec = CompressionSpec(
            source=source.absolute(),
            rows=(folder / "examples.jsonl").absolute(),
            out=(folder / "compressed").absolute(),
            steps=self.plan.steps,
            cache=self.parts.workspace.embeddings.absolute(),
            threads=learning.threads,
            seed=self.parts.workspace.settings.seed,
        )
        spec.write(folder / "compress.json")
        log = self.parts.workspace.runs(self.plan.model) / "compression.log"
        result = run_job(
            "perennial.continual.learning.compression.job",
            [str(folder / "compress.json")],
            log=log,
            timeout_s=learning.timeout_s,
            niceness=learning.niceness,
            cancel=self.maker.cancel,
            on_progress=self.progress,
            killed_retries=KILLED_RETRIES,
        )
        if result.exit_code != 0:
            what = f"compression of version {self.plan.source} of {self.plan.model}"
            raise JobErrors(what=what, failed=TrainingFailed, log=log).of(result)
        made = [StepMade(**each) for each in json.loads((spec.out / "steps.json").read_text(encoding="utf-8"))]
        return [("quantised alone", source), *((each.name, Path(each.folder)) for each in made)]

    def _point(self, step: str, trained: Path) -> _Point | SmallerModel:
        """The step's engine, proved and timed beside the source's; or why there is none."""
        plan = self.plan
        source = self.parts.workspace.bundle(plan.model, plan.source)
        before = read_manifest(source)
        if trained == source and (before.engine.value, before.precision.value) == (plan.engine, plan.precision):
            return self._row(step, before, None, "the source is one already")
        kind, form = engines_to_try(plan.engine, plan.precision)[0]
        export = EngineExport(
            model=plan.model, source=plan.source, engine=kind, precision=form, rows=len(self._texts), what=f"({step})"
        )
        number = self.parts.ledger.next_version(plan.model)
        order = export_order(self.parts, export, beside=source)
        lineage = replace(order.lineage, learner=LearnerName.FINETUNE.value) if trained != source else order.lineage
        order = replace(order, trained=trained, lineage=lineage)
        try:
            bundle = self.maker.compile(number, order, export_errors(self.maker, number, export), self.progress)
        except ParityFailed as exc:
            self.maker.discard(number)
            return SmallerModel(
                step=step, engine=f"{plan.engine} {plan.precision}", megabytes=0.0, rows_per_s={}, times_faster=None,
                accuracy=None, lost_points=None, verdict=f"refused: {exc}",
            )  # fmt: skip
        manifest = verify_bundle(bundle)
        return _Point(number=number, export=export, manifest=manifest, shown=self._row(step, manifest, bundle, ""))

    def _as_it_is(self) -> SmallerModel:
        source = self.parts.workspace.bundle(self.plan.model, self.plan.source)
        self._before = self._right(source)
        return self._row(_AS_IT_IS, read_manifest(source), source, "what the others are compared with")

    def _row(self, step: str, manifest: Manifest, bundle: Path | None, verdict: str) -> SmallerModel:
        right = self._before if bundle is None or step == _AS_IT_IS else self._right(bundle)
        speeds: dict[str, Any] = json.loads(manifest.options[MEASURED]) if MEASURED in manifest.options else {}
        timed = speeds if bundle is not None and step != _AS_IT_IS else {}
        pairs = list(zip(self._before, right, strict=True))
        lost, won = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
        apart = bonett_price(lost, won, len(pairs))
        points = Interval(mean=100 * apart.mean, low=100 * apart.low, high=100 * apart.high)
        beyond = points.mean > self.plan.most_lost_points
        return SmallerModel(
            step=step,
            engine=f"{manifest.engine.value} {manifest.precision.value}",
            megabytes=round(_megabytes(manifest), 2),
            rows_per_s=timed.get(NEW, {}),
            times_faster=round(times_faster(timed[NEW], timed[BESIDE]), 2) if timed else None,
            accuracy=sum(right) / len(right),
            lost_points=points,
            verdict=verdict or ("loses more than the bound" if beyond else "within the bound"),
        )

    def _right(self, bundle: Path) -> list[bool]:
        threads = self.parts.workspace.model(self.plan.model).learning.threads
        version = BundledVersion.load(
            bundle, threads=threads, cache_dir=self.parts.workspace.engines(self.plan.model), proved=True
        )
        given = answers_of(version)(self._texts)
        return [answer == label for answer, label in zip(given, self._labels, strict=True)]

    def _published(self, points: Sequence[_Point], tried: list[SmallerModel]) -> _Point | None:
        """The fastest within the bound that the gate accepts, now a version; the table tells why others are none."""
        for point in self._within(points):
            reasons = self._offered(point)
            if not reasons:
                return point
            told = f"refused by the gate: {'; '.join(reasons)}"
            tried[tried.index(point.shown)] = replace(point.shown, verdict=told)
        return None

    def _within(self, points: Sequence[_Point]) -> list[_Point]:
        """Those within the bound that are faster than the source, the fastest first."""
        kept = [
            point
            for point in points
            if point.shown.lost_points is not None
            and point.shown.lost_points.mean <= self.plan.most_lost_points
            and (point.shown.times_faster or 0.0) > 1.0
        ]
        return sorted(kept, key=lambda point: point.shown.times_faster or 0.0, reverse=True)

    def _offered(self, point: _Point) -> tuple[str, ...]:
        """Why the gate refuses it; where it does not, it is published."""
        model, ledger = self.plan.model, self.parts.ledger
        note_export(self.parts, point.export, point.number, point.manifest, actor=self.actor)
        try:
            _check_untainted(self.parts, model, self.plan.source)  # from now on an erasure knows of the point, too
            source = ledger.version(model, self.plan.source)
            decision = self.maker.judge_smaller(point.number, source, most_lost_points=self.plan.most_lost_points)
            if decision.accepted:
                publish_export(self.parts, self.maker, point.export, point.number, point.manifest, actor=self.actor)
                return ()
        except PerennialError:
            ledger.set_version_state(model, point.number, VersionState.FAILED)
            raise
        ledger.set_version_state(model, point.number, VersionState.REFUSED)
        return decision.reasons


def _check_untainted(parts: Parts, model: str, version: int) -> None:
    """Return where no erasure concerns the version's encoder; one that answers stays until it is trained anew."""
    if parts.ledger.version(model, version).encoder_fingerprint in tainted_encoders(parts.ledger, model):
        raise Refused(
            f"the encoder of version {version} of {model} was tuned on rows that were erased since; make smaller what "
            "its retraining brings"
        )


def _megabytes(manifest: Manifest) -> float:
    """What the engine's own files weigh, whichever way they are divided."""
    stem = Path(manifest.engine_file).stem
    return sum(record.size_bytes for name, record in manifest.files.items() if Path(name).stem == stem) / 2**20
