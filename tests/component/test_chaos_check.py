"""The chaos benchmark's looks can see what they are there to see, on a real ledger and a real traffic log."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos_check import Journal, champion_wrong, commands_kept, lost
from perennial.continual.errors import DependencyUnreachable
from perennial.continual.records import Route
from perennial.continual.route import rolled_back
from perennial.ops.ledger import Phase, VersionRow, VersionState
from perennial.ops.store.route_changes import change_route
from tests.component.town import Town

pytestmark = pytest.mark.component


@pytest.fixture
def served(town: Town) -> Town:
    """Version 1 is champion, 2 is resident and takes a share; the route file agrees."""
    town.ledger.add_version(VersionRow(model="intent", version=2, state=VersionState.RESIDENT))
    route = Route(model="intent", epoch=2, champion=1, challenger=2, share=0.2, resident=(1, 2))
    town.ledger.set_route(route, expected_epoch=1, actor="test", reason="a canary")
    town.workspace.write_route(route)
    return town


def _wrong(town: Town, *answers: int) -> str:
    return champion_wrong(town.ledger, town.workspace, lambda: answers)


def test_one_champion_that_answers_is_right(served: Town) -> None:
    assert _wrong(served, 1, 1, 1) == ""
    assert _wrong(served, 1, 2, 1) == "", "the challenger has its share"


def test_an_answer_of_another_version_is_wrong(served: Town) -> None:
    assert "answers came from [1, 3]" in _wrong(served, 1, 3)
    assert "answers came from [2]" in _wrong(served, 2), "the champion answers nobody"
    route = served.ledger.route("intent")
    assert route is not None
    alone = replace(route, epoch=3, challenger=None, share=0.0)
    served.ledger.set_route(alone, expected_epoch=2, actor="test", reason="no canary")
    served.workspace.write_route(alone)
    assert "answers came from [1, 2]" in _wrong(served, 1, 2)


def test_two_champions_or_none_are_wrong(served: Town) -> None:
    served.ledger.set_version_state("intent", 2, VersionState.CHAMPION)
    assert _wrong(served, 1) == "versions [1, 2] are marked champion, the route says 1"
    for version in (1, 2):
        served.ledger.set_version_state("intent", version, VersionState.RESIDENT)
    assert _wrong(served, 1) == "versions [] are marked champion, the route says 1"


def test_a_route_file_behind_the_ledger_is_wrong(served: Town) -> None:
    route = served.ledger.route("intent")
    assert route is not None
    served.ledger.set_route(replace(route, epoch=3, champion=2, challenger=None, share=0.0), expected_epoch=2,
                            actor="test", reason="killed before the file was written")  # fmt: skip
    assert "the route file says" in _wrong(served, 1)


def test_no_answer_is_wrong(served: Town) -> None:
    def ask() -> list[int]:
        raise DependencyUnreachable("nobody is there")

    assert champion_wrong(served.ledger, served.workspace, ask) == "no answer: nobody is there"


def test_what_is_not_in_the_log_or_the_ledger_is_counted_as_lost(town: Town) -> None:
    requests = town.ask(30)
    town.label(requests[:10])
    town.label(requests[10:12], wrong=True)
    ids = [one.prediction_id for one in requests]
    given = {one.prediction_id: one.truth for one in requests[:10]}
    assert lost(town.ledger, town.workspace, ids, given) == {
        "predictions": 30, "predictions_lost": 0, "feedback": 10, "feedback_lost": 0
    }  # fmt: skip
    never = f"{ids[0][:12]}{'f' * 20}"  # an answer of the same moment that nobody logged
    promised = given | {one.prediction_id: one.truth for one in requests[10:13]}  # two kept wrongly, one not at all
    losses = lost(town.ledger, town.workspace, [*ids, never, "no id of ours"], promised)
    assert losses == {"predictions": 32, "predictions_lost": 2, "feedback": 13, "feedback_lost": 3}


def test_a_command_that_was_never_carried_out_is_lost(served: Town) -> None:
    number = served.ledger.request_command("intent", "approve", {}, "ann")
    kept = {"commands": 1, "commands_lost": 0, "commands_lost_why": [], "commands_refused": 0}

    def commands_of(number: int) -> dict[str, Any]:
        return commands_kept(served.ledger, [{"command": number}])

    never = {"commands_lost": 1, "commands_lost_why": [f"command {number} was never carried out"]}
    assert commands_of(number) == kept | never | {"commands_refused_why": []}
    served.ledger.take_commands("intent")
    assert commands_of(number) == kept | never | {"commands_refused_why": []}
    served.ledger.finish_command(number, "done")
    assert commands_of(number) == kept | {"commands_refused_why": []}
    assert commands_of(number + 1)["commands_lost"] == 1, "acknowledged, and the ledger does not know it"


def test_a_command_that_was_refused_is_not_lost(served: Town) -> None:
    number = served.ledger.request_command("intent", "approve", {}, "ann")
    served.ledger.take_commands("intent")
    served.ledger.finish_command(number, "refused: approve does not fit no cycle under way")
    commands = commands_kept(served.ledger, [{"command": number}])
    assert (commands["commands_lost"], commands["commands_refused"]) == (0, 1)
    assert commands["commands_refused_why"] == [f"command {number}: refused: approve does not fit no cycle under way"]


def test_a_rollback_is_kept_when_its_champion_was_set_at_its_epoch(served: Town) -> None:
    back = change_route(served.ledger, served.workspace, "intent", rolled_back(to=2), actor="ann", reason="a test")
    promised = asdict(back.after)
    change_route(served.ledger, served.workspace, "intent", rolled_back(to=1), actor="loop", reason="epochs go on")

    def why(promise: dict[str, Any]) -> list[str]:
        found: list[str] = commands_kept(served.ledger, [promise])["commands_lost_why"]
        return found

    assert why(promised) == []
    assert why(promised | {"champion": 1}) == ["the route of epoch 3 has champion 2, 1 was promised"]
    assert why(promised | {"epoch": 9}) == ["the route of epoch 9 was never set, 2 was promised"]


def test_the_newest_journal_entry_is_seen(town: Town) -> None:
    path = town.ledger.engine.url.database
    assert path is not None
    journal = Journal(Path(path))
    assert journal.newest().number == 0
    cycle = town.ledger.open_cycle("intent", "a test", {})
    first = town.ledger.journal(cycle, "intent", "Promote", Phase.INTENT, {})
    second = town.ledger.journal(cycle, "intent", "Promote", Phase.OUTCOME, {})
    entry = journal.newest()
    assert (entry.number, entry.step, entry.phase) == (second, "Promote", "outcome")
    assert second > first
    journal.close()
