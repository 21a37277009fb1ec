from pathlib import Path

import pytest

from perennial.exporters.triton_config import EngineBackend
from perennial.ops.app.wiring import engine_spec, open_parts, router_spec, stream_spec
from perennial.ops.ledger import Ledger
from perennial.ops.serving.router.router import RouterSettings
from perennial.ops.settings import load_settings

_TOML = """
[triton]
challenger_limit_s = 0.5
champion_limit_s = 4.0
[traffic]
rotate_rows = 77
[models.intent]
"""


def test_the_router_works_by_the_workspaces_settings(tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(_TOML)
    parts = open_parts(config)
    try:
        spec = router_spec(parts, "intent")
    finally:
        parts.close()
    read = RouterSettings.from_parameters("intent", spec.parameters)
    assert (read.challenger_limit_s, read.champion_limit_s, read.rotate_rows) == (0.5, 4.0, 77)
    assert read.route_path == parts.workspace.route_file("intent").resolve()


def test_what_no_native_backend_can_run_has_our_own(tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(
        '[triton]\nurl = "127.0.0.1:9"\nengine_backend = "onnxruntime"\n'
        '[models.intent]\n[models.tell]\ntask = "generation"\n'
    )
    parts = open_parts(config)
    try:
        backends = {model: engine_spec(parts, model).backend for model in ("intent", "tell")}
    finally:
        parts.close()
    assert backends == {"intent": EngineBackend.ONNXRUNTIME, "tell": EngineBackend.PERENNIAL}


@pytest.mark.parametrize(("instances", "lets_go"), [(1, True), (2, False)])
def test_an_engine_is_let_go_of_where_one_question_wakes_all_its_processes(
    tmp_path: Path, instances: int, lets_go: bool
) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(f'[triton]\nurl = "127.0.0.1:9"\nengine_instances = {instances}\n[models.intent]\n')
    parts = open_parts(config)
    try:
        parameters = engine_spec(parts, "intent").parameters
        route = str(parts.workspace.route_file("intent").resolve())
    finally:
        parts.close()
    assert parameters.get("route_path") == (route if lets_go else None)


def test_a_model_of_rewrites_whose_section_cannot_be_used_is_served_by_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text('[models.intent]\n[models.desk]\ntask = "generation"\nlearning = {holdout_share = 0.9}\n')
    parts = open_parts(config)
    try:
        assert set(parts.settings.refused) == {"desk"}
        router, streams = router_spec(parts, "desk"), stream_spec(parts, "desk")
    finally:
        parts.close()
    assert streams is not None
    assert (streams.model, streams.parameters["streams"]) == ("desk_stream", "8")
    assert RouterSettings.from_parameters("desk", router.parameters).champion_limit_s == 60.0


def test_models_that_the_ledger_alone_knows_keep_their_tasks(tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text("")
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        for name, task in {"shelf": "ranking", "intent": "text_classification", "later": "of a later release"}.items():
            ledger.register_model(name, {"task": task})
        ledger.register_model("old", {})
    parts = open_parts(config)
    try:
        tasks = {name: parts.settings.task_of(name) for name in parts.settings.models}
    finally:
        parts.close()
    others = dict.fromkeys(("intent", "later", "old"), "text_classification")
    assert tasks == {"shelf": "ranking", **others}
