"""OpenVINO and NNCF report to nobody, however they are imported by this product."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.slow
def test_one_module_alone_imports_them() -> None:
    found = [
        str(path.relative_to(ROOT))
        for room in ("continual", "exporters", "ops", "benchmarks", "tests")
        for path in (ROOT / room).rglob("*.py")
        if "out" not in path.parts and _imported(path) & {"openvino", "nncf"}
    ]
    assert found == []


@pytest.mark.slow
def test_what_sends_reports_is_never_loaded() -> None:
    """Both ask for it, in a process of their own, as an export and an engine do."""
    code = (
        "import sys\n"
        "from perennial.exporters.openvino_toolkit import import_nncf, import_openvino\n"
        "assert import_openvino().Core().available_devices\n"
        "assert import_nncf().ModelType.TRANSFORMER\n"
        "print([name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
