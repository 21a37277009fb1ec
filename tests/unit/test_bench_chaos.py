"""The chaos benchmark's plan and its figures."""

from collections import Counter

from benchmarks.chaos import plan, summarise


def _kill(step: str, phase: str, process: str, seconds: float, wrong: str = "") -> dict[str, object]:
    return {
        "step": step,
        "phase": phase,
        "process": process,
        "recovered": not wrong,
        "seconds": seconds,
        "champion_is_ledgers": "champion" not in wrong,
        "wrong": wrong,
    }


def test_every_process_is_killed_at_every_journalled_step():
    points = plan(5)
    assert set(points.values()) == {5}
    assert {point[2] for point in points} == {"control", "triton", "router", "engine", "training"}
    for step in ("TrainChallenger", "ExportChallenger", "JudgeChallenger", "PublishChallenger", "Promote"):
        for phase in ("intent", "outcome"):
            assert {p for s, f, p in points if (s, f) == (step, phase)} >= {"control", "triton", "router", "engine"}
    assert set(plan(2, "promote/intent,training").keys()) == {
        *(("Promote", "intent", process) for process in ("control", "triton", "router", "engine")),
        *((step, "intent", "training") for step in ("TrainChallenger", "ExportChallenger", "JudgeChallenger")),
    }


def test_the_figures_count_what_did_not_come_back():
    kills = [
        _kill("Promote", "intent", "control", 3.0),
        _kill("Promote", "intent", "control", 5.0),
        _kill("random", "random", "triton", 90.0, "champion 2 is the ledger's, answers came from [1]"),
    ]
    piece = {
        "feedback": 10,
        "feedback_lost": 1,
        "predictions": 20,
        "predictions_lost": 2,
        "failed_requests": 3,
        "cycles": {"promoted": 4},
        "load_average": 1.0,
    }
    asked = Counter({("Promote", "intent", "control"): 2, ("Promote", "outcome", "control"): 2})
    told = summarise(kills, [piece, piece], asked)
    assert (told["points"], told["points_planned"], told["kills_per_point_least"]) == (1, 2, 0)
    assert (told["kills"], told["kills_at_points"], told["recovered"]) == (3, 2, 2)
    assert told["champions_after_restart"] == {"exactly_the_ledgers": 2, "other": 1}
    assert (told["acknowledged_feedback_lost"], told["answered_predictions_lost"]) == (2, 4)
    assert (told["seconds_to_recover_p50"], told["seconds_to_recover_max"]) == (5.0, 90.0)
    assert told["by_process"]["control"]["kills"] == 2
    assert told["cycles"] == {"promoted": 8}
    assert [kill["process"] for kill in told["not_recovered"]] == ["triton"]
