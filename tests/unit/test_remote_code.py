"""Nobody's code comes in with a model: no call of transformers may run what lies in a model's folder."""

import ast
import json
from pathlib import Path

import pytest

from perennial.continual.errors import PerennialError
from perennial.continual.learning.encoder import Encoder

ROOT = Path(__file__).parents[2]
_LOADERS = {"from_pretrained", "from_config", "pipeline"}
_OTHERS = "ScriptDirectory"  # alembic's


def _calls() -> list[tuple[str, ast.Call]]:
    found = []
    for room in ("continual", "exporters", "ops", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
                if isinstance(node, ast.Call) and name in _LOADERS and not ast.unparse(node.func).startswith(_OTHERS):
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_every_loader_forbids_remote_code() -> None:
    calls = _calls()
    assert len(calls) >= 4
    allowed = [
        where
        for where, call in calls
        if not any(
            given.arg == "trust_remote_code" and isinstance(given.value, ast.Constant) and given.value.value is False
            for given in call.keywords
        )
    ]
    assert allowed == []


def test_an_encoder_that_brings_code_is_refused_and_its_code_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    mark = tmp_path / "ran"
    (folder / "modeling_evil.py").write_text(
        f"from pathlib import Path\nPath({str(mark)!r}).write_text('ran')\n"
        "from transformers import BertModel, BertConfig\n"
        "class Evil(BertModel): pass\nclass EvilConfig(BertConfig): pass\n"
    )
    configuration = {
        "model_type": "evil",
        "hidden_size": 8,
        "auto_map": {"AutoConfig": "modeling_evil.EvilConfig", "AutoModel": "modeling_evil.Evil"},
    }
    (folder / "config.json").write_text(json.dumps(configuration))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PerennialError):
        Encoder.load(str(folder))
    assert not mark.exists()
