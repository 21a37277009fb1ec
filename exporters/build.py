"""Which builder answers for which engine, and which engine to build."""

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import ConfigurationError, DependencyUnreachable
from perennial.exporters.built import PRECISIONS, BuiltEngine
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.openvino_toolkit import openvino_core

__all__ = [
    "build_engine",
    "check_available",
    "choose_engine",
    "engines_to_try",
    "hardware_precisions",
]

_LOG = logging.getLogger(__name__)


def hardware_precisions() -> frozenset[Precision]:
    """The precisions that this machine's CPU computes in hardware, by OpenVINO's own capability query."""
    capabilities = set(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    names = {"FP32": Precision.FP32, "BF16": Precision.BF16, "FP16": Precision.FP16, "INT8": Precision.INT8}
    return frozenset(precision for name, precision in names.items() if name in capabilities)


def choose_engine(engine: str = "auto", precision: str = "auto") -> tuple[EngineKind, Precision]:
    """The engine and precision to build; `auto` picks what measured fastest on a CPU like this one.

    That is OpenVINO in BF16 where the CPU has it (AMX or AVX512_BF16), else ONNX Runtime; see `docs/engines.md`.

    Raises:
        ConfigurationError: a name is unknown, or the CPU engine cannot compute the precision here.
    """
    try:
        kind = None if engine == "auto" else EngineKind(engine)
        wanted = None if precision == "auto" else Precision(precision)
    except ValueError as exc:
        known = [*EngineKind, "auto"], [*Precision, "auto"]
        raise ConfigurationError(f"engine {engine!r} with precision {precision!r}: {exc}; known are {known}") from exc
    bf16 = kind in {None, EngineKind.OPENVINO} and wanted in {None, Precision.BF16}
    has_bf16 = bf16 and Precision.BF16 in hardware_precisions()
    if wanted is Precision.BF16 and kind in {None, EngineKind.OPENVINO} and not has_bf16:
        raise ConfigurationError("this CPU has no BF16 arithmetic (AMX or AVX512_BF16); use precision fp32 or int8")
    if kind is None:
        portable = not has_bf16 and wanted in {None, Precision.FP32, Precision.INT8}
        kind = EngineKind.ONNXRUNTIME if portable else EngineKind.OPENVINO
    if wanted is None:
        wanted = Precision.BF16 if has_bf16 else Precision.FP32
    return kind, wanted


def engines_to_try(
    engine: str = "auto",
    precision: str = "auto",
    before: tuple[EngineKind, Precision] | None = None,
    *,
    among: Sequence[tuple[str, str]] = (),
    measured: bool = False,
) -> tuple[tuple[EngineKind, Precision], ...]:
    """What `choose_engine` picks and, where it was free to pick BF16, the FP32 engine for models that BF16 alters.

    `before` is what the previous version was built as: where it is among them, what comes ahead of it was refused then
    and isn't tried again. A model that only some engines take has the first of `among` that fits what is wanted.

    Raises:
        ConfigurationError: as `choose_engine`, or none of `among` is what is wanted.
    """
    if among:
        fit = [each for each in among if engine in {"auto", each[0]} and precision in {"auto", each[1]}]
        if not fit:
            known = ", ".join(f"{kind} {form}" for kind, form in among)
            raise ConfigurationError(
                f"a model of this task does not come as engine {engine!r} with precision {precision!r}; "
                f"it comes as {known}: use those, or auto"
            )
        kind, form = fit[0]
        return ((EngineKind(kind), Precision(form)),)
    if measured and before is not None and engine == precision == "auto":
        return (before, *(each for each in engines_to_try() if each != before))
    first = choose_engine(engine, precision)
    if precision != "auto" or first[1] is not Precision.BF16:
        return (first,)
    exact = EngineKind.ONNXRUNTIME if engine == "auto" else first[0], Precision.FP32
    return (exact,) if before == exact else (first, exact)


def check_available(engine: EngineKind, precision: Precision) -> None:
    """Say at once what a build would only find out after minutes; nothing is loaded or compiled.

    Raises:
        DependencyUnreachable: the engine needs a package or a device that is not here.
        ConfigurationError: the engine does not come in that precision.
    """
    if precision not in PRECISIONS[engine]:
        known = ", ".join(sorted(PRECISIONS[engine]))
        raise ConfigurationError(f"the engine {engine.value} does not come in {precision.value}; it comes in {known}")
    match engine:
        case EngineKind.TENSORRT:
            from perennial.exporters.tensorrt.machine import detect_machine

            detect_machine()
        case EngineKind.AOTINDUCTOR:
            from perennial.exporters.aotinductor.package import device_here
            from perennial.exporters.aotinductor.toolchain import choose_compiler

            choose_compiler()
            if device_here() == "cpu" and precision not in {Precision.FP32, Precision.BF16} & hardware_precisions():
                raise ConfigurationError(
                    f"AOTInductor for this CPU does not come in {precision.value}: the CPU has no such arithmetic, and "
                    "torch sees no NVIDIA GPU; use fp32"
                )
        case EngineKind.OPENVINO if precision is Precision.INT8 and importlib.util.find_spec("nncf") is None:
            raise DependencyUnreachable(
                "int8 needs nncf; pip install 'perennial-serving[quantisation]', or use another precision"
            )
        case _:
            return


def build_engine(
    engine: EngineKind,
    precision: Precision,
    graph: Path,
    folder: Path,
    calibration: Sequence[Sequence[int]] = (),
    *,
    previous: Path | None = None,
) -> BuiltEngine:
    """Compile the ONNX file `graph` into `folder`; INT8 needs `calibration` token rows of the model's own domain.

    `previous` is a bundle that TensorRT may refit instead of building; the CPU engines have `swap_weights` for that.

    Raises:
        ConfigurationError: the engine does not come in that precision.
        DependencyUnreachable: a package or device that the engine needs is not here.
        ExportFailed: the builder refuses the graph.
    """
    match engine:
        case EngineKind.ONNXRUNTIME:
            from perennial.exporters.onnxruntime import build_onnxruntime

            built = build_onnxruntime(graph, folder, precision, calibration)
        case EngineKind.OPENVINO:
            from perennial.exporters.openvino import build_openvino

            built = build_openvino(graph, folder, precision, calibration)
        case EngineKind.TENSORRT:
            from perennial.exporters.tensorrt.bundled import build_tensorrt

            built = build_tensorrt(graph, folder, precision, calibration, previous=previous)
        case EngineKind.AOTINDUCTOR:
            raise ConfigurationError(
                "an AOTInductor package is compiled from the torch module, not from ONNX; "
                "call perennial.exporters.aotinductor.bundled.build_aotinductor"
            )
    _LOG.info(
        "export.engine_built", extra={"engine": engine.value, "precision": precision.value, "seconds": built.seconds}
    )
    return built
