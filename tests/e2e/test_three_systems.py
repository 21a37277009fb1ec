"""The three recipes in one workspace: one person asks all three models, and is erased from them at once."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.continual.tasks.opinion import Headline
from perennial.continual.tasks.replies import Message
from perennial.exporters.ranking.asked import Asked
from perennial.ops.recipes import RECIPES
from perennial.ops.serving.client import PerennialClient
from tests.e2e.conftest import requests_about
from tests.e2e.test_opinion import told
from tests.e2e.test_ranking import ITEMS, first_events
from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
_TINY = """
[models.{name}.learning]
encoder = "{{encoder}}"
max_length = 32
insist_on_encoder = true
[models.{name}.learning.params]
features = 256
lexical = 256
"""
_TASKS = {"opinion": "opinion", "recommendation": "ranking", "service": "replies"}
WHO = "reader-001"


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Iterator[E2eWorkspace]:
    """One folder with the files of all three, one workspace with their models, and the service."""
    folder = tmp_path_factory.mktemp("three")
    settings = SERVED_TOML + '[traffic]\nrotate_s = 0.5\n[models.recommendation]\ntask = "ranking"\n'
    settings += "[models.recommendation.learning.params]\nridge = 5.0\n"
    for name in ("opinion", "service"):
        settings += f'[models.{name}]\ntask = "{_TASKS[name]}"' + _TINY.format(name=name)
    made = E2eWorkspace.written(folder, settings, encoder=tiny_encoder)
    _table(folder / "headlines.csv", ("text", "label"), told(200, seed=1))
    _table(folder / "events.csv", ("user", "item", "at"), first_events())
    _table(folder / "items.csv", ("item", "title"), [(item, item) for item in ITEMS])
    asked = requests_about(["card", "loan", "trip"], 90, seed=1)
    _table(folder / "replies.csv", ("question", "reply", "intent"), [(q, f"About your {i}.", i) for q, i in asked])
    for name in RECIPES:
        (model,) = made.here("init", "--recipe", name, "--data", str(folder))["models"]
        assert (model["model"], model["version"]) == (name, 1)
    with made.serving():
        yield made


def _ask(place: E2eWorkspace, name: str, question: Any) -> Any:
    """Its answer; where all processors are busy, a connection may take longer than gRPC waits for one."""
    answers = list[Any]()

    def is_answered() -> bool:
        with (
            suppress(DependencyUnreachable),
            PerennialClient(f"127.0.0.1:{place.grpc}", name, task=_TASKS[name]) as client,
        ):
            answers.extend(client.predict([question], [WHO]) if name == "opinion" else client.predict([question]))
        return bool(answers)

    wait_for(is_answered, 120, f"an answer of {name}")
    (answer,) = answers
    return answer


def test_one_workspace_answers_for_all_three_and_forgets_a_person_in_all(place: E2eWorkspace) -> None:
    sentiment = _ask(place, "opinion", Headline(text=told(1, seed=9)[0][0], source="desk"))
    assert (sentiment.label in {"positive", "negative", "neutral"}, sentiment.version) == (True, 1)
    listed = _ask(place, "recommendation", Asked(user=WHO, count=5))
    assert (len(listed.items), listed.version) == (5, 1)
    replied = _ask(place, "service", Message(text=requests_about(["loan"], 1, seed=5)[0][0], customer=WHO))
    assert (replied.replies[0], replied.version) == ("About your loan.", 1)
    served = httpx.get(f"http://127.0.0.1:{place.api}/healthz/ready", timeout=20).json()["serving"]
    assert served == dict.fromkeys(RECIPES, "ok")

    def planned() -> dict[str, int]:
        models = place.here("erase", "--key", WHO, "--dry-run")["models"]
        return {name: int(model["traffic_rows"]) for name, model in models.items()}

    wait_for(lambda: planned() == dict.fromkeys(RECIPES, 1), 20, "the questions to be in each model's log")
    receipt = place.here("erase", "--key", WHO)
    assert (receipt["complete"], receipt["search"]["left"]) == (True, [])
    assert planned() == dict.fromkeys(RECIPES, 0)
    wait_for(lambda: _ask(place, "recommendation", Asked(user="reader-002", count=5)).version >= 1, 20, "an answer")
    assert httpx.get(f"http://127.0.0.1:{place.api}/healthz", timeout=20).json()["triton"]["restarts"] == 0
