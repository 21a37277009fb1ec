"""A plan as one of the exporter's engines: the same answer as every other builder gives."""

from collections.abc import Sequence
from pathlib import Path

from perennial.continual.arrays import pad
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.tensorrt.job import refit_or_build
from perennial.exporters.tensorrt.machine import detect_machine
from perennial.exporters.tensorrt.options import BuildOptions, Machine, Portability, Refit
from perennial.exporters.text_classification.signature import ENGINE_INPUTS

__all__ = ["build_tensorrt"]

PLAN = "model.plan"


def build_tensorrt(
    graph: Path,
    folder: Path,
    precision: Precision,
    calibration: Sequence[Sequence[int]] = (),
    *,
    options: BuildOptions | None = None,
    previous: Path | None = None,
    cache_dir: Path | None = None,
    machine: Machine | None = None,
    device: str = "cuda",
) -> BuiltEngine:
    """Compile the ONNX file `graph` into `folder` as `model.plan`, by refit of the bundle `previous` where that fits.

    `calibration` are token rows without padding (INT8 and FP8 only). `options` default to refittable FP16-like plans
    for short and long text, and not refittable ones for INT8 and FP8; its precision is replaced by `precision`.

    Raises:
        DependencyUnreachable: no TensorRT, no GPU, or no nvidia-modelopt where the precision needs it.
        ExportFailed: TensorRT refuses the graph.
    """
    quantised = precision in {Precision.INT8, Precision.FP8}
    chosen = BuildOptions(precision=precision, refit=Refit.NONE if quantised else Refit.WEIGHTS)
    if options is not None:
        chosen = BuildOptions.from_dict({**options.to_dict(), "precision": precision})
    machine = detect_machine() if machine is None else machine
    base = None if previous is None or not (previous / PLAN).is_file() else previous / PLAN
    record = refit_or_build(
        graph,
        base,
        folder / PLAN,
        chosen,
        cache_dir=cache_dir,
        calibration=dict(zip(ENGINE_INPUTS, pad(calibration), strict=True)) if calibration else None,
        machine=machine,
        device=device,
    )
    compatible = chosen.portability is Portability.NEWER_TENSORRT
    return BuiltEngine(
        engine=EngineKind.TENSORRT,
        precision=precision,
        file=PLAN,
        seconds=record.seconds,
        options={"path": record.path, "version_compatible": "true" if compatible else "false"},
        toolchain=(machine.flavour.package, "onnx"),
    )
