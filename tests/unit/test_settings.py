"""Settings: where they come from, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError, NotFound
from perennial.ops.settings import ModelSettings, Settings, load_settings
from perennial.ops.store.workspace import Workspace


def write(folder: Path, content: str) -> Path:
    path = folder / "perennial.toml"
    path.write_text(content)
    return path


def test_settings_have_defaults_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.models == {}
    assert settings.triton.host == "127.0.0.1"
    assert settings.state == tmp_path / "var"
    assert settings.ledger_address == f"sqlite:///{tmp_path / 'var' / 'ledger.db'}"


def test_a_model_names_its_task_and_classifies_texts_where_it_names_none(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, '[models.intent]\n[models.films]\ntask = "ranking"\n'))
    assert {name: model.task for name, model in settings.models.items()} == {
        "intent": "text_classification",
        "films": "ranking",
    }


def test_a_model_is_learnt_by_a_learner_of_its_task(tmp_path: Path) -> None:
    content = '[models.films]\ntask = "ranking"\n[models.films.learning]\nreplay_rows = 5\n[models.intent]\n'
    settings = load_settings(write(tmp_path, content))
    assert settings.models["films"].learning.learner == "item_gram"
    assert settings.models["films"].learning.replay_rows == 5
    assert settings.models["intent"].learning.learner == "auto"
    with pytest.raises(ConfigurationError, match=r"'ridge' makes no models of task 'ranking'; use one of item_gram"):
        load_settings(write(tmp_path, '[models.films]\ntask = "ranking"\nlearning.learner = "ridge"\n'))
    with pytest.raises(ConfigurationError, match=r"'item_gram' makes no models of task 'text_classification'"):
        load_settings(write(tmp_path, '[models.intent.learning]\nlearner = "item_gram"\n'))


def test_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'state = "here"\n'))
    assert settings.state == tmp_path / "here"


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERENNIAL_TRITON__GRPC_PORT", "9001")
    settings = load_settings(write(tmp_path, "[triton]\ngrpc_port = 7001\nhttp_port = 7000\n"))
    assert (settings.triton.grpc_port, settings.triton.http_port) == (9001, 7000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[triton]\ngrpc_prt = 1\n", "triton.grpc_prt"),
        ("[triton]\ngrpc_port = 99999\n", r"seen 99999"),
        ("[models.intent.learning]\nholdout_share = 0.9\n", "holdout_share"),
        ('[models."bad name"]\n', "must be 1 to 100 letters, digits"),
        (f"[models.{'a' * 5_000}]\n", "is not allowed; it must be 1 to 100 letters"),
        (
            '[models.intent]\ntask = "image"\n',
            "task 'image' is unknown; use one of generation, image_classification, opinion, ranking, replies",
        ),
        ('[models.intent]\npolicy = { kind = "frobnicate" }\n', "policy has kind 'frobnicate'; allowed are"),
        ('[models.intent]\npolicy = { kind = ["drift"] }\n', r"policy has kind \['drift'\]"),
        ('[models.intent]\npolicy = { kind = "feedback_count", at_least = -1 }\n', "must be at least 1"),
        ('[models.intent]\npolicy = { kind = "feedback_count", at_least = true }\n', "it must be a whole number"),
        ('[models.intent]\npolicy = { kind = "schedule", cron = 5 }\n', "policy.cron is 5; it must be a text"),
        ('[models.intent]\npolicy = { kind = "drift", limits = { cooldown_s = nan } }\n', "it must be a number"),
        ('[models.intent]\npolicy = { kind = "drift", limits = { cooldown_s = "9" } }\n', "cooldown_s is '9'"),
        ('[models.intent]\npolicy = { kind = "drift", limits = { cooldown_s = 1e300 } }\n', "at most 10,000,000,000"),
        ('[models.intent]\npolicy = { kind = "drift", limits = { dry_run = "false" } }\n', "true or false"),
        ('[models.intent]\npolicy = { kind = "drift", limits = { quiet_hours = "22-6" } }\n', "it must be a table"),
        (
            '[models.intent]\npolicy = { kind = "drift", limits = { quiet_hours = { start = 22, end = 6 } } }\n',
            "must be a time",
        ),
        ("[models.intent_engine]\n", "must not end in '_engine'"),
        ("this is not toml", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_seen(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_settings(write(tmp_path, content))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist; run `perennial init`"):
        load_settings(tmp_path / "nowhere.toml")


def test_an_unknown_model_is_told_the_known_ones() -> None:
    with pytest.raises(NotFound, match="model 'sentiment' is not in the settings; they name intent"):
        Workspace(Settings(models={"intent": {}})).model("sentiment")


@pytest.mark.parametrize(
    ("task", "served_by"),
    [('"ranking"', "ranking"), ('"text_classification"', "text_classification"), ('"rank"', "text_classification")],
)
def test_a_model_whose_section_is_refused_is_served_by_the_task_that_it_names(
    tmp_path: Path, task: str, served_by: str
) -> None:
    bad = f"[models.bad]\ntask = {task}\n[models.bad.learning]\nholdout_share = 0.9\n"
    settings = load_settings(write(tmp_path, f"[models.good]\n{bad}"))
    assert settings.refused["bad"].task == settings.task_of("bad") == served_by
    assert settings.with_models(settings.models, settings.refused).task_of("bad") == served_by


def test_a_bad_section_is_put_aside_and_keeps_no_other_model_from_being_used(tmp_path: Path) -> None:
    bad = "[models.bad.learning]\nholdout_share = 0.9\n[models.bad_engine]\n[models.Good]\n"
    settings = load_settings(write(tmp_path, f"[models.good.learning]\nthreads = 1\n{bad}"))
    assert {name: model.learning.threads for name, model in settings.models.items()} == {"good": 1}
    assert "models.bad.learning.holdout_share: " in settings.refused["bad"].problem
    assert "differs from 'good' by its case alone" in settings.refused["Good"].problem
    assert set(settings.refused) == {"bad", "bad_engine", "Good"}
    with pytest.raises(ConfigurationError, match=r"settings of model bad cannot be used: models\.bad\.learning"):
        Workspace(settings).model("bad")


_PRIVATE: dict[str, dict[str, Any]] = {
    "learning": {"learner": "kernel_lda", "encoder": "packaged:minilm"},
    "engine": {"precision": "fp32"},
    "privacy": {"epsilon": 8.0},
}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"learning": {"learner": "ridge", "encoder": "packaged:minilm"}}, "'ridge' has no noise"),
        ({"learning": {"learner": "kernel_lda"}}, "needs an encoder that is named"),
        ({"engine": {}}, "engine.precision 'auto' may be one that is; set fp32"),
        ({"privacy": {"epsilon": 8.0, "version_epsilon": 9.0}}, "version_epsilon 9 is above privacy.epsilon 8"),
        ({"task": "replies"}, "and this one is of 'replies'"),
    ],
)
def test_a_promise_of_privacy_beside_what_breaks_it_is_refused(changed: dict[str, Any], told: str) -> None:
    assert ModelSettings.model_validate(_PRIVATE).privacy.by == "sums"
    with pytest.raises(ValueError, match=told):
        ModelSettings.model_validate({**_PRIVATE, **changed})
