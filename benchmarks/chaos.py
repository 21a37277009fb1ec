"""kill -9 at every journalled step and at random, under load and feedback: what comes back, how soon, what is lost?

    python -m benchmarks.chaos [--repeats 5] [--random-minutes 10] [--points Promote,Train] [--resume]

Cycles run one after the other in a real `perennial serve`; each journal entry that appears is a point, at which one
of the processes is killed: the control process, Triton, its router stub, its engine stub, or the job at work; others
right after a label, a command or an answer was acknowledged, and while a restart is under way. The harness starts
`perennial serve` again, as a service manager would, and nothing else. With `--resume`, kills of earlier runs into the
same folder count: a long run may be taken in pieces (`--minutes`). A piece that is interrupted or fails still tells
what was lost in it; kills of one that could not are left out. The exit code says whether every promise was kept.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.chaos_harness import ALIVE, Chaos, Point
from benchmarks.chaos_world import MODEL, SUBJECTS, make_workspace, requests_about
from perennial.continual.records import Example
from perennial.ops.commands.first_version import first_version

__all__ = ["broken", "main", "plan", "summarise", "with_verdict"]

_STEPS = (
    "TrainChallenger",
    "ExportChallenger",
    "JudgeChallenger",
    "PublishChallenger",
    "StartShadow",
    "RequestApproval",
    "SetShare",
    "Promote",
    "StartProbation",
    "ReleaseOld",
    "RollBack",
    "AbortChallenger",
)  # every command of a cycle but `CloseCycle`, which is one transaction of the ledger and has no step to journal
_JOBS = ("TrainChallenger", "ExportChallenger", "JudgeChallenger", "StartShadow")  # in processes of their own
_MOMENTS: tuple[Point, ...] = (
    ("Answer", "received", "triton"),
    ("Answer", "received", "router"),
    ("Answer", "received", "engine"),
    ("Feedback", "acknowledged", "control"),
    ("Restart", "under way", "control"),
    ("Restart", "under way", "triton"),
    *(
        (command, "acknowledged", process)
        for command in ("Approve", "Abort", "RollBackCommand")
        for process in ("control", "triton")
    ),
)  # what is promised or under way without a journal entry of the cycle


def plan(repeats: int, chosen: str = "") -> Counter[Point]:
    """How often each process is to be killed at each journalled step, and at what is promised beside the journal."""
    journalled = [(step, phase) for step in _STEPS for phase in ("intent", "outcome")]
    journalled.remove(("RequestApproval", "outcome"))  # the operator's word ends that step; it is a moment of its own
    points: list[Point] = [(step, phase, p) for step, phase in journalled for p in ALIVE]
    points += [(step, "intent", "training") for step in _JOBS]
    points += _MOMENTS
    wanted = [part.casefold() for part in chosen.split(",") if part]
    kept = [point for point in points if not wanted or any(part in "/".join(point).casefold() for part in wanted)]
    return Counter(dict.fromkeys(kept, repeats))


def with_verdict(kills: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The kills of pieces of which it is known what they lost."""
    judged = {piece["piece"] for piece in pieces}
    return [kill for kill in kills if kill.get("piece") in judged]


def summarise(
    every: list[dict[str, Any]], pieces: list[dict[str, Any]], planned_points: Counter[Point]
) -> dict[str, Any]:
    """The figures of the benchmark; kills of pieces without a verdict are left out of all but their own count."""
    kills = with_verdict(every, pieces)
    planned = [kill for kill in kills if kill["step"] != "random"]
    done = Counter((kill["step"], kill["phase"], kill["process"]) for kill in planned)
    seconds = [kill["seconds"] for kill in kills]
    by_process = {
        process: {
            "kills": len(mine),
            "seconds_to_recover_p50": float(np.median(mine)),
            "seconds_to_recover_max": max(mine),
        }
        for process in (*ALIVE, "training")
        if (mine := [kill["seconds"] for kill in kills if kill["process"] == process])
    }
    right = sum(kill["champion_is_ledgers"] for kill in kills)
    return {
        "points": len(done),
        "points_planned": len(planned_points),
        "kills_per_point_least": min((done[point] for point in planned_points), default=0),
        "kills_by_step": _by_step(planned_points, done),
        "points_short": {
            "/".join(point): f"{done[point]} of {times}"
            for point, times in planned_points.items()
            if done[point] < times
        },
        "kills": len(kills),
        "kills_at_points": len(planned),
        "kills_random": len(kills) - len(planned),
        "kills_left_out": len(every) - len(kills) + sum(piece["kills_unjudged"] for piece in pieces),
        "recovered": sum(kill["recovered"] for kill in kills),
        "champions_after_restart": {"exactly_the_ledgers": right, "other": len(kills) - right},
        "acknowledged_feedback": sum(piece["feedback"] for piece in pieces),
        "acknowledged_feedback_lost": sum(piece["feedback_lost"] for piece in pieces),
        "answered_predictions": sum(piece["predictions"] for piece in pieces),
        "answered_predictions_lost": sum(piece["predictions_lost"] for piece in pieces),
        "acknowledged_commands": sum(piece["commands"] for piece in pieces),
        "acknowledged_commands_lost": sum(piece["commands_lost"] for piece in pieces),
        "acknowledged_commands_refused": sum(piece["commands_refused"] for piece in pieces),
        "lost_commands": [why for piece in pieces for why in piece["commands_lost_why"]],
        "refused_commands": [why for piece in pieces for why in piece["commands_refused_why"]],
        "failed_requests_while_down": sum(piece["failed_requests"] for piece in pieces),
        "seconds_to_recover_p50": float(np.median(seconds)) if seconds else float("nan"),
        "seconds_to_recover_max": max(seconds, default=float("nan")),
        "by_process": by_process,
        "not_recovered": [kill for kill in kills if not kill["recovered"]],
        "cycles": {
            outcome: sum(piece["cycles"].get(outcome, 0) for piece in pieces)
            for outcome in sorted({name for piece in pieces for name in piece["cycles"]})
        },
        "customers_wrong": [piece["customers_wrong"] for piece in pieces if piece["customers_wrong"]],
        "pieces": len(pieces),
        "pieces_interrupted": [piece["ended"] for piece in pieces if piece["ended"]],
        "commits": sorted({kill["commit"] for kill in kills}),
        "minutes": sum(piece["minutes"] for piece in pieces),
        "load_average": [piece["load_average"] for piece in pieces],
    }


def _by_step(planned_points: Counter[Point], done: Counter[Point]) -> dict[str, str]:
    """The kills at each step's points, of those that were asked for; one beyond a point's number makes up for none."""
    wanted: Counter[str] = Counter()
    had: Counter[str] = Counter()
    for point, times in planned_points.items():
        wanted[point[0]] += times
        had[point[0]] += min(done[point], times)
    return {step: f"{had[step]} of {times}" for step, times in wanted.items()}


def broken(results: dict[str, Any], repeats: int) -> list[str]:
    """Which of the promises do not hold in these figures; empty when all do."""
    promises = {
        f"every point has {repeats} kills": results["kills_per_point_least"] >= repeats,
        "customers asked until the end": not results["customers_wrong"],
        "every kill recovered": results["recovered"] == results["kills"] > 0,
        "one champion, the ledger's": results["champions_after_restart"]["other"] == 0,
        "answers were given, and all are logged": results["answered_predictions_lost"]
        == 0
        < results["answered_predictions"],
        "labels were acknowledged, and all are kept": results["acknowledged_feedback_lost"]
        == 0
        < results["acknowledged_feedback"],
        "commands that were acknowledged are carried out": results["acknowledged_commands_lost"] == 0,
    }
    return [promise for promise, kept in promises.items() if not kept]


def _run_piece(folder: Path, wanted: Counter[Point], minutes: float, random_minutes: float) -> None:
    """A fresh workspace; its kills are appended to `kills.jsonl`, and what was lost in it to `pieces.jsonl`.

    The latter also when the piece is interrupted or fails: only then do its kills count.
    """
    work = folder / "workspace"
    shutil.rmtree(work, ignore_errors=True)
    config = make_workspace(work)
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    chaos = Chaos(config, folder / "kills.jsonl", piece=name, commit=record.commit())
    rows = requests_about(list(SUBJECTS), 200, seed=1)
    now = datetime.now(UTC)
    examples = [Example(text=text, label=label, at=now) for text, label in rows]
    try:
        first_version(chaos.ledger, chaos.workspace, MODEL, examples)
        chaos.serving.start()
        chaos.customers.start()
        begun, ended = time.monotonic(), ""
        try:
            chaos.at_moments(wanted, begun + 60 * minutes)
            chaos.at_every_step(wanted, begun + 60 * minutes)
            chaos.at_random(min(time.monotonic() + 60 * random_minutes, begun + 60 * (minutes + random_minutes)))
        except BaseException as exc:
            ended = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            piece = _verdict(chaos, begun) | {"ended": ended}
            with (folder / "pieces.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(piece) + "\n")
    finally:
        chaos.close()


def _verdict(chaos: Chaos, begun: float) -> dict[str, Any]:
    """What a piece is told by, once all that is under way has ended."""
    minutes, load = (time.monotonic() - begun) / 60, os.getloadavg()[1]
    wrong = chaos.settle()
    outcomes = Counter(str(row.outcome) for row in chaos.ledger.cycles(MODEL) if row.closed_at is not None)
    return {
        "piece": chaos.piece,
        "commit": chaos.commit,
        **chaos.lost(),
        "customers_wrong": wrong,
        "kills_unjudged": chaos.unjudged,
        "cycles": dict(outcomes),
        "minutes": minutes,
        "load_average": load,
    }


def main() -> None:
    """Run it and write `benchmarks/out/chaos.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="kills at each point")
    parser.add_argument("--random-minutes", type=float, default=10.0)
    parser.add_argument("--points", default="", help="only points whose step/phase/process holds one of these words")
    parser.add_argument("--minutes", type=float, default=90.0, help="most time for the kills at points")
    parser.add_argument("--resume", action="store_true", help="add to what earlier runs left in the folder")
    parser.add_argument("--folder", type=Path, default=record.OUT / "chaos")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kills, pieces = folder / "kills.jsonl", folder / "pieces.jsonl"
    if not chosen.resume:
        kills.unlink(missing_ok=True)
        pieces.unlink(missing_ok=True)
    if any("piece" not in piece for piece in _lines(pieces)):
        raise SystemExit(f"{pieces} names no pieces: an older harness wrote it; begin anew, without --resume")
    planned_points = plan(chosen.repeats, chosen.points)
    wanted = Counter(planned_points)
    for kill in with_verdict(_lines(kills), _lines(pieces)):
        point = (kill["step"], kill["phase"], kill["process"])
        if point in wanted:
            wanted[point] -= 1
    signal.signal(signal.SIGTERM, _end)
    _run_piece(folder, wanted, chosen.minutes, chosen.random_minutes)
    results = summarise(_lines(kills), _lines(pieces), planned_points)
    for name, value in results.items():
        print(f"{name:30} {value if not isinstance(value, float) else round(value, 2)}")
    print(record.write("chaos", results))
    if wrong := broken(results, chosen.repeats):
        raise SystemExit(f"not kept: {'; '.join(wrong)}")


def _end(number: int, _: object) -> None:
    """Let the piece tell what was lost in it before the harness ends."""
    sys.exit(f"told to end by {signal.Signals(number).name}")


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
