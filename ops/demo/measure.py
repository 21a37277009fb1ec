"""What the demonstration shows: figures out of the stream, the loop's own events and the test set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from perennial.ops.demo.data import DemoData, Row
from perennial.ops.demo.served import at_of
from perennial.ops.demo.story import LAST, learners_of
from perennial.ops.demo.timeline import cycle_times
from perennial.ops.demo.world import Answered
from perennial.ops.serving.bundled import BundledVersion, EngineReply
from perennial.ops.serving.client import PerennialClient

__all__ = ["Exam", "Learnt", "Moments", "Recorded", "accuracy", "ask_triton", "examine", "percentile_ms", "summarise"]

_SWAP_S = 3.0  # around a promotion


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Everything that was written down while the demonstration ran; `events` are the loop's."""

    answered: tuple[Answered, ...]
    events: tuple[Mapping[str, Any], ...]
    wave_began: tuple[int, ...]
    wave_began_at: tuple[datetime, ...]
    triton_restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """Whether each learner's answer to each request was right, in the order of `Recorded.answered`."""

    perennial: tuple[bool, ...]
    never_retrained: tuple[bool, ...]
    tfidf_nightly: tuple[bool, ...]
    nights: tuple[int, ...] = ()  # the requests before which the last one was refitted

    def of_all(self) -> dict[str, tuple[bool, ...]]:
        """By the learner's name."""
        return {
            "perennial": self.perennial,
            "never_retrained": self.never_retrained,
            "tfidf_nightly": self.tfidf_nightly,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Request numbers, one entry a wave; None where it never happened."""

    drift: tuple[int, ...]
    detected: tuple[int | None, ...]
    serving: tuple[int | None, ...]
    early_cycles: int  # retrainings before the first wave


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """Accuracies on the test set, in [0, 1]; the lists hold one entry a wave."""

    before: float
    drifted: tuple[float, ...]
    after: float
    never_retrained: float
    old_first: float
    old_last: float
    old_restricted_first: float
    old_restricted_last: float


def accuracy(answers: Sequence[str], rows: Sequence[Row]) -> float:
    """Share of right answers; nan without rows."""
    return float(np.mean([a == label for a, (_, label) in zip(answers, rows, strict=True)])) if rows else float("nan")


def ask_triton(url: str, model: str, rows: Sequence[Row], batch: int = 32) -> list[str]:
    """The served model's labels for the rows' texts."""
    client = PerennialClient(url, model)
    try:
        answers: list[str] = []
        for start in range(0, len(rows), batch):
            answers += [a.label for a in client.predict([text for text, _ in rows[start : start + batch]])]
        return answers
    finally:
        client.close()


def moments(recorded: Recorded) -> Moments:
    """When each wave began, was noticed, and was answered by a version that had learnt from it."""
    alerting = ("drift.window", "drift.errors")  # by the traffic alone, or by labels
    alerts = [at_of(e) for e in recorded.events if e["name"] in alerting and e["facts"].get("alert")]
    opened = [(at_of(e), e["facts"]["version"]) for e in recorded.events if e["name"] == "cycle.opened"]
    first = {}
    for a in sorted(recorded.answered, key=lambda a: a.number):
        if a.version and a.version not in first:
            first[a.version] = a.number
    detected: list[int | None] = []
    serving: list[int | None] = []
    ends = [*recorded.wave_began_at[1:], datetime.max.replace(tzinfo=UTC)]
    for began, end in zip(recorded.wave_began_at, ends, strict=False):
        alert = next((at for at in alerts if began <= at < end), None)
        detected.append(None if alert is None else _number_at(recorded.answered, alert))
        versions = [version for at, version in opened if began <= at < end and version in first]
        serving.append(first[versions[0]] if versions else None)
    early = sum(1 for at, _ in opened if recorded.wave_began_at and at < recorded.wave_began_at[0])
    return Moments(drift=recorded.wave_began, detected=tuple(detected), serving=tuple(serving), early_cycles=early)


def examine(
    data: DemoData, bundles: Mapping[int, Path], last_answers: Sequence[str], champions: Sequence[int], cache: Path
) -> Exam:
    """Examine the first version, each wave's champion and the last one.

    Args:
        data: the demonstration's data.
        bundles: version -> folder.
        last_answers: what Triton answered for `data.test` at the end.
        champions: the version that answered when each wave began.
        cache: where compiled engines may be kept.
    """
    texts, first, last = [text for text, _ in data.test], min(bundles), max(bundles)
    replies = {
        version: BundledVersion.load(bundles[version], cache_dir=cache).ask(texts)
        for version in {first, last, *champions}
    }
    known = {version: [answer.kept for answer in reply.answers()] for version, reply in replies.items()}
    old = [i for i, (_, label) in enumerate(data.test) if label in set(data.first_intents)]
    old_rows = [data.test[i] for i in old]
    drifted = []
    for wave, version in enumerate(champions, start=1):
        arrived = set(data.known_after(wave))
        places = [i for i, (_, label) in enumerate(data.test) if label in arrived]
        drifted.append(accuracy([known[version][i] for i in places], [data.test[i] for i in places]))
    return Exam(
        before=accuracy([known[first][i] for i in old], old_rows),
        drifted=tuple(drifted),
        after=accuracy(last_answers, data.test),
        never_retrained=accuracy(known[first], data.test),
        old_first=accuracy([known[first][i] for i in old], old_rows),
        old_last=accuracy([last_answers[i] for i in old], old_rows),
        old_restricted_first=accuracy(_within(replies[first], old, data.first_intents), old_rows),
        old_restricted_last=accuracy(_within(replies[last], old, data.first_intents), old_rows),
    )


def _within(reply: EngineReply, places: Sequence[int], labels: Sequence[str]) -> list[str]:
    """The answers in some places, where the version may say these labels alone."""
    answers = reply.answers(within=frozenset(labels))
    return [answers[place].kept for place in places]


def percentile_ms(values: Sequence[float], q: float = 99.0) -> float | None:
    """A percentile of latencies, or None without any."""
    return float(np.percentile(values, q)) if values else None


def promotions(recorded: Recorded) -> list[datetime]:
    """When the route changed to a new champion."""
    return [at_of(e) for e in recorded.events if e["name"] == "route.promoted"]


def summarise(
    recorded: Recorded, exam: Exam | None, learnt: Learnt, when: Moments, *, replay_rows: int, wall_seconds: float
) -> dict[str, Any]:
    """The content of `summary.json`. What was examined on a test set is None where the data has none."""
    places = {a.number: place for place, a in enumerate(recorded.answered)}
    changed = places.get(recorded.wave_began[0], 0) if recorded.wave_began else 0
    cycles = cycle_times(recorded.events, recorded.answered)
    swaps = promotions(recorded)
    ok = [a for a in recorded.answered if not a.error]
    near = [a for a in ok if any(_under_way(a, at) for at in swaps)]
    near_numbers = {a.number for a in near}
    failed = [a for a in recorded.answered if a.error]
    errors: dict[str, int] = {}
    for a in failed:
        errors[a.error[:160]] = errors.get(a.error[:160], 0) + 1
    return {
        "requests": len(recorded.answered),
        "failed_requests": len(failed),
        "failures": errors,
        "versions_served": sorted({a.version for a in ok}),
        "swaps": len(swaps),
        "drift_at_request": list(when.drift),
        "detected_at_request": list(when.detected),
        "new_version_serving_at_request": list(when.serving),
        "retrainings_before_first_wave": when.early_cycles,
        "stream": {
            "since_change": learners_of(learnt.of_all(), changed).record(),
            "last": learners_of(learnt.of_all(), max(0, len(recorded.answered) - LAST)).record(),
        },
        **_examined(exam),
        "replay_rows": replay_rows,
        "p99_ms_steady": percentile_ms([a.latency_ms for a in ok if a.number not in near_numbers]),
        "p99_ms_swap": percentile_ms([a.latency_ms for a in near]),
        "triton_restarts": recorded.triton_restarts,
        "answered_anew_s": [seconds for cycle in cycles if (seconds := cycle.answered_anew_s) is not None],
        "cycles": [cycle.record() for cycle in cycles],
        "wall_seconds": wall_seconds,
    }


def _examined(exam: Exam | None) -> dict[str, Any]:
    if exam is None:
        return {"accuracy_after": None}
    return {
        "accuracy_before": exam.before,
        "accuracy_drifted": exam.drifted[-1] if exam.drifted else None,
        "accuracy_drifted_by_wave": list(exam.drifted),
        "accuracy_after": exam.after,
        "accuracy_never_retrained": exam.never_retrained,
        "forgetting_points": 100.0 * (exam.old_restricted_first - exam.old_restricted_last),
        "old_accuracy_first": exam.old_first,
        "old_accuracy_last": exam.old_last,
    }


def _under_way(answered: Answered, swap: datetime) -> bool:
    """Whether the request was under way in the window of a swap."""
    since_sent_s = (swap - answered.sent_at).total_seconds()
    return -_SWAP_S <= since_sent_s <= _SWAP_S + answered.latency_ms / 1e3


def _number_at(answered: Sequence[Answered], moment: datetime) -> int:
    return max((a.number for a in answered if a.sent_at <= moment), default=0)
