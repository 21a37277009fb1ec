"""The swap benchmark's verdict, on streams of answers whose faults are known."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.swap import RouteEye
from benchmarks.swap_load import Answers, read_answers
from benchmarks.swap_verdict import Flip, Run, judge
from benchmarks.swap_world import Table
from perennial.continual.atomic_file import write_atomically

_TABLE = Table(texts=["a", "b"], labels=["x", "y"], labels_of_version={1: [0, 1], 2: [1, 1]})


def _run() -> Run:
    """Version 1, then 2 from second 10 on, then 1 again from second 20 on; each command takes 20 ms."""
    flips = [
        Flip(started=10.0, ended=10.02, version=2, rollback=False),
        Flip(started=20.0, ended=20.02, version=1, rollback=True),
    ]
    memory = [{"total": 100.0 + 0.5 * n, "control": 50.0, "triton": 50.0 + 0.5 * n} for n in range(40)]
    return Run(first=1, flips=flips, memory=memory)


def _answers(rows: list[tuple[float, float, int, int, int]], errors: tuple[str, ...] = ()) -> Answers:
    columns = list(zip(*rows, strict=True))
    return Answers(
        sent=np.asarray(columns[0]),
        received=np.asarray(columns[1]),
        text=np.asarray(columns[2]),
        version=np.asarray(columns[3]),
        label=np.asarray(columns[4]),
        grpc=np.ones(len(rows), dtype=bool),
        errors=list(errors),
    )


def test_a_clean_run_has_no_fault_and_its_times_are_those_of_the_stream():
    rows = [(t, t + 0.01, 0, 1, 0) for t in np.arange(6.0, 9.9, 0.1)]
    rows += [(9.99, 10.03, 0, 1, 0), (10.01, 10.045, 0, 2, 1)]
    rows += [(t, t + 0.01, 0, 2, 1) for t in np.arange(10.5, 19.9, 0.1)]
    rows += [(20.0, 20.03, 0, 1, 0)]
    figures = judge(_answers(rows), _run(), _TABLE)
    assert (figures["failed"], figures["wrong_version"], figures["wrong_label"]) == (0, 0, 0)
    assert figures["requests"] == len(rows)
    assert figures["rollback_ms_max"] == pytest.approx(30.0)
    assert figures["promote_ms_max"] == pytest.approx(45.0)
    assert figures["p99_ms_steady"] == pytest.approx(10.0)
    assert figures["p99_ms_swap"] > 30.0
    assert figures["rss_slope_mb_per_100_swaps"] == pytest.approx(50.0)


@pytest.mark.parametrize(
    ("sent", "received", "window"),
    [
        (9.9, 10.5, "swap"),  # under way before the command and after its window: the command held it up
        (9.0, 13.0, "swap"),
        (9.9, 9.96, "swap"),
        (10.3, 11.0, "swap"),
        (9.9, 9.94, "steady"),
        (10.36, 11.0, "steady"),
    ],
)
def test_a_request_counts_to_a_swap_when_any_part_of_it_lies_in_the_window(sent, received, window):
    calm, slow = 1e3 * 0.01, 1e3 * (received - sent)
    rows = [(t, t + 0.01, 0, 1, 0) for t in (7.0, 7.1, 10.01)] + [(sent, received, 0, 2, 1)]
    figures = judge(_answers(sorted(rows, key=lambda row: row[1])), _run(), _TABLE)
    other = {"swap": "steady", "steady": "swap"}[window]
    assert figures[f"max_ms_{window}"] == figures[f"p99_ms_{window}"] == pytest.approx(slow)
    assert figures[f"max_ms_{other}"] == figures[f"p99_ms_{other}"] == pytest.approx(calm)


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ((12.0, 12.01, 0, 1, 0), 1),  # the old version, two seconds after the promotion
        ((8.0, 8.01, 0, 2, 1), 1),  # the new one before it
        ((9.5, 10.3, 0, 1, 0), 0),  # champion when it was asked for
        ((9.5, 10.3, 0, 2, 1), 0),  # champion when it came
        ((10.01, 10.015, 0, 1, 0), 0),  # within the command both may answer
        ((9.0, 21.0, 0, 2, 1), 1),  # champion only in between
    ],
)
def test_an_answer_of_a_version_that_was_not_champion_is_counted(row, wrong):
    assert judge(_answers([(7.0, 7.01, 0, 1, 0), row]), _run(), _TABLE)["wrong_version"] == wrong


def test_a_label_that_its_version_does_not_say_is_counted():
    rows = [(7.0, 7.01, 0, 1, 0), (7.1, 7.11, 0, 1, 1), (7.2, 7.21, 1, 1, -2), (12.0, 12.01, 1, 2, 1)]
    assert judge(_answers(rows), _run(), _TABLE)["wrong_label"] == 2


def test_a_failure_is_counted_and_told():
    figures = judge(_answers([(7.0, 7.01, 0, 1, 0), (8.0, 8.5, 0, -1, -1)], ("refused",)), _run(), _TABLE)
    assert (figures["failed"], figures["failures"], figures["wrong_version"]) == (1, ["refused"], 0)


def test_the_worst_rollback_is_taken_apart():
    rows = [(19.99, 20.01, 0, 2, 1), (20.012, 20.042, 0, 1, 0)]
    run = _run()
    run.flips[1] = replace(run.flips[1], visible=20.005)
    answers = replace(_answers(rows), stalls=np.asarray([[3.0, 0.9], [20.02, 0.011], [20.5, 0.3]]))
    figures = judge(answers, run, _TABLE)
    assert figures["worst_rollbacks"] == [
        {
            "first_answer_ms": 42.0,
            "command_ms": 20.0,
            "flip_visible_ms": 5.0,
            "asked_at_ms": 12.0,
            "answer_took_ms": 30.0,
            "clients_late_ms": 11.0,
        }
    ]
    assert figures["flip_visible_ms_max"] == pytest.approx(5.0)


def test_a_replaced_route_file_is_seen_while_it_is_watched(tmp_path: Path):
    path = tmp_path / "intent.json"
    path.write_text("1")
    eye = RouteEye(path)
    before = time.monotonic()
    write_atomically(path, "2")
    assert before <= eye.close() <= time.monotonic()
    assert math.isnan(RouteEye(path).close())


def test_answers_come_back_from_the_file_in_the_order_of_their_arrival(tmp_path: Path):
    sent, received = np.asarray([1.0, 0.5]), np.asarray([2.0, 1.5])
    rest = {name: np.asarray([1, 2]) for name in ("text", "version", "label", "grpc")}
    rest |= {"stalls": np.asarray([[1.0, 0.2]]), "errors": np.asarray(["e"], dtype=np.str_)}
    np.savez(tmp_path / "a.npz", sent=sent, received=received, **rest)
    answers = read_answers(tmp_path / "a.npz")
    assert answers.received.tolist() == [1.5, 2.0]
    assert answers.version.tolist() == [2, 1]
    assert answers.errors == ["e"]
    assert answers.stalls.tolist() == [[1.0, 0.2]]
