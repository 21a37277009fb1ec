"""A workspace with a past for the console: versions, held-out answers, traffic, drift, and a cycle that waits."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from perennial.continual.cycle import Cycle, CyclePlan, CycleState, encode
from perennial.continual.fairness.probes import ProbedGroup
from perennial.continual.fairness.thresholds import EqualThresholds, GroupThreshold
from perennial.continual.intervals import Interval
from perennial.continual.records import Example, Origin, Route, Split
from perennial.continual.robustness import ChangedAnswers
from perennial.ops.ledger import DriftReportRow, VersionRow, VersionState, version_card
from perennial.ops.making.probing import ProbedVersion
from perennial.ops.making.smaller import Compression, SmallerModel, keep_compression
from perennial.ops.parts import Parts
from perennial.ops.traffic import TrafficWriter

__all__ = ["HOSTILE", "LABELS", "REGIONS", "fill_console"]

MODEL = "intent"
LABELS = ("card", "loan", "<b>bold</b>")
REGIONS = ("north", "south <b>")
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "\u202eright to left\u202c مرحبا بالعالم שלום",
    "👩‍👩‍👧‍👦 emoji and \x1b[2J an escape",
    '"><svg onload=alert(1)> {{ 7 * 7 }} {% raw %}',
    "long " * 4_000,
)
_SIGNALS = (("prediction", "chi_square", 0.3), ("embedding", "rff_mmd", 0.01), ("confidence", "ks", 0.05))


def fill_console(parts: Parts, *, versions: int = 3, windows: int = 12, requests: int = 60) -> None:
    """Write the past; nothing of it needs a server."""
    _versions(parts, versions)
    _held_out(parts, versions)
    _reports(parts, versions)
    _traffic(parts, requests, version=versions)
    for number in range(windows):
        _window(parts, number, version=versions)
    plan = CyclePlan(shadow=True, approval=True, probation=True)
    story = ("watching + TriggerFired(reason=drift, challenger=4) -> training", "shadow + ShadowAccepted() -> approval")
    cycle = Cycle(
        model=MODEL,
        champion=versions,
        plan=plan,
        state=CycleState.APPROVAL,
        challenger=versions + 1,
        story=story,
    )
    parts.ledger.open_cycle(MODEL, "drift: alert (embedding)", encode(cycle), state="approval")


def _versions(parts: Parts, count: int) -> None:
    there = {row.version for row in parts.ledger.versions(MODEL)}
    for version in range(1, count + 1):
        gate = {"accepted": version % 4 != 0, "reasons": [], "fresh_gain_points": 1.5, "old_rows": 40}
        gate |= {"fresh_gain_low_points": 0.2, "fresh_gain_high_points": 2.9}
        metrics = {
            "training": {"holdout_accuracy": 0.9 + version / 10_000, "holdout_rows": 40.0},
            "gate": gate,
            "parity": {"agreement": 1.0, "accepted": True, "limits": {"agreement": 0.99}},
            "engine": "onnxruntime fp32",
        }
        lineage = {"reason": "drift: alert", "actor": "policy", "rows": 120, "evidence": {"sentence": "labels wait"}}
        row = VersionRow(
            model=MODEL,
            version=version,
            state=VersionState.RETIRED,
            parent=version - 1 or None,
            learner="kernel_lda",
            card=version_card(labels=LABELS),
            metrics=metrics,
            lineage=lineage,
        )
        if version in there:
            parts.ledger.set_version_state(
                MODEL, version, VersionState.RETIRED, metrics=metrics, lineage=lineage, card=version_card(labels=LABELS)
            )
        else:
            parts.ledger.add_version(row)
    route = parts.ledger.route(MODEL)
    epoch = 0 if route is None else route.epoch
    resident = tuple(sorted({count, max(1, count - 1)}))
    new = Route(model=MODEL, epoch=epoch + 1, champion=count, previous=max(1, count - 1), resident=resident)
    parts.ledger.set_route(new, expected_epoch=epoch, actor="test", reason="a past")
    parts.workspace.write_route(new)


def _held_out(parts: Parts, versions: int) -> None:
    now = datetime.now(UTC)
    texts = [*HOSTILE[:3], *(f"where is my card number {number}" for number in range(37))]
    examples = [
        Example(
            text=text, label=LABELS[place % 3], at=now, origin=Origin.SEED, attributes={"region": REGIONS[place % 2]}
        )
        for place, text in enumerate(texts)
    ]
    parts.ledger.add_examples(MODEL, examples, lambda _: Split.HOLDOUT)
    stored = parts.ledger.examples(MODEL, split=Split.HOLDOUT)
    parts.workspace.reports(MODEL).mkdir(parents=True, exist_ok=True)
    for version in range(1, versions + 1):
        given = [
            LABELS[0] if (row.id + version) % 7 == 0 else row.example.label for row in stored
        ]  # each is wrong somewhere else
        kept = {
            "ids": [row.id for row in stored],
            "given": given,
            "confidence": [0.3 + row.id % 7 / 10 for row in stored],
        }
        path = parts.workspace.reports(MODEL) / f"held-out-answers-{version}.json"
        path.write_text(json.dumps(kept), encoding="utf-8")


def _reports(parts: Parts, version: int) -> None:
    """What probes found of the newest version, and the table that it came out of."""
    apart = Interval(mean=0.05, low=0.01, high=0.09)
    changed = ChangedAnswers(
        change="typos", told="typing errors", rows=40, before=0.9, after=0.8, lost=apart, same=apart
    )
    group = ProbedGroup(probe="names", group="<i>b</i>", beside="a", rows=40, changed=apart, lost=apart, floor=0.02)
    member = Interval(mean=0.61, low=0.55, high=0.67)
    probed = ProbedVersion(
        at="2026-01-01T00:00:00+00:00",
        rows=40,
        changes=(changed,),
        groups=(group,),
        membership=member,
        thresholds=(_thresholds(apart),),
    )
    path = parts.workspace.reports(MODEL) / f"probes-{version}.json"
    path.write_text(json.dumps(asdict(probed)), encoding="utf-8")
    point = SmallerModel(
        step="half of the layers",
        engine="onnxruntime int8",
        megabytes=22.0,
        rows_per_s={"1": 900.0},
        times_faster=2.5,
        accuracy=0.88,
        lost_points=Interval(mean=0.4, low=-0.3, high=1.1),
        verdict="within the bound",
    )
    made = Compression(
        model=MODEL, source=1, most_lost_points=0.5, points=(point,), chosen="half of the layers", version=version
    )
    keep_compression(parts.workspace, made)


def _thresholds(apart: Interval) -> EqualThresholds:
    groups = tuple(
        GroupThreshold(group=group, rows=20, threshold=threshold, now=now, then=0.5)
        for group, threshold, now in ((REGIONS[0], 0.372, 0.4), (REGIONS[1], 0.618, 0.6))
    )
    return EqualThresholds(
        attribute="region",
        label=LABELS[2],
        figure="selection_rate",
        rows=40,
        groups=groups,
        gap_now=apart,
        gap_then=apart,
        right_now=0.9,
        right_then=0.875,
        lost=apart,
    )


def _traffic(parts: Parts, requests: int, *, version: int) -> None:
    texts = [HOSTILE[n % len(HOSTILE)] if n % 4 == 0 else f"please stop my card {n}" for n in range(requests)]
    ids = _ids(requests)
    writer = TrafficWriter(parts.workspace.traffic(MODEL), "test")
    writer.append(
        {
            "prediction_id": ids,
            "at": [datetime.now(UTC)] * requests,
            "text": texts,
            "key": [None] * requests,
            "prediction": [LABELS[n % 3] for n in range(requests)],
            "confidence": [0.5 + n / (2 * requests) for n in range(requests)],
            "margin": [n / requests for n in range(requests)],
            "entropy": [0.3] * requests,
            "version": [version] * requests,
            "arm": ["champion"] * requests,
            "tokens": [4] * requests,
            "known": [True] * requests,
            "latency_ms": [2.0 + n % 9 for n in range(requests)],
            "redacted": [False] * requests,
            "embedding": None,
        }
    )
    writer.close()
    disputed = {"champion": version, "challenger": version + 1, "ids": ids[:6]}
    parts.ledger.put_state(MODEL, "disputed", disputed)


def _ids(count: int) -> Sequence[str]:
    now = int(time.time() * 1000)
    return [f"{now - 5:012x}{number:020x}" for number in range(count)]


def _window(parts: Parts, number: int, *, version: int) -> None:
    drifts = number % 3 == 2
    signals = [
        {
            "signal": name,
            "method": method,
            "result": {
                "statistic": 1.0,
                "p_value": 0.001 if drifts else 0.4,
                "effect": floor * (2.5 if drifts else 0.1 * number),
                "floor": floor,
                "n_reference": 240,
                "n_current": 120,
            },
            "adjusted_p": 0.004 if drifts else 0.9,
            "drifted": drifts,
        }
        for name, method, floor in _SIGNALS
    ]
    comparison = {
        "version": version,
        "n_reference": 240,
        "n_current": 120,
        "alpha": 0.05,
        "permutations": 199,
        "seed": 1,
        "signals": signals,
        "drifted": drifts,
    }
    signal = {
        "level": "alert" if drifts else "ok",
        "previous": "ok",
        "alert": drifts,
        "episode": 1,
        "at_request": 120 * number,
        "votes": int(drifts),
        "signals": [name for name, _, _ in _SIGNALS] if drifts else [],
        "reason": "1 of the last 3 windows drifted",
        "changed": drifts,
    }
    parts.ledger.add_drift_report(
        DriftReportRow(
            model=MODEL,
            version=version,
            at=datetime.now(UTC) - timedelta(minutes=30 - number),
            rows=120,
            state="alert" if drifts else "ok",
            payload={"signal": signal, "comparison": comparison},
        )
    )
