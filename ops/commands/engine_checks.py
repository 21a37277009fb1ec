"""Looks at engines that change nothing: what this machine can build, whether a version keeps its word, and how fast."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import DataError, NotFound, PerennialError
from perennial.exporters.build import check_available, hardware_precisions
from perennial.exporters.built import PRECISIONS
from perennial.exporters.bundle import EngineKind, Precision, verify_bundle
from perennial.exporters.classifier import BundleClassifier, Predictions
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.parity import ParityLimits, check_parity
from perennial.exporters.texts import read_texts
from perennial.ops.commands.engines import held_out
from perennial.ops.parts import Parts

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
    told = []
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
        told.append(BuildableEngine(engine=engine.value, precisions=tuple(can), why=None if can else why))
    return told


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
    classifier = BundleClassifier.load(bundle, threads=threads)
    manifest = classifier.manifest
    verified = VerifiedEngine(
        version=version,
        engine=manifest.engine.value,
        precision=manifest.precision.value,
        files=len(manifest.files),
        load_s=time.perf_counter() - started,
        golden_difference=Golden.read(bundle).check(classifier.engine) if (bundle / GOLDEN).is_file() else None,
    )
    if parity:
        from perennial.exporters.reference import TorchClassifier
        from perennial.exporters.trained import TrainedModel

        rows = held_out(parts, model)
        reference = TorchClassifier(TrainedModel.load(bundle), bundle / "tokenizer.json")
        limits = ParityLimits.from_mapping(
            manifest.precision, parts.workspace.model(model).engine.limits.get(manifest.precision.value, {})
        )
        known = set(classifier.labels)
        labels = rows.labels if known.issuperset(rows.labels) else None
        verdict = check_parity(reference, classifier, rows.texts, labels, limits)
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
    asked, truth = _texts(parts, model, texts)
    threads = parts.workspace.model(model).learning.threads
    engines = {
        version: BundleClassifier.load(_bundle(parts, model, version), threads=threads)
        for version in dict.fromkeys(versions)
    }
    answers = {version: engine.predict(asked) for version, engine in engines.items()}
    seconds: dict[int, list[float]] = {version: [] for version in engines}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for version in order.permutation(list(engines)):
            seconds[int(version)].append(_seconds(engines[int(version)], asked))
    alone = {version: _alone(engine, asked[:_ALONE]) for version, engine in engines.items()}
    first = answers[versions[0]]
    return [
        ComparedEngine(
            version=version,
            engine=engine.manifest.engine.value,
            precision=engine.manifest.precision.value,
            rows_per_s=len(asked) / statistics.median(seconds[version]),
            p50_ms_batch1=alone[version],
            **asdict(_difference(first, answers[version], truth)),
        )
        for version, engine in engines.items()
    ]


def _bundle(parts: Parts, model: str, version: int) -> Path:
    parts.workspace.model(model)
    bundle = parts.workspace.bundle(model, version)
    if not bundle.is_dir():
        on_disk = list(parts.repository.versions(parts.workspace.engine_model(model)))
        raise NotFound(f"{model} has no bundle of version {version}; on disk are {on_disk}")
    verify_bundle(bundle)
    return bundle


def _texts(parts: Parts, model: str, path: Path | None) -> tuple[list[str], list[str] | None]:
    if path is not None:
        return read_texts(path)
    rows = held_out(parts, model)
    if not rows.texts:
        raise DataError(f"model {model} has no held-out rows to compare on; give some with --texts")
    return list(rows.texts), list(rows.labels)


def _seconds(engine: BundleClassifier, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    engine.predict(texts)
    return time.perf_counter() - started


def _alone(engine: BundleClassifier, texts: Sequence[str]) -> float:
    return statistics.median(_seconds(engine, [text]) for text in texts) * 1e3


def _difference(first: Predictions, other: Predictions, truth: Sequence[str] | None) -> Difference:
    same_shape = first.logits.shape == other.logits.shape
    return Difference(
        accuracy=None if truth is None else _equal_share(other.labels, truth),
        agreement=_equal_share(first.labels, other.labels),
        max_abs_logit=float(np.abs(first.logits - other.logits).max()) if same_shape else None,
    )


def _equal_share(ones: Sequence[str], others: Sequence[str]) -> float:
    return float(np.mean([one == other for one, other in zip(ones, others, strict=True)]))
