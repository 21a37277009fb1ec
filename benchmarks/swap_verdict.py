"""What the swap benchmark's clients and harness saw, and the figures that follow from it."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.swap_load import Answers
from benchmarks.swap_world import Table

__all__ = ["AFTER_S", "BEFORE_S", "Flip", "Run", "judge"]

BEFORE_S, AFTER_S = 0.05, 0.35  # the window of a swap, around its command


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One command: when it was sent and answered (monotonic seconds), and the champion from then on.

    `visible` is when the router's file named that champion.
    """

    started: float
    ended: float
    version: int
    rollback: bool
    loads: bool = False  # the version had to be loaded first
    visible: float = math.nan


@dataclass(slots=True, kw_only=True)
class Run:
    """What the harness saw: commands, and resident memory in MB by part after each of them."""

    first: int
    flips: list[Flip] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)
    warm_up_memory: list[dict[str, float]] = field(default_factory=list)  # as often, before the first
    calm_memory: list[dict[str, float]] = field(default_factory=list)  # as often, after the last
    restarts: int = 0


def judge(answers: Answers, run: Run, table: Table) -> dict[str, Any]:
    """The figures of the benchmark, out of what the clients and the harness saw."""
    ok = answers.version > 0
    latency_ms = 1e3 * (answers.received - answers.sent)
    quick = [flip for flip in run.flips if not flip.loads]
    slow = [flip for flip in run.flips if flip.loads]
    end = min([flip.started for flip in slow] or [np.inf])
    near = _under_way_at(answers, np.sort([flip.started for flip in run.flips]))
    first = quick[0].started - 5.0 if quick else 0.0
    calm = ok & (answers.sent > first) & (answers.sent < end)
    loading = np.zeros(len(ok), dtype=bool)
    for flip in slow:
        loading |= (answers.received > flip.started) & (answers.sent < flip.ended + 1.5)
    rollbacks = [_first_answer_ms(answers, flip) for flip in quick if flip.rollback]
    promotions = [_first_answer_ms(answers, flip) for flip in quick if not flip.rollback]
    steady, swap = _p(latency_ms[calm & ~near], 99), _p(latency_ms[calm & near], 99)
    return {
        "requests": len(ok),
        "requests_grpc": int(answers.grpc.sum()),
        "requests_http": int((~answers.grpc).sum()),
        "promotions": sum(not flip.rollback for flip in quick),
        "rollbacks": sum(flip.rollback for flip in quick),
        "failed": int((~ok).sum()),
        "failures": answers.errors,
        "wrong_version": _wrong_versions(answers, run),
        "wrong_label": _wrong_labels(answers, table),
        "p50_ms_steady": _p(latency_ms[calm & ~near], 50),
        "p50_ms_swap": _p(latency_ms[calm & near], 50),
        "p99_ms_steady": steady,
        "p99_ms_swap": swap,
        "max_ms_steady": _p(latency_ms[calm & ~near], 100),
        "max_ms_swap": _p(latency_ms[calm & near], 100),
        "p99_swap_over_steady": swap / steady if steady else float("nan"),
        "requests_in_swap_windows": int((calm & near).sum()),
        "rollback_ms_p50": _p(rollbacks, 50),
        "rollback_ms_p99": _p(rollbacks, 99),
        "rollback_ms_max": max(rollbacks, default=float("nan")),
        "promote_ms_p50": _p(promotions, 50),
        "promote_ms_max": max(promotions, default=float("nan")),
        **_parts(answers, [flip for flip in quick if flip.rollback]),
        "requests_per_s": len(ok) / max(1e-9, float(answers.received[-1] - answers.sent[0])),
        "load_swaps": len(slow),
        "load_swap_s_p50": _p([flip.ended - flip.started for flip in slow], 50),
        "p99_ms_load_swap": _p(latency_ms[ok & loading], 99),
        "triton_restarts": run.restarts,
        **_memory(run),
    }


def _under_way_at(answers: Answers, commands: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether any part of a request, from sent to received, lies in the window of one of these commands (sorted)."""
    begun = np.searchsorted(commands, answers.received + BEFORE_S, side="right")
    over = np.searchsorted(commands, answers.sent - AFTER_S, side="left")
    under_way: npt.NDArray[np.bool_] = begun > over
    return under_way


def _wrong_versions(answers: Answers, run: Run) -> int:
    """Answers of a version that was champion neither when they were asked for nor when they came.

    While a command is under way, the champion is the old one or the new one.
    """
    ok = answers.version > 0
    right = np.zeros(len(ok), dtype=bool)
    for times in (answers.sent, answers.received):
        for edges in ([flip.started for flip in run.flips], [flip.ended for flip in run.flips]):
            champions = np.asarray([run.first, *(flip.version for flip in run.flips)])
            right |= champions[np.searchsorted(np.asarray(edges), times, side="right")] == answers.version
    return int((ok & ~right).sum())


def _wrong_labels(answers: Answers, table: Table) -> int:
    """Answers whose label is not what their version gives to their text."""
    wrong = 0
    for version in np.unique(answers.version[answers.version > 0]):
        expected = table.labels_of_version.get(int(version))
        rows = answers.version == version
        answered = answers.label[rows]
        wrong += (
            int(rows.sum()) if expected is None else int((np.asarray(expected)[answers.text[rows]] != answered).sum())
        )
    return wrong


def _first_answer_ms(answers: Answers, flip: Flip) -> float:
    """From the command to the first answer of the version that it made champion."""
    row = _first_answer(answers, flip)
    return math.inf if row is None else 1e3 * float(answers.received[row] - flip.started)


def _first_answer(answers: Answers, flip: Flip) -> int | None:
    start = int(np.searchsorted(answers.received, flip.started, side="right"))
    later = np.flatnonzero(answers.version[start:] == flip.version)
    return start + int(later[0]) if len(later) else None


def _parts(answers: Answers, rollbacks: list[Flip]) -> dict[str, Any]:
    """Where the milliseconds of the rollbacks went; the worst ones singly."""
    rows = []
    for flip in rollbacks:
        if (row := _first_answer(answers, flip)) is not None:
            sent, received = float(answers.sent[row]), float(answers.received[row])
            late = answers.stalls[(answers.stalls[:, 0] < received) & (answers.stalls.sum(axis=1) > flip.started)]
            rows.append(
                {
                    "first_answer_ms": 1e3 * (received - flip.started),
                    "command_ms": 1e3 * (flip.ended - flip.started),
                    "flip_visible_ms": 1e3 * (flip.visible - flip.started),
                    "asked_at_ms": 1e3 * (sent - flip.started),
                    "answer_took_ms": 1e3 * (received - sent),
                    "clients_late_ms": 1e3 * float(late[:, 1].max(initial=0.0)),
                }
            )
    figures: dict[str, Any] = {}
    for name in ("command_ms", "flip_visible_ms"):
        values = [row[name] for row in rows]
        figures |= {f"{name}_p50": _p(values, 50), f"{name}_p99": _p(values, 99), f"{name}_max": _p(values, 100)}
    worst = sorted(rows, key=lambda row: -row["first_answer_ms"])[:5]
    return figures | {"worst_rollbacks": [{name: round(value, 1) for name, value in row.items()} for row in worst]}


def _memory(run: Run) -> dict[str, Any]:
    """Slopes in MB per 100 swaps by least squares."""
    kept = run.memory
    slopes, calm = _slopes(kept), _slopes(run.calm_memory)
    return {
        "rss_slope_mb_per_100_swaps": slopes.get("total", float("nan")),
        "rss_slope_by_part": slopes,
        "rss_slope_mb_in_the_same_time_without_swaps": calm.get("total", float("nan")),
        "rss_mb_after_warm_up": kept[0]["total"] if kept else float("nan"),
        "rss_mb_at_end": kept[-1]["total"] if kept else float("nan"),
        "rss_mb_control": [round(sample["control"], 1) for sample in (*run.warm_up_memory, *kept, *run.calm_memory)][
            ::10
        ],
    }


def _slopes(samples: list[dict[str, float]]) -> dict[str, float]:
    """MB per 100 samples, by part."""
    if len(samples) < 3:
        return {}
    at = np.arange(len(samples), dtype=np.float64)
    return {part: 100 * float(np.polyfit(at, [sample[part] for sample in samples], 1)[0]) for part in samples[0]}


def _p(values: Any, q: float) -> float:
    """A percentile by rank, rounded up: it is one of the values, infinite ones included."""
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    return float(ranked[math.ceil(q / 100 * (len(ranked) - 1))]) if len(ranked) else float("nan")
