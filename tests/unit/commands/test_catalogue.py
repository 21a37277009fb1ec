"""The catalogue of a ranking and its rules: what each command changes is in the audit log, with what stood before."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.continual.learning.ranking import Item, write_items
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "perennial.toml"
    path.write_text('state = "state"\nrepository = "repository"\n[models.films]\ntask = "ranking"\n')
    catalogue = Workspace(load_settings(path)).items("films")
    catalogue.parent.mkdir(parents=True)
    write_items(catalogue, (Item(name="f1", text="最新恐怖电影"), Item(name="f2", text="A quiet garden")))
    return path


def items(config: Path, *arguments: str) -> Any:
    done = CliRunner().invoke(app, ["items", *arguments, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def audited(config: Path) -> list[tuple[str, Any]]:
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        assert ledger.verify_audit().intact
        entries = ledger.audit_entries("films")
    assert all(entry.actor for entry in entries)
    return [(entry.action, dict(entry.detail)) for entry in entries]


def test_each_change_of_a_rule_is_audited_with_what_stood_before(config: Path) -> None:
    assert items(config, "rule", "calm", "--without", "恐怖", "--dry-run")["items"] == 1
    assert audited(config) == []
    assert items(config, "rule", "calm", "--without", "恐怖")["items"] == 1
    items(config, "rule", "calm", "--without", "恐怖")  # as it is: nothing to tell
    assert items(config, "rule", "calm", "--without", "garden 恐怖", "--segment", "children")["items"] == 2
    assert items(config, "rule", "calm", "--remove")["items"] == 2
    first, second = {"words": ["恐怖"], "segment": ""}, {"words": ["garden", "恐怖"], "segment": "children"}
    assert audited(config) == [
        ("items.rule_stated", {"rule": "calm", "before": None, "after": first}),
        ("items.rule_stated", {"rule": "calm", "before": first, "after": second}),
        ("items.rule_removed", {"rule": "calm", "before": second, "after": None}),
    ]


def test_items_that_come_change_or_go_are_audited(config: Path) -> None:
    more = config.parent / "more.csv"
    more.write_text("item,text\nf2,A loud garden\nf3,new\n")
    assert items(config, "add", str(more))["new"] == 1
    assert items(config, "add", str(more))["same"] == 2
    for undo in ([], [], ["--undo"]):
        items(config, "withdraw", "f2", *undo)
    (added, what), *others = audited(config)
    assert (added, what["added"], what["new"], what["changed"]) == ("items.added", ["f3"], 1, 1)
    texts = {when: item["text"] for when, item in what["changes"]["f2"].items()}
    assert texts == {"before": "A quiet garden", "after": "A loud garden"}
    told = {"items": ["f2"], "changed": 1}
    assert others == [("items.withdrawn", told), ("items.put_back", told)]
