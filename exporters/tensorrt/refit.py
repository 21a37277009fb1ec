"""New weights in a plan that is already built, inside the process that is thrown away afterwards."""

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.continual.errors import ExportFailed
from perennial.exporters.tensorrt.engine import deserialise
from perennial.exporters.tensorrt.options import PlanRecord

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["refit_serialised"]


def refit_serialised(plan: bytes, onnx: Path, record: PlanRecord) -> bytes:
    """The plan with the weights of `onnx`, complete and refittable again.

    Raises:
        ExportFailed: a weight is missing, was left as it was, or does not fit; build the plan anew instead.
    """
    import tensorrt as trt

    logger = trt.Logger()
    runtime = trt.Runtime(logger)
    engine = deserialise(runtime, plan, record)
    if not engine.refittable:
        raise ExportFailed("the plan is not refittable; build it with refit weights, or build the new version in full")
    refitter = trt.Refitter(engine, logger)
    parser = trt.OnnxParserRefitter(refitter, logger)
    if not parser.refit_from_file(str(onnx)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise ExportFailed(f"TensorRT cannot refit from {onnx.name}: {'; '.join(reasons) or 'no reason given'}")
    _check_complete(refitter)
    if not refitter.refit_cuda_engine():
        raise ExportFailed("TensorRT refused the new weights; its own lines above say why; build the plan in full")
    return _serialise(engine, record)


def _check_complete(refitter: "trt.Refitter") -> None:
    """Every refittable weight must have been given.

    `get_missing_weights` names only what its own bookkeeping misses and has been seen to overlook weights that kept
    their old values; a weight that was never set reads back with no elements, so each one is read back too.
    """
    if missing := list(refitter.get_missing_weights()):
        raise ExportFailed(f"refit misses {len(missing)} weights, first {sorted(missing)[:3]}; build the plan in full")
    unset = [name for name in refitter.get_all_weights() if refitter.get_named_weights(name).size == 0]
    if unset:
        raise ExportFailed(
            f"refit left {len(unset)} weights unset, first {sorted(unset)[:3]}: they would keep the old model's "
            "values; build the plan in full"
        )


def _serialise(engine: "trt.ICudaEngine", record: PlanRecord) -> bytes:
    import tensorrt as trt

    config = engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    keeps = record.machine.release >= record.machine.flavour.keeps_refit_since
    if keeps and not config.set_flag(trt.SerializationFlag.INCLUDE_REFIT):
        raise ExportFailed(f"TensorRT {record.machine.tensorrt} refuses to keep the plan refittable; build it in full")
    plan = engine.serialize_with_config(config)
    if plan is None:
        raise ExportFailed("TensorRT could not serialise the refitted engine; its own lines above say why")
    return bytes(plan)
