import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import record


def test_write_names_commit_and_machine_beside_the_results(tmp_path: Path) -> None:
    path = record.write("demo", {"arms": [{"accuracy": np.float32(0.5), "rows": np.arange(3)}]}, tmp_path)
    document = json.loads(path.read_text())
    assert path == tmp_path / "demo.json"
    assert document["results"] == {"arms": [{"accuracy": 0.5, "rows": [0, 1, 2]}]}
    assert {"cpu", "cores", "memory_gib", "flags", "python", "versions"} <= set(document["machine"])
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["versions"]["numpy"] == np.__version__
    assert document["commit"]


def test_write_turns_what_is_not_finite_into_null(tmp_path: Path) -> None:
    path = record.write("demo", {"a": float("nan"), "b": [np.inf, 1.0], "p": tmp_path}, tmp_path)
    assert json.loads(path.read_text())["results"] == {"a": None, "b": [None, 1.0], "p": str(tmp_path)}


def test_write_replaces_the_last_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    record.write("demo", {"a": 1}, tmp_path)
    record.write("demo", {"a": 2}, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["demo.json"]
    assert json.loads((tmp_path / "demo.json").read_text())["results"] == {"a": 2}


def test_import_pulls_in_no_heavy_package() -> None:
    code = "import sys, benchmarks.record; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
