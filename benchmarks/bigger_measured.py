"""What exports of decoders really cost: each in a process of its own, whose processor time and peak memory are read."""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.bigger_shapes import SHAPES, Shape

__all__ = ["Cost", "measure"]

_SMALL = ((6, 192, 512, 3, 1), (12, 320, 864, 5, 1), (20, 448, 1_200, 7, 1))
"""Layers, width, inner width, heads and heads of keys of the random decoders; all know the packaged one's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one export to ONNX, and of opening what it wrote."""

    layers: int
    weights: int
    cpu_s: float
    wall_s: float
    open_s: float
    peak_bytes: float
    file_bytes: int

    def to_json(self) -> dict[str, Any]:
        """As the record holds it."""
        return asdict(self)


def measure(work: Path) -> Iterator[Cost]:
    """The small decoders' costs, and last the packaged one's."""
    from perennial.continual.learning.generation import DEFAULT_DECODER, TrainedDecoder, decoder_folder
    from perennial.continual.learning.names import LearnerName

    packaged = decoder_folder(DEFAULT_DECODER)
    named = {f"small-{layers}": _random(work, packaged, layers, *rest) for layers, *rest in _SMALL}
    for name, decoder in (*named.items(), ("packaged", DEFAULT_DECODER)):
        TrainedDecoder.take(str(decoder), work / name, learner=LearnerName.REWRITER.value, settings={"guided": True})
        command = [sys.executable, "-m", "benchmarks.bigger_measured", str(work / name), str(work / f"{name}.onnx")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield Cost(**json.loads(done.stdout.splitlines()[-1]))
        (work / f"{name}.onnx").unlink()


def _random(work: Path, packaged: Path, layers: int, hidden: int, inner: int, heads: int, kv_heads: int) -> Path:
    import torch
    import transformers

    words = int(SHAPES["SmolLM2-135M"]["vocab_size"])
    config = transformers.LlamaConfig(
        vocab_size=words, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = work / f"decoder-{layers}"
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for path in packaged.glob("tokenizer*.json"):
        shutil.copyfile(path, folder / path.name)
    return folder


def _export(trained: Path, target: Path) -> Cost:
    from perennial.exporters.generation.export import GenerationExportable
    from perennial.exporters.runtime import OnnxEngine

    source = GenerationExportable.load(trained)
    began, before = time.perf_counter(), _cpu_s()
    module = source.module()
    source.graph(target, module)
    wall_s, cpu_s, peak = time.perf_counter() - began, _cpu_s() - before, _peak_bytes()
    opening = time.perf_counter()
    OnnxEngine(target, threads=2)
    config = source.trained.model().config
    return Cost(
        layers=int(config.num_hidden_layers),
        weights=Shape.of(config.to_dict()).weights,
        cpu_s=cpu_s,
        wall_s=wall_s,
        open_s=time.perf_counter() - opening,
        peak_bytes=peak,
        file_bytes=target.stat().st_size,
    )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_bytes() -> float:
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(_export(Path(sys.argv[1]), Path(sys.argv[2])).to_json()))
