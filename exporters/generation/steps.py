"""Decoders in ONNX Runtime and OpenVINO, one token or one prompt at a time."""

import queue
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from perennial.exporters.bundle import EngineKind, Manifest
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.generation.codec import Codec
from perennial.exporters.generation.decoding import DecodingEngine, Floats, Ids, Past
from perennial.exporters.generation.part import GenerationPart
from perennial.exporters.openvino_toolkit import import_openvino
from perennial.exporters.runtime import OnnxEngine

__all__ = ["IDS", "NEXT", "PLACES", "GraphSteps", "open_engine", "past_names", "present_names"]

Run = Callable[[Inputs], Outputs]
IDS, PLACES, NEXT = "input_ids", "position_ids", "next_logits"


def past_names(layers: int) -> list[str]:
    """The graph's inputs that hold keys and values, in order."""
    return [f"past_{what}_{layer}" for layer in range(layers) for what in ("key", "value")]


def present_names(layers: int) -> list[str]:
    """The outputs that hold them with the new tokens."""
    return [f"present_{what}_{layer}" for layer in range(layers) for what in ("key", "value")]


class GraphSteps:
    """A decoder's steps by whatever runs its graph: `run` gives the graph's outputs by name."""

    def __init__(self, part: GenerationPart, run: Run) -> None:
        self._run, self._past, self._present = run, past_names(part.layers), present_names(part.layers)
        empty = np.zeros((1, part.heads, 0, part.width), dtype=np.float32)
        self.nothing = Past(arrays=(empty,) * (2 * part.layers))

    def step(self, ids: Ids, past: Past) -> tuple[Floats, Past]:
        """See `perennial.exporters.generation.decoding.StepModel`."""
        places = np.arange(past.tokens, past.tokens + len(ids), dtype=np.int64)
        before = dict(zip(self._past, past.arrays, strict=True))
        outputs = self._run({IDS: ids.reshape(1, -1), PLACES: places.reshape(1, -1), **before})
        return outputs[NEXT][0], Past(arrays=tuple(outputs[name] for name in self._present))


class _OpenVino:
    """A graph in OpenVINO; each call borrows a request of its own."""

    def __init__(self, model: Path, *, threads: int, cache: Path | None, precision: str) -> None:
        openvino = import_openvino()
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        settings["INFERENCE_NUM_THREADS"] = threads
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            settings["CACHE_DIR"] = str(cache)
        self._compiled = openvino.Core().compile_model(str(model), "CPU", settings)
        self._outputs = {output.get_any_name(): output for output in self._compiled.outputs}
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, feed: Inputs) -> Outputs:
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            results = request.infer({name: np.ascontiguousarray(value) for name, value in feed.items()})
            return {name: np.array(results[output]) for name, output in self._outputs.items()}
        finally:
            self._idle.put(request)


def open_engine(bundle: Path, manifest: Manifest, *, threads: int, cache: Path | None) -> Engine:
    """The engine of a decoder's bundle, which was verified."""
    part, path = GenerationPart.read(manifest.part), bundle / manifest.engine_file
    if manifest.engine is EngineKind.OPENVINO:
        precision = manifest.options.get("inference_precision", "f32")
        steps = GraphSteps(part, _OpenVino(path, threads=threads, cache=cache, precision=precision).run)
        steps.step(np.zeros(2, dtype=np.int64), steps.nothing)  # see `runtime.OpenVinoEngine`: the first one alone
    else:
        steps = GraphSteps(part, OnnxEngine(path, threads=threads).infer)
    return DecodingEngine(steps, Codec(bundle, part))
