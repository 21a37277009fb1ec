"""OpenVINO and NNCF report to nobody, however this product imports them; what OpenVINO prepares has a limit."""

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from perennial.exporters import openvino_toolkit

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


class _Core:
    def __init__(self, error: RuntimeError | None) -> None:
        self.error, self.settings = error, dict[str, dict[str, str]]()

    def get_versions(self, device: str) -> dict[str, object]:
        return {device: None}

    def set_property(self, device: str, settings: dict[str, str]) -> None:
        if self.error is not None:
            raise self.error
        self.settings[device] = settings


@pytest.mark.parametrize("error", [None, RuntimeError("unsupported property")])
def test_what_is_prepared_for_shapes_has_a_limit_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError | None
) -> None:
    made = _Core(error)
    monkeypatch.setattr(openvino_toolkit, "import_openvino", lambda: SimpleNamespace(Core=lambda: made))
    assert openvino_toolkit.openvino_core.__wrapped__() is made
    limits = made.settings.get("CPU", {})
    assert limits == ({} if error else {"CPU_RUNTIME_CACHE_CAPACITY": "400"})


@pytest.mark.slow
def test_this_release_of_openvino_takes_the_limit() -> None:
    core = openvino_toolkit.openvino_core()
    core.set_property("CPU", openvino_toolkit._SHAPES)
    with pytest.raises(RuntimeError):
        core.set_property("CPU", {"NO_SUCH_PROPERTY": "400"})
