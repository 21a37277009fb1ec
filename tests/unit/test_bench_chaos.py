"""The chaos benchmark's plan and its figures."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from benchmarks import chaos, chaos_harness, record
from benchmarks.chaos import broken, plan, summarise
from benchmarks.chaos_harness import ALIVE, wait_until_right
from benchmarks.chaos_operator import Operator
from benchmarks.chaos_world import Customers
from perennial.continual.cycle import events
from perennial.continual.cycle.events import Command

_UNJOURNALLED = {events.CloseCycle}  # one transaction of the ledger: the runner journals no step for it


def _kill(step: str, phase: str, process: str, seconds: float, wrong: str = "") -> dict[str, object]:
    return {
        "piece": "one",
        "commit": "abc",
        "step": step,
        "phase": phase,
        "process": process,
        "recovered": not wrong,
        "seconds": seconds,
        "champion_is_ledgers": "champion" not in wrong,
        "wrong": wrong,
    }


def _piece(**changed: Any) -> dict[str, Any]:
    piece = {
        "piece": "one",
        "commit": "abc",
        "kills_unjudged": 0,
        "customers_wrong": "",
        "ended": "",
        "feedback": 10,
        "feedback_lost": 0,
        "predictions": 20,
        "predictions_lost": 0,
        "commands": 2,
        "commands_lost": 0,
        "commands_lost_why": [],
        "commands_refused": 0,
        "commands_refused_why": [],
        "failed_requests": 3,
        "cycles": {"promoted": 4},
        "minutes": 1.5,
        "load_average": 1.0,
    }
    return piece | changed


def test_every_process_is_killed_at_both_sides_of_every_command_of_a_cycle():
    points = plan(5)
    assert set(points.values()) == {5}
    assert {point[2] for point in points} == {*ALIVE, "training"}
    for command in set(get_args(Command)) - _UNJOURNALLED:
        for phase in ("intent", "outcome"):
            ended_from_outside = (command, phase) == (events.RequestApproval, "outcome")  # by the operator's command
            here = {p for s, f, p in points if (s, f) == (command.__name__, phase)}
            assert not here if ended_from_outside else here >= set(ALIVE), command
    assert {s for s, _, p in points if p == "training"} == {
        "TrainChallenger", "ExportChallenger", "JudgeChallenger", "StartShadow"
    }  # fmt: skip


def test_points_may_be_chosen():
    assert set(plan(2, "promote/intent").keys()) == {("Promote", "intent", process) for process in ALIVE}
    assert {s for s, _, _ in plan(1, "answer/,restart/")} == {"Answer", "Restart"}


def test_the_figures_count_what_did_not_come_back():
    kills = [
        _kill("Promote", "intent", "control", 3.0),
        _kill("Promote", "intent", "control", 5.0),
        _kill("random", "random", "triton", 90.0, "champion 2 is the ledger's, answers came from [1]"),
    ]
    piece = _piece(feedback_lost=1, predictions_lost=2)
    planned = Counter({("Promote", "intent", "control"): 2, ("Promote", "outcome", "control"): 2})
    results = summarise(kills, [piece, piece], planned)
    assert (results["points"], results["points_planned"], results["kills_per_point_least"]) == (1, 2, 0)
    assert results["points_short"] == {"Promote/outcome/control": "0 of 2"}
    assert (results["kills"], results["kills_at_points"], results["recovered"]) == (3, 2, 2)
    assert results["champions_after_restart"] == {"exactly_the_ledgers": 2, "other": 1}
    assert (results["acknowledged_feedback_lost"], results["answered_predictions_lost"]) == (2, 4)
    assert (results["seconds_to_recover_p50"], results["seconds_to_recover_max"]) == (5.0, 90.0)
    assert results["by_process"]["control"]["kills"] == 2
    assert results["cycles"] == {"promoted": 8}
    assert [kill["process"] for kill in results["not_recovered"]] == ["triton"]
    assert len(broken(results, 2)) == 5


def test_each_promise_that_is_not_kept_is_named():
    planned = Counter({("Promote", "intent", "control"): 1})
    kill = _kill("Promote", "intent", "control", 3.0)

    def broken_promises(repeats: int = 1, kills: list[dict[str, Any]] | None = None, **changed: Any) -> list[str]:
        return broken(summarise([kill] if kills is None else kills, [_piece(**changed)], planned), repeats)

    assert broken_promises() == []
    assert broken_promises(repeats=2) == ["every point has 2 kills"]
    assert broken_promises(kills=[kill | {"recovered": False}]) == ["every kill recovered"]
    assert broken_promises(kills=[kill | {"champion_is_ledgers": False}]) == ["one champion, the ledger's"]
    assert (
        len(broken_promises(predictions_lost=1))
        == len(broken_promises(feedback_lost=1))
        == len(broken_promises(commands_lost=1))
        == 1
    )
    assert len(broken_promises(predictions=0)) == len(broken_promises(feedback=0)) == 1, (
        "a run without answers or labels proves nothing"
    )
    assert len(broken_promises(kills=[])) == 2
    ended = "the customer asking ended early"
    assert broken_promises(customers_wrong=ended) == ["customers asked until the end"]


def test_each_step_tells_how_many_of_its_kills_were_done():
    kills = [_kill("Promote", "intent", "control", 1.0)] * 5 + [_kill("RollBack", "intent", "triton", 1.0)]
    planned = Counter(
        {("Promote", "intent", "control"): 2, ("Promote", "outcome", "engine"): 2, ("RollBack", "intent", "triton"): 1}
    )
    results = summarise(kills, [_piece()], planned)
    assert results["kills_by_step"] == {"Promote": "2 of 4", "RollBack": "1 of 1"}
    assert results["points_short"] == {"Promote/outcome/engine": "0 of 2"}


def test_only_kills_of_pieces_with_a_verdict_count():
    kill, planned = _kill("Promote", "intent", "control", 3.0), Counter({("Promote", "intent", "control"): 2})
    kills = [kill, kill | {"piece": "two", "commit": "def"}]
    results = summarise(kills, [_piece()], planned)
    assert (results["kills"], results["kills_left_out"], results["kills_per_point_least"]) == (1, 1, 1)
    assert results["commits"] == ["abc"]
    second = _piece(piece="two", kills_unjudged=1, ended="KeyboardInterrupt: ")
    results = summarise(kills, [_piece(), second], planned)
    assert (results["kills"], results["kills_left_out"], results["kills_per_point_least"]) == (2, 1, 2)
    assert (results["commits"], results["pieces_interrupted"]) == (["abc", "def"], ["KeyboardInterrupt: "])


class _Nothing:
    """Stands in for what an interrupted piece is made of."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


class _Interrupted(_Nothing):
    def __init__(self, _config: Path, kept: Path, *, piece: str, commit: str) -> None:
        self.kept, self.piece, self.commit, self.unjudged = kept, piece, commit, 1
        self.ledger = self.serving = self.customers = _Nothing()
        self.ledger.cycles = lambda _: ()

    def at_moments(self, *_: object) -> None:
        self.kept.write_text(json.dumps(_kill("Promote", "intent", "control", 1.0) | {"piece": self.piece}) + "\n")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5.0)

    def settle(self) -> str:
        return ""

    def lost(self) -> dict[str, Any]:
        figures = ("feedback", "predictions", "commands")
        return {name: value for name, value in _piece(feedback_lost=1).items() if name.startswith(figures)}


def interrupted(folder: str) -> None:
    """The benchmark with a piece that is told to end in its first kills."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chaos, "Chaos", _Interrupted)
        patch.setattr(chaos, "make_workspace", lambda work: work)
        patch.setattr(chaos, "first_version", lambda *_: None)
        patch.setattr("sys.argv", ["chaos", "--folder", folder])
        chaos.main()


@pytest.mark.slow
def test_a_piece_that_is_told_to_end_still_tells_what_it_lost(tmp_path):
    """In a process of its own: the signal is for the whole of it."""
    code = f"from {__name__} import interrupted; interrupted({str(tmp_path)!r})"
    root = Path(chaos.__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "told to end by SIGTERM")
    (piece,) = [json.loads(line) for line in (tmp_path / "pieces.jsonl").read_text().splitlines()]
    (kill,) = [json.loads(line) for line in (tmp_path / "kills.jsonl").read_text().splitlines()]
    assert kill["piece"] == piece["piece"]
    assert (piece["ended"], piece["feedback_lost"]) == ("SystemExit: told to end by SIGTERM", 1)
    assert (piece["kills_unjudged"], piece["commit"]) == (1, record.commit())


def test_a_customer_that_ended_is_named():
    customers = Customers("127.0.0.1:1", "http://127.0.0.1:1", pause_s=0.001)
    assert customers.ended() == [], "not begun yet"
    dead = threading.Thread(target=lambda: None, name="asking")
    customers._threads[0] = dead
    customers.start()
    dead.join()
    try:
        assert customers.ended() == ["asking"]
    finally:
        customers.stop()


@pytest.mark.parametrize(
    ("ended", "answered_at", "wrong"),
    [
        ([], math.inf, ""),
        ([], 0.0, "no customer is answered"),
        (["asking"], 0.0, "the customer asking ended early"),
    ],
)
def test_a_piece_ends_with_customers_that_work_and_are_answered(monkeypatch, ended, answered_at, wrong):
    monkeypatch.setattr(chaos_harness, "_RECOVERY_S", 0.1)
    monkeypatch.setattr(chaos_harness, "commands_kept", lambda *_: {"commands_lost_why": []})
    piece = object.__new__(chaos_harness.Chaos)
    piece.ledger, piece.operator = _Nothing(), SimpleNamespace(promised=[])
    piece.serving = SimpleNamespace(process=None)
    piece.customers = SimpleNamespace(ended=lambda: ended, last_answer=answered_at, stop=lambda: None)
    assert piece.settle() == wrong


def test_a_command_that_was_refused_is_told_apart_and_is_not_lost():
    kill, planned = _kill("Promote", "intent", "control", 3.0), Counter({("Promote", "intent", "control"): 1})
    piece = _piece(commands_refused=1, commands_refused_why=["command 7: refused: approve does not fit"])
    results = summarise([kill], [piece, _piece()], planned)
    assert (results["acknowledged_commands"], results["acknowledged_commands_lost"]) == (4, 0)
    assert results["acknowledged_commands_refused"] == 1
    assert results["refused_commands"] == ["command 7: refused: approve does not fit"]
    assert broken(results, 1) == []


@pytest.mark.parametrize(
    ("step", "way"),
    [
        ("ReleaseOld", ""),
        ("StartProbation", ""),
        ("RollBack", "RollBackCommand"),
        ("RollBackCommand", "RollBackCommand"),
        ("AbortChallenger", "Abort"),
        ("Abort", "Abort"),
    ],
)
def test_a_cycle_ends_in_the_way_that_leads_to_the_points_that_are_left(step, way):
    operator = Operator(None, "http://127.0.0.1:1")
    try:
        wanted = Counter({("Promote", "intent", "control"): 9, (step, "outcome", "router"): 1})
        assert {operator._end_of(cycle, wanted) for cycle in range(1, 9)} == {way}
    finally:
        operator.close()


def test_a_recovery_is_waited_for_and_what_never_comes_is_told():
    looks = iter(["control process is not healthy", "no answer", ""])
    seconds, wrong = wait_until_right(lambda: next(looks), 5.0, pause_s=0.001)
    assert wrong == ""
    assert seconds < 5.0
    seconds, wrong = wait_until_right(lambda: "no answer", 0.01, pause_s=0.002)
    assert wrong == "no answer"
    assert seconds >= 0.01
