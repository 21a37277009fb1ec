"""`perennial learn` on files alone: two learners compared, and a sweep that goes on."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, DataError
from perennial.ops.cli.main import app
from tests.e2e.conftest import requests_about
from tests.e2e.workspace import write_csv

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def files(tmp_path: Path, tiny_encoder: Path) -> list[str]:
    """The options that all commands here share."""
    data = write_csv(tmp_path / "rows.csv", requests_about(["card", "loan", "trip"], 300, seed=1))
    return ["--data", str(data), "--encoder", str(tiny_encoder), "--out", str(tmp_path / "out"), "--json"]


def cli(*arguments: str) -> Any:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_learners_are_trained_and_compared_on_rows_that_none_has_seen(files: list[str], tmp_path: Path) -> None:
    test = write_csv(tmp_path / "test.csv", requests_about(["card", "loan", "trip", "fees"], 200, seed=2))
    results = cli("learn", "run", *files, "--learner", "kernel_lda", "--learner", "naive", "--test", str(test))
    closed, naive = results
    assert (closed["learner"], naive["learner"]) == ("kernel_lda", "naive")
    assert closed["rows"] == naive["rows"] == 200
    assert closed["unknown_class_rows"] == 50
    assert 0.6 < closed["accuracy"] <= 0.75  # a quarter of the rows is of a class that nobody has learnt
    assert "gain" in naive
    assert "gain" not in closed
    assert (tmp_path / "out" / "naive" / "encoder" / "model.safetensors").is_file()


def test_sweep_is_kept_and_goes_on(files: list[str], tmp_path: Path) -> None:
    options = ["learn", "sweep", *files, "--params", '{"features": 100, "lexical": 100}']
    first = cli(*options, "--trials", "2")
    more = cli(*options, "--trials", "3")
    assert more["trials"][:2] == first["trials"]
    assert len(more["trials"]) == 3
    assert more["best"]["params"].keys() == {"features", "gamma", "lexical", "shrinkage", "words"}
    assert (tmp_path / "out" / "sweep.db").is_file()


def test_wrong_options_are_named(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not JSON"):
        cli("learn", "run", *files, "--params", "{")
    with pytest.raises(ConfigurationError, match="strategy 'magic'"):
        cli("learn", "run", *files, "--learner", "magic")
    with pytest.raises(DataError, match="does not exist"):
        cli("learn", "run", *files, "--test", str(tmp_path / "none.csv"))
