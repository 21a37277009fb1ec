"""What models of seven billion weights would cost this house, on paper and by simulation.

    python -m benchmarks.bigger [--config FOLDER/config.json ...] [--no-measure] [--out DIR]

For each shape: weights, export, swap, keys and values, adapters, and streams on three GPUs. The formulae of shapes are
checked by a test against models on torch's `meta` device, which have no memory. Then small random decoders are really
exported, each in a process of its own. From them the cost of the packaged decoder is foretold, and compared with what
it is. Streams are simulated while a version is swapped.
"""

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.bigger_measured import Cost, measure
from benchmarks.bigger_shapes import SHAPES, Shape

__all__ = ["DEVICES", "Device", "Fit", "main", "plan", "simulate"]

_GB = 1e9
_PROTOBUF = 2**31  # bytes of one ONNX file without external data
_SHARD = 5 * _GB  # bytes of a safetensors file, as hubs have them
_TOKENS = 512  # of a stream, its prompt with it
_PROMPT = 200
_FREE = 0.9  # of a GPU's memory, for weights, keys and values
_REACHED = 0.5  # of a GPU's arithmetic, in a prompt
_RANK = 8
_NUMBER = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5}  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU by its data sheet: bytes, bytes a second, dense operations a second in bfloat16, bytes a second of PCIe."""

    memory: float
    bandwidth: float
    arithmetic: float
    pcie: float

    def step_s(self, shape: Shape, streams: int, past: int) -> float:
        """Of one token for each stream: the weights are read once, the keys and values of each."""
        read = 2 * shape.weights + streams * past * shape.kv_bytes(2)
        return max(read / self.bandwidth, 2 * shape.weights * streams / self.arithmetic)

    def prompt_s(self, shape: Shape, tokens: int) -> float:
        """Of a prompt."""
        return max(shape.operations(tokens) / (_REACHED * self.arithmetic), 2 * shape.weights / self.bandwidth)

    def room(self, shape: Shape, bytes_beside: float) -> int:
        """Streams whose keys and values fit beside the weights and so much more."""
        left = _FREE * self.memory - 2 * shape.weights - bytes_beside
        return max(0, int(left / (_TOKENS * shape.kv_bytes(2))))


DEVICES: Mapping[str, Device] = {
    "L4": Device(memory=24 * _GB, bandwidth=300 * _GB, arithmetic=121e12, pcie=12 * _GB),
    "A100 80 GB": Device(memory=80 * _GB, bandwidth=2_039 * _GB, arithmetic=312e12, pcie=25 * _GB),
    "H100 80 GB": Device(memory=80 * _GB, bandwidth=3_350 * _GB, arithmetic=989e12, pcie=50 * _GB),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Cost of an export: processor seconds by layers, and peak memory by bytes of weights in float32."""

    seconds: float
    seconds_a_layer: float
    base_bytes: float
    copies: float

    @classmethod
    def of(cls, costs: Sequence[Cost]) -> "Fit":
        """By least squares."""
        by_layer = np.polyfit([cost.layers for cost in costs], [cost.cpu_s for cost in costs], 1)
        by_bytes = np.polyfit([4 * cost.weights for cost in costs], [cost.peak_bytes for cost in costs], 1)
        return cls(
            seconds=float(by_layer[1]),
            seconds_a_layer=float(by_layer[0]),
            base_bytes=float(by_bytes[1]),
            copies=float(by_bytes[0]),
        )

    def foretold(self, shape: Shape) -> dict[str, float]:
        """Of this shape's export."""
        return {
            "cpu_s": self.seconds + self.seconds_a_layer * shape.layers,
            "peak_bytes": self.base_bytes + self.copies * 4 * shape.weights,
            "file_bytes": 4 * shape.weights,
        }


def plan(shape: Shape, fit: Fit | None = None) -> dict[str, Any]:
    """What the shape would cost."""
    bytes_of = {name: number * shape.weights for name, number in _NUMBER.items()}
    planned: dict[str, Any] = {
        "weights": shape.weights,
        "bytes": bytes_of,
        "export": {
            "safetensors_shards": math.ceil(bytes_of["bfloat16"] / _SHARD),
            "fits_one_protobuf": bytes_of["float32"] < _PROTOBUF,
            "onnx_files": 1 if bytes_of["float32"] < _PROTOBUF else 2,
            **({} if fit is None else fit.foretold(shape)),
        },
    }
    if not shape.writes:
        return planned
    adapter = 2.0 * shape.adapter_weights(_RANK)
    planned["kv_bytes_a_token"] = shape.kv_bytes(2)
    planned["versions"] = {"weights_bytes": bytes_of["bfloat16"], "adapter_bytes": adapter}
    planned["devices"] = {
        name: {
            "swap_s": bytes_of["bfloat16"] / device.pcie,
            "adapter_ms": 1_000 * adapter / device.pcie,
            "streams_with_two_versions": (whole := device.room(shape, bytes_of["bfloat16"])),
            "streams_with_two_adapters": (shared := device.room(shape, 2 * adapter)),
            "first_token_ms": 1_000 * device.prompt_s(shape, _PROMPT),
            "tokens_a_second_of_one": 1 / device.step_s(shape, 1, _TOKENS),
            "tokens_a_second_of_all": {
                "two_versions": whole / device.step_s(shape, whole, _TOKENS) if whole else 0.0,
                "two_adapters": shared / device.step_s(shape, shared, _TOKENS) if shared else 0.0,
            },
        }
        for name, device in DEVICES.items()
    }
    return planned


def simulate(
    shape: Shape, device: Device, *, rate: float, most: int, pause_s: float, seconds: float = 60.0, seed: int = 0
) -> dict[str, float]:
    """Streams come at random, and an engine that owns its batch writes a token for each of at most `most` at a time.

    Halfway it stands still for `pause_s`, as an engine does whose weights are exchanged in place.

    Returns:
        Median and 99th percentile of the milliseconds to the first token, the longest pause between two tokens, and
        tokens a second.
    """
    dice, now, due = random.Random(seed), 0.0, 0.0
    waiting, active, firsts, tokens, paused, longest = list[float](), list[int](), list[float](), 0, False, 0.0
    while now < seconds:
        while due <= now:
            waiting.append(due)
            due += dice.expovariate(rate)
        began = now
        if not paused and now >= seconds / 2:
            now, paused = now + pause_s, True
        while waiting and len(active) < most:
            now += device.prompt_s(shape, _PROMPT)
            firsts.append(now - waiting.pop(0))
            active.append(_TOKENS - _PROMPT)
        if not active:
            now = max(now, due)
            continue
        now += device.step_s(shape, len(active), _TOKENS)
        tokens += len(active)
        active = [left - 1 for left in active if left > 1]
        longest = max(longest, now - began)
    spread = sorted(firsts) or [math.nan]
    return {
        "first_token_ms": 1_000 * statistics.median(spread),
        "first_token_p99_ms": 1_000 * spread[int(0.99 * (len(spread) - 1))],
        "longest_pause_ms": 1_000 * longest,
        "tokens_a_second": tokens / now,
        "left_waiting": float(len(waiting)),
    }


def _swaps(shape: Shape, device: Device, *, rate: float) -> dict[str, Any]:
    """Three ways to have a new version, under the same traffic."""
    whole = 2.0 * shape.weights
    adapter = 2.0 * shape.adapter_weights(_RANK)
    alone, beside, shared = device.room(shape, 0), device.room(shape, whole), device.room(shape, 2 * adapter)
    return {
        "weights in place": simulate(shape, device, rate=rate, most=alone, pause_s=whole / device.pcie),
        "two versions resident": simulate(shape, device, rate=rate, most=beside, pause_s=0.0) if beside else None,
        "adapters on one base": simulate(shape, device, rate=rate, most=shared, pause_s=adapter / device.pcie),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, action="append", default=[], help="config.json of a further model")
    parser.add_argument("--measure", action=argparse.BooleanOptionalAction, default=True, help="export small ones")
    parser.add_argument("--rate", type=float, default=4.0, help="simulated streams a second")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args(arguments)
    shapes = {name: Shape.of(config) for name, config in SHAPES.items()}
    shapes |= {str(path): Shape.of(json.loads(path.read_text(encoding="utf-8"))) for path in asked.config}
    results: dict[str, Any] = {"tokens_of_a_stream": _TOKENS, "rank": _RANK}
    fit = None
    if asked.measure:
        with tempfile.TemporaryDirectory(prefix="bigger-") as work:
            *small, real = measure(Path(work))
        fit = Fit.of(small)
        foretold = fit.foretold(shapes["SmolLM2-135M"])
        seen = {"cpu_s": real.cpu_s, "peak_bytes": real.peak_bytes, "file_bytes": float(real.file_bytes)}
        results["measured"] = {
            "small": [cost.to_json() for cost in small],
            "packaged": real.to_json(),
            "foretold": foretold,
            "error": {name: foretold[name] / seen[name] - 1 for name in seen},
        }
    results["shapes"] = {name: plan(shape, fit) for name, shape in shapes.items()}
    results["swaps"] = {
        name: {device: _swaps(shape, DEVICES[device], rate=asked.rate) for device in DEVICES}
        for name, shape in shapes.items()
        if shape.writes and shape.weights > 5e9
    }
    print(json.dumps(results, indent=1))
    print(record.write("bigger", results, asked.out))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
