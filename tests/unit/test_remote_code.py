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


def _calls(code: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in _LOADERS
        and not ast.unparse(node.func).startswith(_OTHERS)
    ]


def _forbids(call: ast.Call) -> bool:
    return any(
        given.arg == "trust_remote_code" and isinstance(given.value, ast.Constant) and given.value.value is False
        for given in call.keywords
    )


@pytest.mark.parametrize(
    ("code", "forbids"),
    [
        ("AutoModel.from_pretrained(folder, trust_remote_code=False)", [True]),
        ("AutoModel.from_pretrained(folder)", [False]),
        ("AutoModel.from_config(config, trust_remote_code=wanted)", [False]),
        ("pipeline('fill-mask', trust_remote_code=True)", [False]),
        ("ScriptDirectory.from_config(config)", []),
    ],
)
def test_a_loader_is_seen_and_whether_it_forbids_remote_code(code: str, forbids: list[bool]) -> None:
    assert [_forbids(call) for call in _calls(code)] == forbids


def test_one_file_loads_models_another_goes_out_with_them_and_every_loader_forbids_remote_code() -> None:
    found = {
        str(path.relative_to(ROOT)): calls
        for room in ("continual", "exporters", "ops", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
        if (calls := _calls(path.read_text(encoding="utf-8")))
    }
    given_away = "exporters/hugging_face/given/perennial_classifier.py"
    assert set(found) == {"continual/learning/encoder_model.py", given_away}
    assert [ast.unparse(call) for calls in found.values() for call in calls if not _forbids(call)] == []


@pytest.mark.slow
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
