"""The parent's side: build, refit and probe, each in a process of its own, because a failed one leaks GPU memory."""

import json
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import put_in_place, write_atomically
from perennial.continual.errors import BundleRejected, ExportFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import run_job
from perennial.exporters.tensorrt.machine import check_fits, check_supported, detect_machine
from perennial.exporters.tensorrt.options import BuildOptions, Machine, PlanRecord, Refit
from perennial.exporters.tensorrt.options_check import settle_options
from perennial.exporters.tensorrt.precision import Caster, write_typed
from perennial.exporters.tensorrt.runtime import record_path

__all__ = ["build_plan", "probe_plan", "prove_plan", "refit_or_build", "refit_plan"]

_log = logging.getLogger(__name__)
BUILD_LIMIT_S = 3600.0
PROBE_LIMIT_S = 600.0


def build_plan(
    onnx: Path,
    plan: Path,
    options: BuildOptions,
    *,
    cache_dir: Path | None = None,
    calibration: dict[str, Any] | None = None,
    caster: Caster = Caster.GRAPH,
    machine: Machine | None = None,
    device: str = "cuda",
) -> PlanRecord:
    """Build the FP32 graph `onnx` into `plan`, its record beside it; both only appear once a probe has run the plan.

    A plan that this machine cannot run (`machine_without_gpu`, or RTX for other targets) is kept without a probe. Its
    record says so, and it is refused for serving until `prove_plan` has run it.
    `cache_dir` keeps timings between builds. `calibration` maps input names to token arrays, for INT8 and FP8.

    Raises:
        DependencyUnreachable: no TensorRT, no GPU, or no nvidia-modelopt where the precision needs it.
        ConfigurationError: the flavour of TensorRT here does not have what the options ask for.
        ExportFailed: TensorRT could not parse, build or run it.
        BundleRejected: the plan does not keep the engine contract.
    """
    machine = _machine(machine)
    options = settle_options(options, machine)
    with tempfile.TemporaryDirectory(prefix="tensorrt-", dir=_made(plan.parent)) as folder:
        typed = Path(folder) / "typed.onnx"
        graph = write_typed(onnx, typed, options.precision, caster=caster, calibration=calibration)
        return _finish("build", typed, plan, (machine, options, graph), cache_dir, device)


def refit_plan(
    onnx: Path,
    base: Path,
    plan: Path,
    *,
    caster: Caster = Caster.GRAPH,
    machine: Machine | None = None,
    device: str = "cuda",
) -> PlanRecord:
    """Put the weights of the FP32 graph `onnx` into a copy of the plan `base`, without building; see `build_plan`.

    Raises:
        ExportFailed: `base` is not refittable, its graph differs from that of `onnx`, or a weight was left out.
        BundleRejected: `base` was made by another TensorRT or for another GPU.
    """
    machine = _machine(machine)
    record = PlanRecord.from_json(record_path(base).read_text(encoding="utf-8"))
    if record.options.refit is Refit.NONE:
        raise ExportFailed(f"{base} was built with refit none; build the new version in full with refit weights")
    with tempfile.TemporaryDirectory(prefix="tensorrt-", dir=_made(plan.parent)) as folder:
        typed = Path(folder) / "typed.onnx"
        graph = write_typed(onnx, typed, record.options.precision, caster=caster)
        if graph != record.graph:
            raise ExportFailed(
                f"{onnx.name} has graph {graph[:12]}…, {base.name} was built from {record.graph[:12]}…; "
                "a refit needs the same graph: build the new version in full"
            )
        return _finish("refit", typed, plan, (machine, record.options, graph), None, device, base=base)


def refit_or_build(
    onnx: Path,
    base: Path | None,
    plan: Path,
    options: BuildOptions,
    *,
    cache_dir: Path | None = None,
    calibration: dict[str, Any] | None = None,
    machine: Machine | None = None,
    device: str = "cuda",
) -> PlanRecord:
    """The fast way where `base` was built to the same options, else the full build; the record's `path` says which."""
    machine = _machine(machine)
    options = settle_options(options, machine)
    if base is not None and _same_request(base, options):
        try:
            return refit_plan(onnx, base, plan, machine=machine, device=device)
        except (ExportFailed, BundleRejected) as exc:
            _log.warning("export.refit_not_possible", extra={"base": str(base), "reason": str(exc)})
    return build_plan(onnx, plan, options, cache_dir=cache_dir, calibration=calibration, machine=machine, device=device)


def _same_request(base: Path, options: BuildOptions) -> bool:
    """Whether `base` is refittable and was built to these very options."""
    try:
        built = PlanRecord.from_json(record_path(base).read_text(encoding="utf-8")).options
    except (OSError, BundleRejected) as exc:
        _log.warning("export.refit_base_unreadable", extra={"base": str(base), "reason": str(exc)})
        return False
    return options.refit is not Refit.NONE and built == options


def probe_plan(plan: Path, record: PlanRecord, *, device: str = "cuda") -> dict[str, Any]:
    """Deserialise the plan in a throw-away process, run every profile once, and return the inspector's report.

    Raises:
        BundleRejected: TensorRT refuses it, or it does not keep the engine contract.
        ExportFailed: the process died or an answer was not finite.
    """
    spec = {"action": "probe", "plan": str(plan), "record": record.to_json(), "device": device}
    return dict(_run(spec, plan.parent, PROBE_LIMIT_S)["report"])


def prove_plan(plan: Path, *, machine: Machine | None = None, device: str = "cuda") -> PlanRecord:
    """Run a plan that was built where no GPU was, and mark its record as probed; such a plan may serve from then on.

    Raises:
        DependencyUnreachable: no TensorRT of its flavour or no GPU here.
        BundleRejected: it was built by another TensorRT or not for this GPU, or breaks the engine contract.
        ExportFailed: the process died or an answer was not finite.
    """
    machine = _machine(machine)
    record = PlanRecord.from_json(record_path(plan).read_text(encoding="utf-8"))
    check_fits(record, machine)
    layers = _probed(plan, plan, record, device)
    proven = replace(record, machine=machine, layers=layers, probed=True)
    write_atomically(record_path(plan), proven.to_json().encode())
    return proven


def _probed(draft: Path, plan: Path, record: PlanRecord, device: str) -> dict[str, int]:
    """Run `draft`, leave the inspector's report beside `plan`, and return the count of its layers."""
    report = probe_plan(draft, record, device=device)
    layers: dict[str, int] = report.pop("layers")
    plan.with_name(f"{plan.name}.layers.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return layers


def _finish(
    path: str,
    typed: Path,
    plan: Path,
    made_from: tuple[Machine, BuildOptions, str],
    cache_dir: Path | None,
    device: str,
    base: Path | None = None,
) -> PlanRecord:
    """Run the worker, probe what it made, then move plan, record and report into place."""
    machine, options, graph = made_from
    started = time.perf_counter()
    draft = typed.with_name(plan.name)
    stripped = path == "build" and options.refit is Refit.STRIPPED
    # a mould without weights cannot answer; it is probed after its first refit
    probed = machine.runs(options) and not stripped
    record = PlanRecord(
        machine=machine, options=options, graph=graph, stripped=stripped, path=path, seconds=0.0, probed=probed
    )
    if base is not None:
        check_fits(PlanRecord.from_json(record_path(base).read_text(encoding="utf-8")), machine)
    spec = {
        "action": path,
        "onnx": str(typed),
        "plan": str(draft),
        "base": None if base is None else str(base),
        "record": record.to_json(),
        "cache_dir": None if cache_dir is None else str(cache_dir),
    }
    _run(spec, typed.parent, BUILD_LIMIT_S)
    seconds = time.perf_counter() - started
    layers = _probed(draft, plan, record, device) if probed else {}
    record = replace(record, seconds=seconds, layers=layers)
    record_path(plan).write_text(record.to_json(), encoding="utf-8")
    put_in_place(draft, plan)
    _log.info("export.plan_made", extra={"path": path, "seconds": round(seconds, 2), "bytes": plan.stat().st_size})
    return record


def _run(spec: dict[str, Any], folder: Path, limit_s: float) -> dict[str, Any]:
    """One worker process; its own errors are raised here again, its death becomes ExportFailed with its last lines."""
    with tempfile.TemporaryDirectory(prefix="worker-", dir=folder) as work:
        question, answer = Path(work) / "spec.json", Path(work) / "result.json"
        question.write_text(json.dumps({**spec, "result": str(answer)}), encoding="utf-8")
        result = run_job(
            "perennial.exporters.tensorrt.worker", [str(question)], log=Path(work) / "worker.log", timeout_s=limit_s
        )
        document: dict[str, Any] | None = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else None
        if (
            document is None or "error" in document
        ):  # one that wrote its answer and crashed while leaving has done its work
            raise JobErrors(
                what=f"the TensorRT {spec['action']}",
                failed=ExportFailed,
                report=answer,
                if_late="lower optimisation_level or give a timing cache",
            ).of(result)
        return document


def _machine(machine: Machine | None) -> Machine:
    if machine is None:
        return detect_machine()
    check_supported(machine)
    return machine


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
