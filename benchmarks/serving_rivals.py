"""The other servers: what each is installed from, in an environment of its own, and how it is started and asked."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from perennial.exporters.text_classification.signature import TEXT

__all__ = ["CACHE", "RIVALS", "Rival", "environment", "kserve_body", "script_of", "version_of"]

_PEERS = Path(__file__).parent / "serving_peers"
_ENGINE = ("numpy", "onnx", "onnxruntime", "openvino", "pydantic", "safetensors", "tokenizers")  # what our engine needs
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "perennial-serving-peers"


def _plain(texts: Sequence[str]) -> str:
    return json.dumps({"texts": list(texts)})


def kserve_body(texts: Sequence[str]) -> str:
    """A request of the KServe protocol."""
    tensor = {"name": TEXT, "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    return json.dumps({"inputs": [tensor]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """`package` is the one whose version is told; `requirements` come beside what our engine needs."""

    name: str
    script: str
    package: str
    requirements: tuple[str, ...]
    path: str = "/predict"
    body: Callable[[Sequence[str]], str] = _plain
    grpc: bool = False


RIVALS = {
    rival.name: rival
    for rival in (
        Rival(
            name="fastapi-batcher",
            script="fastapi_batcher.py",
            package="fastapi",
            requirements=("fastapi", "uvicorn[standard]"),
        ),
        Rival(
            name="fastapi",
            script="fastapi_plain.py",
            package="fastapi",
            requirements=("fastapi", "uvicorn[standard]"),
        ),
        Rival(
            name="fastapi-torch",
            script="fastapi_torch.py",
            package="fastapi",
            requirements=("fastapi", "uvicorn[standard]", "torch", "transformers"),
        ),
        Rival(name="litserve", script="litserve_engine.py", package="litserve", requirements=("litserve",)),
        Rival(
            name="mlserver",
            script="mlserver_engine.py",
            package="mlserver",
            requirements=("mlserver",),
            path="/v2/models/intent/infer",
            body=kserve_body,
            grpc=True,
        ),
        Rival(name="bentoml", script="bentoml_engine.py", package="bentoml", requirements=("bentoml",)),
    )
}


def environment(rival: Rival) -> Path:
    """The rival's interpreter, in an environment that is made where it is not there yet."""
    folder = CACHE / rival.name
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        ours = [f"{name}=={metadata.version(name)}" for name in _ENGINE]
        wanted = [*ours, *rival.requirements]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        done.write_text("\n".join(wanted), encoding="utf-8")
    return python


def version_of(rival: Rival) -> str:
    """The version of the rival's own package."""
    code = f"from importlib.metadata import version; print(version({rival.package!r}))"
    return subprocess.run(
        [str(environment(rival)), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def script_of(rival: Rival) -> Path:
    """The program that serves."""
    return _PEERS / rival.script
