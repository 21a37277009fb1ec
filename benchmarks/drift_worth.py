"""Does the loop sit on its labels, and does it open cycles for nothing? The bet on what learning would buy.

A champion that knows 40 intents answers traffic of which a share is about kept-back intents from its first request on.
So its own early traffic is the reference, and drift sees nothing. Clean streams have errors that nobody could learn.
"""

from statistics import median
from typing import Any

import numpy as np

from benchmarks.drift_streams import REFERENCE_ROWS, joined
from benchmarks.drift_traffic import Traffic
from perennial.continual.apprentice import LoggedAnswers
from perennial.continual.drift import DriftMonitor, DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.apprentice import ClassApprentice
from perennial.continual.drift.worth import Worth, WorthTest

__all__ = ["nothing_to_learn", "sitting"]

_WINDOW = 300
_REQUESTS = 4_500  # for which the loop once sat on its labels


def _worth(window: Window, truth: Any, labelled: Any) -> tuple[int | None, Worth]:
    """The place of the request whose label opened a cycle; labels come in the order of their requests."""
    worth = Worth(test=WorthTest(), apprentice=ClassApprentice())
    places = np.flatnonzero(labelled)
    rows, targets = window.rows(places), truth[places].tolist()
    champion = [float(answer == target) for answer, target in zip(rows.predictions.tolist(), targets, strict=True)]
    asked = LoggedAnswers(
        embeddings=np.asarray(rows.embeddings, dtype=np.float32),
        answers=rows.predictions.tolist(),
        confidences=np.asarray(rows.confidences, dtype=np.float64),
    )
    worth.follow(asked, targets, champion=champion, score=lambda answer, target: float(answer == target))
    return (None if worth.found_at is None else int(places[worth.found_at - 1]) + 1), worth


def sitting(traffic: Traffic, share: float, labelled: float, repeats: int) -> dict[str, Any]:
    """Requests until a cycle opens, for drift alone (before) and for what learning would buy (now)."""
    before: list[int] = []
    now: list[int] = []
    gains: list[float] = []
    for repeat in range(repeats):
        rng = np.random.default_rng([23, repeat, int(100 * share)])
        pool, other = rng.permutation(len(traffic.clean)), rng.permutation(len(traffic.new_intents))
        new = rng.random(_REQUESTS) < share  # each text once, as the ledger keeps them
        taken = pool[: int((~new).sum())], other[: int(new.sum())]
        places = np.zeros(_REQUESTS, dtype=np.int64)
        places[~new], places[new] = taken[0], taken[1] + len(traffic.clean)
        window = joined(traffic.clean, traffic.new_intents).rows(places)
        truth = np.concatenate([traffic.truth, traffic.new_truth])[places]
        found, worth = _worth(window, truth, rng.random(_REQUESTS) < labelled)
        now.extend([] if found is None else [found])
        gains.append(0.0 if worth.gain is None else worth.gain.value)
        alert = _drift_alert(window, rng)
        before.extend([] if alert is None else [alert])
    return {
        "stream": "kept_back_intents",
        "share": share,
        "labelled": labelled,
        "repeats": repeats,
        "requests": _REQUESTS,
        "opened_by_drift": len(before) / repeats,
        "opened_by_gain": len(now) / repeats,
        "requests_by_drift": median(before) if before else None,
        "requests_by_gain": median(now) if now else None,
        "gain_points_at_the_end": 100 * median(gains),
    }


def _drift_alert(window: Window, rng: np.random.Generator) -> int | None:
    reference = ReferenceProfile.build(window.rows(np.arange(REFERENCE_ROWS)), version=1, rng=rng)
    monitor = DriftMonitor(settings=DriftSettings())
    state = monitor.start(1)
    for begin in range(REFERENCE_ROWS, len(window) - _WINDOW + 1, _WINDOW):
        current = window.rows(np.arange(begin, begin + _WINDOW))
        state, signal = monitor.update(state, compare(reference, current, monitor.settings, rng), begin + _WINDOW)
        if signal.alert:
            return begin + _WINDOW
    return None


def nothing_to_learn(traffic: Traffic, requests: int) -> dict[str, Any]:
    """Cycles that open although no label could teach anything: its errors are drawn by chance, each text comes once."""
    names = np.unique(traffic.truth)
    seen = opened = 0
    while seen < requests:
        rng = np.random.default_rng([29, seen])
        window = traffic.clean.rows(rng.permutation(len(traffic.clean))[:_REQUESTS])
        wrong = rng.random(len(window)) < 0.02 + 0.2 * rng.random()
        truth = np.where(wrong, rng.choice(names, len(window)), window.predictions.astype(str))
        found, _ = _worth(window, truth, np.ones(len(window), dtype=np.bool_))
        seen, opened = seen + len(window), opened + (found is not None)
    return {
        "stream": "nothing_to_learn",
        "requests": seen,
        "opened": opened,
        "promised_at_most": seen / 1_000_000,
    }
