"""Every call we make to TensorRT type-checks strictly against the listings of 10.16, of 11.4 and of RTX 1.7."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.tensorrt_listing import EVERY, VERSIONS
from tests.doubles.tensorrt_stubs import write_stubs

pytestmark = pytest.mark.component
ROOT = Path(__file__).parents[2]
_SETTINGS = """[mypy]
strict = True
python_version = 3.11
mypy_path = {stubs}
cache_dir = {cache}
warn_unreachable = True
[mypy-torch.*,onnx.*]
follow_imports = skip
[mypy-torch,onnx]
follow_imports = skip
[mypy-perennial.*]
follow_imports = silent
[mypy-nncf.*,onnxruntime.*,openvino.*]
ignore_missing_imports = True
"""
_WRONG = {
    "removed flag": "config.set_flag(trt.BuilderFlag.FP16)",
    "removed calibrator": "config.int8_calibrator = None",
    "unknown argument": "config.set_timing_cache(config.create_timing_cache(b''), ignore_mismatches=False)",
    "wrong enum": "config.set_flag(trt.MemoryPoolType.WORKSPACE)",
    "none unlooked at": "bytes(builder.build_serialized_network(network, config))",
}


def _mypy(stubs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = stubs / "mypy.ini"
    settings.write_text(_SETTINGS.format(stubs=stubs, cache=stubs / "cache"), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=200, check=False)


def test_a_wrong_call_in_our_own_code_is_found(tmp_path: Path) -> None:
    write_stubs(tmp_path, VERSIONS[-1])
    ours = (ROOT / "exporters" / "tensorrt" / "builder.py").read_text(encoding="utf-8")
    mutant = tmp_path / "mutant.py"
    mutant.write_text(ours.replace("config.set_memory_pool_limit(", "config.set_memory_limit("), encoding="utf-8")
    assert "set_memory_limit" in _mypy(tmp_path, str(mutant)).stdout


@pytest.mark.parametrize("version", EVERY)
def test_our_calls_agree_with_the_listing(version: str, tmp_path: Path) -> None:
    stub = write_stubs(tmp_path, version)
    assert _mypy(tmp_path, str(stub)).stdout.startswith("Success")
    done = _mypy(tmp_path, "exporters/tensorrt")
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.py"
    head = (
        "import tensorrt as trt\nbuilder = trt.Builder(trt.Logger())\nconfig = builder.create_builder_config()\n"
        "network = builder.create_network()\n"
    )
    wrong.write_text(head + "\n".join(_WRONG.values()) + "\n", encoding="utf-8")
    lines = [line for line in _mypy(tmp_path, str(wrong)).stdout.splitlines() if "error:" in line]
    refused = {int(line.split(":")[1]) - 5 for line in lines}
    allowed_in_10 = {"removed flag", "removed calibrator"} if version.startswith("10.") else set()
    assert {name for index, name in enumerate(_WRONG) if index in refused} == set(_WRONG) - allowed_in_10
