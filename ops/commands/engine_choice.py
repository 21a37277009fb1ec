"""A faster engine for a model on this machine, by measuring: built, proved, timed on the model's own rows."""

import json
import threading
from dataclasses import dataclass, field

from perennial.continual.errors import ConfigurationError, NotFound, ParityFailed, PerennialError
from perennial.continual.jobs.process import Progress
from perennial.continual.route import ExpectedRoute
from perennial.exporters.build import check_available, hardware_precisions
from perennial.exporters.bundle import EngineKind, Manifest, Precision, read_manifest, verify_bundle
from perennial.exporters.tasks import room_of
from perennial.exporters.timing import BESIDE, MEASURED, NEW, processor_name, times_faster
from perennial.ops.commands.engines import export_errors, export_order, plan_export, publish_export
from perennial.ops.commands.promotion import promote_version
from perennial.ops.making.version_maker import VersionMaker
from perennial.ops.parts import Parts

__all__ = ["EngineChoice", "TimedEngine", "choose_engine_of", "engines_beside", "taken_meanwhile"]

_LEAST = 1.1  # times faster than what answers now, or it is not worth another version
_KINDS = ((EngineKind.ONNXRUNTIME, Precision.INT8), (EngineKind.OPENVINO, Precision.BF16))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedEngine:
    """An engine that was tried: rows a second by the rows of a batch, its own and the champion's in the same turns."""

    engine: str
    precision: str
    rows_per_s: dict[str, float] = field(default_factory=dict)
    champion_rows_per_s: dict[str, float] = field(default_factory=dict)
    times_faster: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What was tried beside the champion's engine. `version` is the new one, None where the champion's stays."""

    model: str
    champion: int
    engine: str
    processor: str
    tried: tuple[TimedEngine, ...]
    version: int | None = None
    promoted: bool = False


def engines_beside(parts: Parts, model: str, *, compiled: bool = False) -> tuple[tuple[EngineKind, Precision], ...]:
    """What may be faster on this machine than the engine of the champion.

    With `compiled` AOTInductor is among them: half a minute of a C++ compiler, and an engine process with torch in it.

    Raises:
        NotFound: the model serves no version.
        ConfigurationError: its settings, or its task, name one engine.
        DependencyUnreachable: `compiled`, and there is no C++ compiler.
    """
    settings = parts.workspace.model(model)
    if room_of(settings.task).engines():
        raise ConfigurationError(f"{model} is of the task {settings.task}, which has one engine; there is no choice")
    if settings.engine.engine != "auto" or settings.engine.precision != "auto":
        raise ConfigurationError(
            f"models.{model}.engine names {settings.engine.engine} {settings.engine.precision}; set both to auto "
            "to have the fastest chosen"
        )
    manifest = read_manifest(parts.workspace.bundle(model, _champion(parts, model)))
    here = hardware_precisions()
    kinds = list(_KINDS)
    if compiled:
        narrow = Precision.BF16 if Precision.BF16 in here else Precision.FP32
        check_available(EngineKind.AOTINDUCTOR, narrow)
        kinds.append((EngineKind.AOTINDUCTOR, narrow))
    return tuple(
        (kind, precision)
        for kind, precision in kinds
        if (kind, precision) != (manifest.engine, manifest.precision)
        and (precision is not Precision.BF16 or precision in here)
    )


def choose_engine_of(
    parts: Parts,
    model: str,
    *,
    actor: str,
    promote: bool = False,
    compiled: bool = False,
    on_progress: Progress = lambda _: None,
    cancel: threading.Event | None = None,
) -> EngineChoice:
    """Build the engines that may be faster in turn, prove them, time them beside the champion's; publish one that is.

    That is the first that gives 1.1 times the champion's rows a second or more, over batches of 1, 8 and 32 alike.
    `compiled` is that of `engines_beside`. With `promote` it becomes champion. Later versions are then built as the
    same engine, on the same processor.

    Raises:
        NotFound, ConfigurationError, DependencyUnreachable: see `engines_beside`.
        DataError: there are no held-out rows to prove an engine by.
    """
    champion = _champion(parts, model)
    if promote and not parts.repository.engine_versions(parts.workspace.engine_model(model)):
        raise NotFound(
            f"no server ever ran here that could take a faster engine of {model}; start `perennial serve` first, or "
            "leave out --promote"
        )
    kinds = engines_beside(parts, model, compiled=compiled)
    maker, tried = VersionMaker(parts.ledger, parts.workspace, model), []
    maker.cancel = cancel or maker.cancel
    made: int | None = None
    for kind, precision in kinds:
        plan = plan_export(parts, model, champion, kind.value, precision.value)
        number = parts.ledger.next_version(model)
        order = export_order(parts, plan, beside=parts.workspace.bundle(model, champion))
        try:
            bundle = maker.compile(number, order, export_errors(maker, number, plan), on_progress)
        except ParityFailed as exc:
            tried.append(TimedEngine(engine=kind.value, precision=precision.value, why_not=f"refused: {exc}"))
            continue
        except PerennialError as exc:
            if maker.cancel.is_set():
                break
            tried.append(TimedEngine(engine=kind.value, precision=precision.value, why_not=str(exc)))
            continue
        manifest = verify_bundle(bundle)
        timed = _timed(manifest)
        tried.append(timed)
        if timed.why_not:
            maker.discard(number)
            continue
        made = publish_export(parts, maker, plan, number, manifest, actor=actor).made
        break
    promote = promote and not taken_meanwhile(parts, model, champion)
    if made is not None and promote:
        why, expected = "the fastest engine here, by measuring", ExpectedRoute(champion=champion)
        promote_version(parts, model, made, actor=actor, reason=why, expected=expected)
    before = read_manifest(parts.workspace.bundle(model, champion))
    return EngineChoice(
        model=model,
        champion=champion,
        engine=f"{before.engine.value} {before.precision.value}",
        processor=processor_name(),
        tried=tuple(tried),
        version=made,
        promoted=made is not None and promote,
    )


def taken_meanwhile(parts: Parts, model: str, champion: int) -> str:
    """Who has the place of the champion that was timed, or is about to have it; empty where it is still its own.

    Building takes minutes. A version that somebody went back from in that time must not return as a faster engine.
    """
    route = parts.ledger.route(model)
    if route is None or route.champion != champion:
        return f"version {champion} is champion no more"
    if route.challenger is not None or parts.ledger.active_cycle(model) is not None:
        return "a cycle is under way"
    return ""


def _champion(parts: Parts, model: str) -> int:
    route = parts.ledger.route(model)
    if route is None:
        raise NotFound(
            f"model {model} serves no version yet; train the first with `perennial init {model} --data FILE`"
        )
    return route.champion


def _timed(manifest: Manifest) -> TimedEngine:
    speeds = json.loads(manifest.options[MEASURED])
    times = times_faster(speeds[NEW], speeds[BESIDE])
    return TimedEngine(
        engine=manifest.engine.value,
        precision=manifest.precision.value,
        rows_per_s=speeds[NEW],
        champion_rows_per_s=speeds[BESIDE],
        times_faster=round(times, 2),
        why_not="" if times >= _LEAST else f"{times:.2f} times the champion's speed (at least {_LEAST} pays)",
    )
