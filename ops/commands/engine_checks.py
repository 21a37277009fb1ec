"""Looks at engines that change nothing: what this machine can build, whether a version keeps its word, and how fast."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import DataError, NotFound, PerennialError
from perennial.continual.task import AnyTask
from perennial.continual.tasks import task_named
from perennial.exporters.build import check_available, hardware_precisions
from perennial.exporters.built import PRECISIONS
from perennial.exporters.bundle import EngineKind, Precision, read_manifest, verify_bundle
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.parity import ParityLimits, check_parity
from perennial.exporters.port import HeldOut, exportable
from perennial.exporters.runtime import load_engine
from perennial.exporters.streams import at_work
from perennial.exporters.torch_engine import TorchEngine
from perennial.ops.commands.engines import held_out
from perennial.ops.parts import Parts
from perennial.ops.serving.bundled import BundledVersion, EngineReply
from perennial.ops.serving.tasks import serving_side

__all__ = ["BuildableEngine", "ComparedEngine", "VerifiedEngine", "buildable", "compare_engines", "verify_engine"]

_ALONE = 40  # texts asked one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildableEngine:
    """An engine with the precisions that can be built here, and why it has none."""

    engine: str
    precisions: tuple[str, ...]
    why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEngine:
    """A version that kept its word: files, golden answers where it has some and, where asked for, parity."""

    version: int
    engine: str
    precision: str
    files: int
    load_s: float
    golden_difference: float | None
    parity: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a version's answers differ from the first one's; accuracy where the labels are known."""

    accuracy: float | None
    agreement: float
    max_abs_logit: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedEngine(Difference):
    """A version's speed and answers beside the first one's."""

    version: int
    engine: str
    precision: str
    rows_per_s: float
    p50_ms_batch1: float


def buildable() -> list[BuildableEngine]:
    """Each engine with the precisions that can be built here, and why it has none."""
    engines = []
    for engine in EngineKind:
        can: list[str] = []
        why: str | None = None
        for precision in sorted(PRECISIONS[engine]):
            try:
                check_available(engine, precision)
            except PerennialError as exc:
                why = str(exc)
                continue
            if engine is EngineKind.OPENVINO and precision is Precision.BF16 and precision not in hardware_precisions():
                continue
            can.append(precision.value)
        engines.append(BuildableEngine(engine=engine.value, precisions=tuple(can), why=None if can else why))
    return engines


def verify_engine(parts: Parts, model: str, version: int, *, parity: bool) -> VerifiedEngine:
    """The figures of a version that kept its word: files, golden answers and, where asked for, parity.

    Raises:
        NotFound: there is no such version on disk.
        BundleRejected: a file is not what the manifest says, the runtime refuses the engine, or it answers differently.
        ParityFailed: it does not answer like its torch model.
    """
    bundle = _bundle(parts, model, version)
    threads = parts.workspace.model(model).learning.threads
    started = time.perf_counter()
    manifest, engine = read_manifest(bundle), load_engine(bundle, threads=threads)
    verified = VerifiedEngine(
        version=version,
        engine=manifest.engine.value,
        precision=manifest.precision.value,
        files=len(manifest.files),
        load_s=time.perf_counter() - started,
        golden_difference=Golden.read(bundle).check(engine) if (bundle / GOLDEN).is_file() else None,
    )
    if parity:
        trained, rows = exportable(manifest.task, bundle), held_out(parts, model)
        reference = trained.answerer(TorchEngine(trained.module(), trained.signature), bundle)
        limits = ParityLimits.from_mapping(
            manifest.precision, parts.workspace.model(model).engine.limits.get(manifest.precision.value, {})
        )
        known = serving_side(manifest.task).open(bundle).vocabulary
        all_known = known is None or known.issuperset(rows.targets or ())
        verdict = check_parity(
            reference, trained.answerer(engine, bundle), rows.inputs, rows.targets if all_known else None, limits
        )
        verified = replace(verified, parity=verdict.require(f"{model} version {version}").to_record())
    return verified


def compare_engines(
    parts: Parts, model: str, versions: Sequence[int], *, texts: Path | None = None, rounds: int = 3
) -> list[ComparedEngine]:
    """Speed and answers of each version; the first is what the others are compared with.

    They answer the same texts in turns, a new order each round; medians of the rounds are given.

    Raises:
        NotFound: a version is not on disk.
        DataError: there are no texts.
    """
    threads = parts.workspace.model(model).learning.threads
    bundles = {version: _bundle(parts, model, version) for version in dict.fromkeys(versions)}
    engines = {version: BundledVersion.load(bundle, threads=threads) for version, bundle in bundles.items()}
    manifests = {version: read_manifest(bundle) for version, bundle in bundles.items()}
    held = _held(parts, model, bundles[versions[0]], texts)
    inputs = held.inputs
    for engine in engines.values():
        at_work(engine.engine)
    answers = {version: engine.ask(inputs) for version, engine in engines.items()}
    seconds: dict[int, list[float]] = {version: [] for version in engines}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for version in order.permutation(list(engines)):
            seconds[int(version)].append(_seconds(engines[int(version)], inputs))
    alone = {version: _alone(engine, inputs[:_ALONE]) for version, engine in engines.items()}
    first, task = answers[versions[0]], task_named(manifests[versions[0]].task)
    return [
        ComparedEngine(
            version=version,
            engine=manifest.engine.value,
            precision=manifest.precision.value,
            rows_per_s=len(inputs) / statistics.median(seconds[version]),
            p50_ms_batch1=alone[version],
            **asdict(_difference(task, first, answers[version], held.targets, manifest.signature.proved)),
        )
        for version, manifest in manifests.items()
    ]


def _bundle(parts: Parts, model: str, version: int) -> Path:
    parts.workspace.model(model)
    bundle = parts.workspace.bundle(model, version)
    if not bundle.is_dir():
        on_disk = list(parts.repository.versions(parts.workspace.engine_model(model)))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {on_disk}")
    verify_bundle(bundle)
    return bundle


def _held(parts: Parts, model: str, bundle: Path, path: Path | None) -> HeldOut:
    if path is not None:
        return exportable(read_manifest(bundle).task, bundle).read(path)
    held = held_out(parts, model)
    if not held.inputs:
        raise DataError(f"model {model} has no held-out rows to compare on; give some with --texts")
    return held


def _seconds(engine: BundledVersion, inputs: Sequence[Any]) -> float:
    started = time.perf_counter()
    engine.answers(inputs)
    return time.perf_counter() - started


def _alone(engine: BundledVersion, inputs: Sequence[Any]) -> float:
    return statistics.median(_seconds(engine, [one]) for one in inputs) * 1e3


def _difference(
    task: AnyTask, first: EngineReply, other: EngineReply, targets: Sequence[Any] | None, proved: Sequence[str]
) -> Difference:
    wanted, seen = ([task.read_answer(answer.kept) for answer in reply.answers()] for reply in (first, other))
    pairs = [(first.outputs[name], other.outputs[name]) for name in proved]
    same_shape = all(one.shape == two.shape for one, two in pairs)
    return Difference(
        accuracy=None if targets is None else float(np.mean(list(map(task.score, seen, targets)))),
        agreement=float(np.mean(list(map(task.same, wanted, seen)))),
        max_abs_logit=max(float(np.abs(one - two).max()) for one, two in pairs) if same_shape else None,
    )
