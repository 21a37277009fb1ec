"""A trained model becomes a verified bundle: the process that `perennial` starts, and the function inside it."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import ConfigurationError, ExportFailed, PerennialError
from perennial.continual.jobs.memory import resident_mb
from perennial.exporters.build import build_engine, check_available, engines_to_try
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import (
    EngineKind,
    Manifest,
    Precision,
    digest,
    digests_told,
    toolchain_versions,
    verify_bundle,
    write_manifest,
)
from perennial.exporters.engine import Engine
from perennial.exporters.golden import Golden
from perennial.exporters.module import fingerprint_module
from perennial.exporters.parity import ParityLimits, ParityVerdict, check_parity
from perennial.exporters.port import Answerer, HeldOut, exportable
from perennial.exporters.proved_encoder import Remembered, moved_outputs, proving_rows, stand_for
from perennial.exporters.runtime import load_engine, load_exact, open_engine
from perennial.exporters.spec import ExportPath, ExportResult, ExportSpec
from perennial.exporters.streams import at_work
from perennial.exporters.tasks import room_of
from perennial.exporters.timing import BESIDE, MEASURED, MEASURED_ON, NEW, processor_name, rows_per_s
from perennial.exporters.torch_engine import TorchEngine

if TYPE_CHECKING:
    from torch.nn import Module

    from perennial.exporters.onnx import OnnxGraph

__all__ = ["Begin", "Finish", "Opened", "export_bundle", "main", "run"]

Progress = Callable[[str, Mapping[str, Any]], None]
Finish = Callable[[bool], None]
Begin = Callable[["Opened", Path], Finish]
_CALIBRATION_ROWS = 300
_ROWS_OF_HEAD = 64  # and one of each class: a head's every weight is in every row's answer
_MOVED = 0.02  # of a unit vector's places: far above what a precision loses, far below what other weights give
_SWAPPED_HERE = frozenset({EngineKind.ONNXRUNTIME, EngineKind.OPENVINO})  # the others reuse inside their builders


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The engine of a bundle that was proved, and what opening it cost."""

    engine: Engine
    seconds: float
    megabytes: float


class _Stages:
    """Seconds by stage, and the voice that tells them."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._last = time.perf_counter()

    def done(self, stage: str, **facts: Any) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
        self._progress(stage, {"seconds": round(self.seconds[stage], 3), **facts})


def export_bundle(
    spec: ExportSpec,
    progress: Progress = lambda stage, facts: None,
    meanwhile: Begin = lambda opened, bundle: lambda accepted: None,
) -> ExportResult:
    """Build, prove and write the bundle; `out_dir` appears complete, by one rename, or not at all.

    `meanwhile` is given each engine that is opened to be proved, and the sealed bundle that it is of. What it begins
    may go on beside the proof; what it returns is told whether the engine is accepted, and comes back once nothing
    reads that folder any more, which is then sealed anew and renamed.

    Raises:
        ParityFailed: the engine does not answer like the model; nothing is left behind.
        ExportFailed: neither a swap nor a build gave an engine.
        ConfigurationError, DataError: the spec, the trained model or the held-out file is wrong.
    """
    if spec.out_dir.exists() and any(spec.out_dir.iterdir()):
        raise ConfigurationError(f"{spec.out_dir} is not empty; give a new folder, versions are never written twice")
    for left in spec.out_dir.parent.glob(f".{spec.out_dir.name}.building-*"):  # by an export that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = spec.out_dir.parent / f".{spec.out_dir.name}.building-{os.getpid()}"
    scratch = work.with_name(f"{work.name}.graph")  # what engines are built from, and no part of the bundle
    work.mkdir(parents=True)
    scratch.mkdir()
    try:
        result = _Export(spec, work, scratch, _Stages(progress), meanwhile).run()
        if spec.out_dir.exists():
            spec.out_dir.rmdir()
        work.rename(spec.out_dir)
        return result
    finally:
        for folder in (work, scratch):
            shutil.rmtree(folder, ignore_errors=True)


class _Export:
    """The steps of one export, in a folder that nobody else sees."""

    def __init__(self, spec: ExportSpec, work: Path, scratch: Path, stages: _Stages, meanwhile: Begin) -> None:
        self.spec, self.work, self.scratch, self.stages, self.meanwhile = spec, work, scratch, stages, meanwhile
        self.model = exportable(spec.task, spec.trained_dir)
        self.held_out = self.model.read(spec.held_out, spec.memory).spread(spec.parity_rows)
        self.sidecars: frozenset[str] = frozenset()  # the names of files that are the model's own
        self.module: Module | None = None
        self.graph: OnnxGraph | None = None
        self.previous = None if spec.previous_bundle is None else verify_bundle(spec.previous_bundle, reread=False)
        self.doubts: list[str] = []  # about a swapped engine that the whole proof has to settle
        self._engine_threads = spec.engine_threads or spec.threads

    def run(self) -> ExportResult:
        """Try the engines in turn: where the choice was free, one that alters the answers gives way to an exact one."""
        previous = self.previous
        before = None if previous is None else (previous.engine, previous.precision)
        tried = engines_to_try(
            self.spec.engine,
            self.spec.precision,
            before,
            among=room_of(self.spec.task).engines(),
            measured=previous is not None and previous.options.get(MEASURED_ON) == processor_name(),
        )
        for engine, precision in tried:
            check_available(engine, precision)
        self.model.sidecars(self.work)
        self.sidecars = frozenset(path.name for path in self.work.iterdir())
        reasons: list[str] = []
        for engine, precision in tried:
            self.stages.done("prepare", engine=engine.value, precision=precision.value)
            limits = self._limits(precision)
            if (swapped := self._swapped(engine, precision, limits, reasons)) is not None:
                return swapped
            built, graph = self._build(engine, precision, None)
            verdict = self._prove(built, graph, limits)
            if verdict.accepted:
                return self._finish(built, graph, verdict, ExportPath.FULL, "; ".join(reasons) or None)
            reasons.append(f"{engine.value} {precision.value}: {'; '.join(verdict.reasons)}")
            self._clear(built.file)
        verdict.require(f"{self.spec.model} version {self.spec.version} ({engine.value} {precision.value})")
        raise AssertionError("unreachable: a verdict that was not accepted raises")

    def _swapped(
        self, engine: EngineKind, precision: Precision, limits: ParityLimits, reasons: list[str]
    ) -> ExportResult | None:
        """The previous engine with the new weights, proved; None, with a reason, where there is no such engine."""
        previous = self.previous
        if previous is None:
            return None
        if (previous.engine, previous.precision) != (engine, precision):
            reasons.append("the previous bundle has another engine or precision")
            return None
        try:
            built, graph = self._reuse(previous)
            self.stages.done("weight_swap")
            verdict = self._prove(built, graph, limits, swapped=previous)
            if verdict.accepted:
                return self._finish(built, graph, verdict, ExportPath.WEIGHT_SWAP, None)
            reasons.append("; ".join([*self.doubts, *verdict.reasons]))
        except ExportFailed as exc:
            reasons.append(str(exc))
        self._clear(previous.engine_file)
        return None

    def _limits(self, precision: Precision) -> ParityLimits:
        if unknown := sorted(set(self.spec.limits_by_precision) - set(Precision)):
            raise ConfigurationError(f"parity limits for the precisions {unknown}; known are {sorted(Precision)}")
        limits = {**self.spec.limits_by_precision.get(precision.value, {}), **self.spec.limits}
        return ParityLimits.from_mapping(precision, limits)

    def _reuse(self, previous: Manifest) -> tuple[BuiltEngine, str]:
        """The previous engine with the new weights.

        Raises:
            ExportFailed: it cannot take them.
        """
        bundle = self.spec.previous_bundle
        if bundle is not None and previous.engine in _SWAPPED_HERE:
            return self.model.swap(bundle, previous, self.work), previous.graph_fingerprint
        built, graph = self._build(previous.engine, previous.precision, bundle)
        if built.options.get("path") == "build":
            raise ExportFailed(f"the {previous.engine.value} engine of {bundle} could not take the new weights")
        return built, graph

    def _clear(self, engine_file: str) -> None:
        for path in self.work.glob(f"{Path(engine_file).stem}.*"):
            if path.name not in self.sidecars:
                path.unlink()

    def _reference_module(self) -> "Module":
        if self.module is None:
            if self.spec.threads:
                import torch

                torch.set_num_threads(self.spec.threads)
            self.module = self.model.module()
            self.stages.done("load_model")
        return self.module

    def _build(self, engine: EngineKind, precision: Precision, previous: Path | None) -> tuple[BuiltEngine, str]:
        module = self._reference_module()
        if engine is EngineKind.AOTINDUCTOR:
            from perennial.exporters.aotinductor.bundled import build_aotinductor
            from perennial.exporters.aotinductor.package import device_here

            built = build_aotinductor(
                module,
                self.work,
                precision,
                previous=previous,
                device=device_here(),
                max_sequence=self.model.longest_row,
            )
            self.stages.done("build")
            return built, fingerprint_module(module)
        if self.graph is None:
            self.graph = self.model.graph(self.scratch / "portable.onnx", module)
            self.stages.done("onnx", nodes=sum(self.graph.operators.values()))
        rows: Sequence[Sequence[int]] = ()
        if precision in {Precision.INT8, Precision.FP8}:
            source_rows = (
                self.model.read(self.spec.calibration, self.spec.memory) if self.spec.calibration else self.held_out
            )
            rows = self.model.calibration(self.work, source_rows.spread(_CALIBRATION_ROWS).inputs)
        built = build_engine(engine, precision, self.graph.path, self.work, rows, previous=previous)
        self.stages.done("build")
        return built, self.graph.fingerprint

    def _prove(
        self, built: BuiltEngine, graph: str, limits: ParityLimits, swapped: Manifest | None = None
    ) -> ParityVerdict:
        """Open the engine as Triton will, from a sealed bundle, and compare it with the model.

        The model is the torch module, or its own arithmetic where a bundle with the same encoder was `swapped`.
        """
        manifest, before = self._manifest(built, graph, {}), resident_mb()
        with ThreadPoolExecutor(1, "seal") as pool:
            sealing = pool.submit(self._sealed, manifest)
            if built.engine not in _SWAPPED_HERE:
                sealing.result()  # they are opened by what lies in the folder
            began = time.perf_counter()
            engine = open_engine(self.work, manifest, threads=self._engine_threads)
            seconds = time.perf_counter() - began
            sealing.result()
        megabytes = max(0.0, resident_mb() - before)
        self.stages.done("load_engine")
        accepted, finish = False, self.meanwhile(Opened(engine=engine, seconds=seconds, megabytes=megabytes), self.work)
        try:
            verdict = self._compared(engine, limits, swapped)
            if verdict.accepted:
                self._write_golden(engine, limits.invariance * verdict.unit)
            accepted = verdict.accepted
        finally:
            finish(accepted)
        (self.work / "manifest.json").unlink()
        return verdict

    def _sealed(self, manifest: Manifest) -> None:
        """Hash what has just been written, beside the engine that is opened, and see that it is a bundle."""
        write_manifest(self.work, manifest)
        verify_bundle(self.work, reread=False)

    def _compared(self, engine: Engine, limits: ParityLimits, swapped: Manifest | None) -> ParityVerdict:
        verdict = None if swapped is None else self._proved_head(swapped, engine, limits)
        if verdict is None:
            torch = Remembered(TorchEngine(self._reference_module(), self.model.signature))
            reference, candidate = (self.model.answerer(one, self.work) for one in (torch, engine))
            verdict = check_parity(reference, candidate, self.held_out.inputs, self.held_out.targets, limits)
            if (exact := self.model.exact(self.spec.embeddings)) is not None:
                exact.learn(self.held_out.inputs, reference)
        self.stages.done("parity", accepted=verdict.accepted, agreement=verdict.agreement)
        return verdict

    def _proved_head(self, swapped: Manifest, engine: Engine, limits: ParityLimits) -> ParityVerdict | None:
        """The verdict on a new head alone; None where the encoder is another one too, or must be looked at again.

        The encoder was proved with the bundle before, and must answer as it does there.
        """
        bundle, known = self.spec.previous_bundle, Remembered(engine)
        same = swapped.encoder_fingerprint == self.model.encoder_fingerprint and swapped.engine in _SWAPPED_HERE
        if bundle is None or not same or not swapped.parity.get("accepted") or self.model.own_arithmetic(known) is None:
            return None
        limit = min(limits.invariance, _MOVED)
        if not self._repeats(bundle, known, limit):
            self.doubts.append(
                f"the encoder in the swapped engine gives other values than version {swapped.version}'s engine does on "
                f"this machine (limit {limit:.3g}) and than the trained model, so a whole engine is built"
            )
            return None
        encoder, rows = self._exact_encoder(bundle, known, swapped.precision)
        own = None if encoder is None else self.model.own_arithmetic(encoder)
        if own is None:
            return None
        reference, candidate = (self.model.answerer(one, self.work) for one in (own, known))
        return check_parity(
            reference,
            candidate,
            rows.inputs,
            rows.targets,
            limits,
            reference_name=f"head in numpy on the encoder proved with version {swapped.version}",
        )

    def _exact_encoder(self, bundle: Path, known: Engine, precision: Precision) -> tuple[Engine | None, HeldOut]:
        """What the head is asked about in full precision, and the rows on which it is proved; None where there is none.

        A steeper head may make too much of what a low precision has lost.
        """
        rows, encoder = self.held_out, known
        if precision is Precision.FP32:
            return encoder, proving_rows(rows, _ROWS_OF_HEAD)
        exact = self.model.exact(self.spec.embeddings)
        if exact is None or not stand_for(rows, exact.known(rows.inputs)):
            if (loaded := load_exact(bundle, threads=self._engine_threads, reread=False)) is None:
                return None, rows
            encoder = Remembered(loaded)
            if exact is not None:
                exact.learn(rows.inputs, self.model.answerer(encoder, self.work))
            self.stages.done("load_exact_engine")
        if exact is None:
            return encoder, rows
        rows = proving_rows(rows.at(exact.known(rows.inputs)), _ROWS_OF_HEAD)
        return exact.instead_of(encoder, self.model.answerer(encoder, self.work), rows.inputs), rows

    def _repeats(self, bundle: Path, engine: Engine, limit: float) -> bool:
        """Whether outputs that a new head leaves alone are those of the engine before.

        What that bundle knows of them may be another processor's: where it is further off, the engine is asked here.
        """
        known = Golden.read(bundle).moved(engine, limit=limit)
        if known is not None and known <= limit:
            return True
        signature = self.model.signature  # an earlier release knew nothing of them
        others = [name for name in signature.output_names if name not in signature.proved]
        before = load_engine(bundle, threads=1, reread=False)
        rows = self.model.answerer(engine, self.work).encode(self.held_out.inputs)
        moved = moved_outputs(before, engine, signature, rows, others)
        self.stages.done("compare_previous_engine", same=moved <= limit)
        return moved <= limit

    def _write_golden(self, engine: Engine, tolerance: float) -> None:
        rows = self.model.golden(self.work, seed=self.spec.version)
        Golden.of(engine, self.model.signature, rows, tolerance=tolerance).write(self.work)

    def _manifest(self, built: BuiltEngine, graph: str, parity: Mapping[str, Any]) -> Manifest:
        return Manifest(
            model=self.spec.model,
            version=self.spec.version,
            task=self.spec.task,
            signature=self.model.signature,
            engine=built.engine,
            precision=built.precision,
            engine_file=built.file,
            encoder_fingerprint=self.model.encoder_fingerprint,
            graph_fingerprint=graph,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            toolchain=toolchain_versions(*built.toolchain, "numpy", "tokenizers"),
            lineage=self.spec.lineage,
            part=self.model.part(self.work),
            parity=parity,
            options=built.options,
        )

    def _timed(self, built: BuiltEngine, graph: str, beside: Path) -> BuiltEngine:
        """The engine, with how fast it is here and how fast the other one is."""
        write_manifest(self.work, self._manifest(built, graph, {}))
        bundles = {NEW: self.work, BESIDE: beside}
        engines = {name: load_engine(each, threads=self.spec.threads, reread=False) for name, each in bundles.items()}
        answerers = {name: self.model.answerer(at_work(engine), self.work) for name, engine in engines.items()}
        (self.work / "manifest.json").unlink()
        asked = {name: partial(_answered, answerer) for name, answerer in answerers.items()}
        speeds = rows_per_s(asked, self.held_out.inputs)
        self.stages.done("time")
        told = {MEASURED: json.dumps(speeds), MEASURED_ON: processor_name()}
        return replace(built, options={**built.options, **told})

    def _finish(
        self, built: BuiltEngine, graph: str, verdict: ParityVerdict, path: ExportPath, reason: str | None
    ) -> ExportResult:
        if self.spec.beside is not None:
            built = self._timed(built, graph, self.spec.beside)
        elif self.previous is not None:
            built = _chosen_before(built, self.previous)
        write_manifest(self.work, self._manifest(built, graph, verdict.to_record()))
        sha256 = digest(self.work / "manifest.json")
        self.stages.done("seal")
        return ExportResult(
            bundle=self.spec.out_dir,
            path=path,
            fallback_reason=reason,
            engine=built.engine,
            precision=built.precision,
            seconds=dict(self.stages.seconds),
            verdict=verdict,
            manifest_sha256=sha256,
            read=digests_told(self.work),
        )


def _chosen_before(built: BuiltEngine, previous: Manifest) -> BuiltEngine:
    """The engine, with the figures that the one before it was chosen by here where it is of the same kind.

    One that was built anew would have lost them, and its next version would be built as `auto` decides at first.
    """
    same = (built.engine, built.precision) == (previous.engine, previous.precision)
    if not same or previous.options.get(MEASURED_ON) != processor_name():
        return built
    told = {name: previous.options[name] for name in (MEASURED, MEASURED_ON)}
    return replace(built, options={**built.options, **told})


def _answered(answerer: Answerer, inputs: Sequence[Any]) -> object:
    return answerer.engine.infer(answerer.encode(inputs))


def _say(stage: str, facts: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps({"stage": stage, **facts}) + "\n")
    sys.stdout.flush()


def run(spec: Path, meanwhile: Begin = lambda opened, bundle: lambda accepted: None) -> int:
    """Carry out the export of a spec's file, write its result or error, and return the exit code."""
    record = json.loads(spec.read_text(encoding="utf-8"))
    out = Path(record["out_dir"])
    target = Path(record.get("result") or out.parent / f"{out.name}.result.json")
    try:
        result, code = export_bundle(ExportSpec.from_record(record), _say, meanwhile).to_record(), 0
    except PerennialError as exc:
        result = {"error": type(exc).__name__, "message": str(exc)}
        code = exc.exit_code
        sys.stderr.write(f"{exc}\n")
    write_atomically(target, json.dumps(result, indent=1) + "\n")
    return code


def main(arguments: Sequence[str]) -> int:
    """`python -m perennial.exporters.job SPEC.json`: progress on stdout, the result in a file, our exit codes."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m perennial.exporters.job SPEC.json\n")
        return 2
    return run(Path(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
