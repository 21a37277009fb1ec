"""A deserialised plan: checked against the engine contract, and what TensorRT's inspector says of it."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import BundleRejected
from perennial.exporters.tensorrt.options import PlanRecord, Portability
from perennial.exporters.text_classification.signature import ENGINE_INPUTS, ENGINE_OUTPUTS

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["check_contract", "count_layers", "deserialise", "inspect_engine"]


def deserialise(runtime: "trt.Runtime", plan: bytes, record: PlanRecord) -> "trt.ICudaEngine":
    """The engine in `plan`. A version-compatible plan carries host code, which is allowed for those alone.

    Raises:
        BundleRejected: TensorRT refuses the plan.
    """
    if record.options.portability is Portability.NEWER_TENSORRT:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BundleRejected(
            f"TensorRT refuses the plan of {len(plan)} bytes, built by {record.machine.tensorrt}; export again here"
        )
    return engine


def check_contract(engine: "trt.ICudaEngine", record: PlanRecord) -> None:
    """Refuse an engine whose tensors or profiles are not those of the engine contract.

    Raises:
        BundleRejected: a tensor's name, direction or type differs, or the number of profiles does.
    """
    import tensorrt as trt

    wanted = dict.fromkeys(ENGINE_INPUTS, (trt.TensorIOMode.INPUT, trt.DataType.INT64))
    wanted |= dict.fromkeys(ENGINE_OUTPUTS, (trt.TensorIOMode.OUTPUT, trt.DataType.FLOAT))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    seen = {name: (engine.get_tensor_mode(name), engine.get_tensor_dtype(name)) for name in names}
    if seen != wanted:
        raise BundleRejected(f"the plan's tensors are {_words(seen)}; the contract is {_words(wanted)}; export again")
    if engine.num_optimization_profiles != len(record.options.profiles):
        raise BundleRejected(
            f"the plan has {engine.num_optimization_profiles} profiles, its record {len(record.options.profiles)}"
        )


def inspect_engine(engine: "trt.ICudaEngine") -> dict[str, Any]:
    """The engine inspector's report as JSON values; full only for a plan built with detailed verbosity, as ours are."""
    import tensorrt as trt

    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    report: dict[str, Any] = json.loads(text)
    if "Bindings" in report:  # 10.x; 11.x calls it by its present name
        report["I/O Tensors"] = report.pop("Bindings")
    return report


def count_layers(report: dict[str, Any]) -> dict[str, int]:
    """Layer type to count; many reformat layers mean that types change back and forth."""
    kinds = [layer.get("LayerType", "unnamed") if isinstance(layer, dict) else "unnamed" for layer in report["Layers"]]
    return dict(sorted(Counter(kinds).items()))


def _words(tensors: dict[str, tuple["trt.TensorIOMode", "trt.DataType"]]) -> str:
    return ", ".join(f"{name} {mode.name.lower()} {kind.name}" for name, (mode, kind) in sorted(tensors.items()))
