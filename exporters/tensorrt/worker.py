"""`python -m perennial.exporters.tensorrt.worker SPEC.json`: one build, refit or probe in a process of its own."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import ExportFailed, PerennialError
from perennial.exporters.tensorrt.builder import build_serialised
from perennial.exporters.tensorrt.engine import count_layers, inspect_engine
from perennial.exporters.tensorrt.flavour import speak
from perennial.exporters.tensorrt.options import PlanRecord
from perennial.exporters.tensorrt.refit import refit_serialised
from perennial.exporters.tensorrt.runtime import TensorRtEngine

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Carry out the specification in the file `arguments[0]` and write its `result` file; 0 done, 1 failed."""
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        speak(PlanRecord.from_json(spec["record"]).machine.flavour)
        result = _ACTIONS[spec["action"]](spec)
    except PerennialError as exc:
        result = {"error": type(exc).__name__, "message": str(exc)}
    Path(spec["result"]).write_text(json.dumps(result), encoding="utf-8")
    return 1 if "error" in result else 0


def _build(spec: dict[str, Any]) -> dict[str, Any]:
    record = PlanRecord.from_json(spec["record"])
    cache_dir = None if spec["cache_dir"] is None else Path(spec["cache_dir"])
    plan = build_serialised(Path(spec["onnx"]), record.options, record.machine, cache_dir)
    Path(spec["plan"]).write_bytes(plan)
    return {"bytes": len(plan)}


def _refit(spec: dict[str, Any]) -> dict[str, Any]:
    record = PlanRecord.from_json(spec["record"])
    plan = refit_serialised(Path(spec["base"]).read_bytes(), Path(spec["onnx"]), record)
    Path(spec["plan"]).write_bytes(plan)
    return {"bytes": len(plan)}


def _probe(spec: dict[str, Any]) -> dict[str, Any]:
    record = PlanRecord.from_json(spec["record"])
    engine = TensorRtEngine(Path(spec["plan"]).read_bytes(), record, device=spec["device"])
    for profile in record.options.profiles:
        shape = (profile.best_batch, profile.max_sequence)  # the longest texts of each profile, so each one runs
        answers = engine.infer(np.ones(shape, np.int64), np.ones(shape, np.int64))
        if not all(np.isfinite(answer).all() for answer in answers):
            raise ExportFailed(f"the plan gives NaN or Inf for tokens of shape {shape}; try precision fp32 or bf16")
    report = inspect_engine(engine.engine)
    return {"report": {**report, "layers": count_layers(report)}}


_ACTIONS = {"build": _build, "probe": _probe, "refit": _refit}

if __name__ == "__main__":
    os.dup2(2, 1)  # what TensorRT prints, on either stream, is kept in the job's log
    sys.exit(main(sys.argv[1:]))
