"""What jobs have loaded before they begin: what they need, and nothing that only holds memory or reports to others."""

import json
import subprocess
import sys

import pytest

from perennial.ops.making import begun_ahead, challenger

_UNUSED = ("openvino_telemetry", "pandas", "pyarrow", "pydantic", "sqlalchemy", "torch", "alembic", "scipy.stats")


def _loaded(modules: tuple[str, ...]) -> set[str]:
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps([name for name, module in sys.modules.items() if module is not None]))\n"
    )
    command = [sys.executable, "-c", code, json.dumps(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_what_waits_for_a_closed_forms_jobs_holds_nothing_that_they_do_not_use() -> None:
    loaded = _loaded(challenger.JOB_MODULES)
    assert loaded >= {"openvino", "onnxruntime", "perennial.ops.making.judging"}
    assert [name for name in _UNUSED if name in loaded] == []


@pytest.mark.parametrize("modules", [challenger.JOB_MODULES, begun_ahead._MODULES])
def test_openvino_is_loaded_by_the_way_that_reports_nothing(modules: tuple[str, ...]) -> None:
    assert "perennial.exporters.openvino_ahead" in modules
    assert not {"openvino", "nncf"} & set(modules)
