"""Streams of requests that stay as they were or change, and how long each watcher takes to notice."""

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from benchmarks.drift_false_alarm import evidently_alarms
from benchmarks.drift_traffic import KINDS, Traffic
from perennial.continual.drift import DriftMonitor, DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.sequential import EDetector, errors, upper_bound

__all__ = ["REFERENCE_ROWS", "changed", "changes", "clean", "concept", "joined", "split"]

REFERENCE_ROWS = 600
_RUN_LENGTH = 1_000_000  # labels, as the loop watches errors at one false retraining in 100,000 requests
_LATEST = 4_000  # requests after the change at which a stream is given up
_COLUMNS = (("confidences", "num"), ("entropies", "num"), ("lengths", "num"), ("predictions", "cat"))

Draw = Callable[[int], Window]


def changes(traffic: Traffic) -> list[str]:
    """Return the kinds of change that need no labels to be seen."""
    return ["new_intents_10", "new_intents_30", "new_intents_100", *traffic.changed, "label_shift"]


def split(traffic: Traffic, rng: np.random.Generator) -> tuple[ReferenceProfile, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return a reference drawn from the clean rows, and the places of the rows that are left."""
    order = rng.permutation(len(traffic.clean))
    reference = ReferenceProfile.build(traffic.clean.rows(order[:REFERENCE_ROWS]), version=1, rng=rng)
    return reference, order[REFERENCE_ROWS:]


def _drawer(traffic: Traffic, kind: str, pool: Any, rng: np.random.Generator) -> Draw:
    """Return a function that draws drifted requests of the kind."""
    if kind.startswith("new_intents_"):
        share = int(kind.rpartition("_")[2]) / 100
        return lambda rows: _mixed(
            traffic.clean.rows(rng.choice(pool, rows)),
            traffic.new_intents.rows(rng.integers(len(traffic.new_intents), size=rows)),
            rng.random(rows) < share,
        )
    if kind in KINDS:
        changed = traffic.changed[kind]
        return lambda rows: changed.rows(rng.integers(len(changed), size=rows))
    frequent = rng.choice(np.unique(traffic.truth), 10, replace=False)  # a quarter of the intents, nothing else
    kept = pool[np.isin(traffic.truth[pool], frequent)]
    return lambda rows: traffic.clean.rows(rng.choice(kept, rows))


def joined(first: Window, second: Window) -> Window:
    columns: dict[str, Any] = {}
    for name in first.__slots__:
        sides = [getattr(side, name) for side in (first, second)]
        columns[name] = None if sides[0] is None else np.concatenate(sides)
    return Window(**columns)


def _mixed(clean: Window, other: Window, swapped: Any) -> Window:
    return joined(clean, other).rows(np.where(swapped, np.arange(len(clean)) + len(clean), np.arange(len(clean))))


def clean(traffic: Traffic, window: int, requests: int, parts: int) -> dict[str, Any]:
    """Count alerts on clean requests; each part has a reference of its own."""
    alerts = hits = windows = evidently = adwin = 0
    for part in range(parts):
        rng = np.random.default_rng([11, part])
        reference, pool = split(traffic, rng)
        monitor = DriftMonitor(settings=DriftSettings())
        state, detector = monitor.start(1), _Adwin()
        for number in range(1, requests // parts // window + 1):
            current = traffic.clean.rows(rng.choice(pool, window))
            comparison = compare(reference, current, monitor.settings, rng)
            state, signal = monitor.update(state, comparison, number * window)
            windows, hits, alerts = windows + 1, hits + comparison.drifted, alerts + signal.alert
            evidently += _evidently_any(reference, current)
            adwin += detector.alarms(current.confidences)
    seen = windows * window
    return {
        "stream": "clean",
        "kind": "none",
        "requests": seen,
        "detected": alerts,
        "delay_requests": None,
        "false_retrainings_per_100k": alerts * 100_000 / seen,
        "drifted_windows": hits / windows,
        "evidently_false_per_100k": evidently * 100_000 / seen,
        "adwin_false_per_100k": adwin * 100_000 / seen,
    }


def changed(traffic: Traffic, kind: str, window: int, repeats: int) -> dict[str, Any]:
    """Let each stream change at a random request within a window, and count the requests from there to the alert."""
    ours: list[int] = []
    theirs: list[int] = []
    adwin: list[int] = []
    before = calm = 0
    for repeat in range(repeats):
        rng = np.random.default_rng([13, repeat, sum(kind.encode())])
        reference, pool = split(traffic, rng)
        draw = _drawer(traffic, kind, pool, rng)
        monitor = DriftMonitor(settings=DriftSettings())
        state, detector = monitor.start(1), _Adwin()
        change = 4 * window + int(rng.integers(window))
        calm += change
        found: dict[str, int] = {}
        for number in range(1, (change + _LATEST) // window + 1):
            start = (number - 1) * window
            clean = int(np.clip(change - start, 0, window))
            current = joined(traffic.clean.rows(rng.choice(pool, clean)), draw(window - clean))
            state, signal = monitor.update(state, compare(reference, current, monitor.settings, rng), number * window)
            alarms = {
                "ours": signal.alert,
                "evidently": "evidently" not in found and _evidently_any(reference, current),
                "adwin": "adwin" not in found and detector.alarms(current.confidences) > 0,
            }
            before += signal.alert and start + window <= change
            if start + window > change:
                found = {**{name: start + window - change for name, alarm in alarms.items() if alarm}, **found}
            if "ours" in found:
                break
        for name, delays in (("ours", ours), ("evidently", theirs), ("adwin", adwin)):
            delays.extend([found[name]] if name in found else [])
    return {
        "stream": kind,
        "kind": "wording" if kind in KINDS else kind.rstrip("_0123456789"),
        "repeats": repeats,
        "detected": len(ours) / repeats,
        "delay_requests": median(ours) if ours else None,
        "false_retrainings": before,
        "false_retrainings_per_100k": before * 100_000 / calm,
        "evidently_delay": median(theirs) if theirs else None,
        "evidently_detected_first": len(theirs) / repeats,
        "adwin_delay": median(adwin) if adwin else None,
        "adwin_detected_first": len(adwin) / repeats,
    }


def concept(traffic: Traffic, repeats: int) -> dict[str, Any]:
    """Swap the true labels of 12 of 40 intents among themselves; texts and answers stay, labelled errors tell."""
    ours: list[int] = []
    adwin: list[int] = []
    false = 0
    names = np.unique(traffic.truth)
    for repeat in range(repeats):
        rng = np.random.default_rng([17, repeat])
        order = rng.permutation(len(traffic.clean))
        wrong = errors(traffic.clean.predictions.tolist(), traffic.truth.tolist())
        swapped = rng.choice(names, 12, replace=False)
        partner = dict(zip(swapped, np.roll(swapped, 1), strict=True))
        moved = np.array([partner.get(label, label) for label in traffic.truth])
        wrong_after = errors(traffic.clean.predictions.tolist(), moved.tolist())
        bound = upper_bound(wrong[order[:REFERENCE_ROWS]])
        pool = order[REFERENCE_ROWS:]
        values = np.concatenate([wrong[rng.choice(pool, 2_000)], wrong_after[rng.choice(pool, _LATEST)]])
        detector = EDetector(bound=bound, run_length=_RUN_LENGTH)
        _, alarms = detector.update(detector.start(), values)
        false += sum(alarm <= 2_000 for alarm in alarms)
        ours.extend([alarm - 2_000 for alarm in alarms if alarm > 2_000][:1])
        adwin.extend([place - 2_000 for place in _Adwin().places(values) if place > 2_000][:1])
    return {
        "stream": "concept_change",
        "kind": "concept",
        "repeats": repeats,
        "detected": len(ours) / repeats,
        "delay_requests": median(ours) if ours else None,
        "false_retrainings": false,
        "false_retrainings_per_100k": false * 100_000 / (2_000 * repeats),
        "adwin_delay": median(adwin) if adwin else None,
    }


def _evidently_any(reference: ReferenceProfile, current: Window) -> bool:
    """Return whether Evidently's own tests call half of the columns drifted, its default for a data set."""
    drifted = [
        evidently_alarms(getattr(reference.sample, name), getattr(current, name), kind) for name, kind in _COLUMNS
    ]
    return sum(drifted) / len(drifted) >= 0.5


class _Adwin:
    """River's ADWIN at its default settings."""

    def __init__(self) -> None:
        from river import drift

        detector: Any = drift.ADWIN  # its constructor has no types
        self._adwin = detector()

    def places(self, values: Any) -> list[int]:
        """Return the positions, from 1, at which a change was reported."""
        found = []
        for place, value in enumerate(np.asarray(values).tolist(), start=1):
            self._adwin.update(value)
            if self._adwin.drift_detected:
                found.append(place)
        return found

    def alarms(self, values: Any) -> int:
        """Return how many changes were reported."""
        return len(self.places(values))
