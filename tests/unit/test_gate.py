"""The promotion gate: each rule alone, and none of them by luck."""

import numpy as np
import pytest

from continual.errors import DataError
from continual.gate import GateEvidence, GateRules, PairedRows, judge


def rows(n: int, champion: float, challenger: float, label: str = "a", seed: int = 0) -> PairedRows:
    rng = np.random.default_rng(seed)
    draw = rng.random(n)
    return PairedRows(
        labels=np.array([label] * n), champion_correct=draw < champion, challenger_correct=draw < challenger
    )


def evidence(fresh: PairedRows, old: PairedRows, **facts: float) -> GateEvidence:
    told = {"challenger_calibration_error": 0.02, "champion_latency_ms": 5.0, "challenger_latency_ms": 5.0} | facts
    return GateEvidence(champion=1, challenger=2, fresh=fresh, old=old, **told)


def decide(given: GateEvidence, **rules: float) -> tuple[bool, str]:
    decision = judge(given, GateRules(**rules), np.random.default_rng(0))  # type: ignore[arg-type]
    assert decision.accepted == (not decision.reasons)
    return decision.accepted, "; ".join(decision.reasons)


def test_gate_accepts_a_better_challenger_that_forgets_nothing() -> None:
    accepted, _ = decide(evidence(rows(200, 0.5, 0.9), rows(300, 0.95, 0.95)))
    assert accepted


def test_gate_refuses_without_evidence() -> None:
    accepted, why = decide(evidence(rows(10, 0.1, 0.9), rows(300, 0.9, 0.9)))
    assert not accepted
    assert "too little evidence: 10 fresh held-out rows (at least 20)" in why


def test_gate_refuses_a_challenger_that_is_worse_on_fresh_rows() -> None:
    accepted, why = decide(evidence(rows(300, 0.9, 0.8), rows(300, 0.9, 0.9)))
    assert not accepted
    assert "not better" in why


def test_gate_refuses_forgetting_beyond_the_limit() -> None:
    accepted, why = decide(evidence(rows(200, 0.5, 0.9), rows(400, 0.95, 0.90)))
    assert not accepted
    assert "forgets" in why


def test_gate_does_not_refuse_one_unlucky_row() -> None:
    old = rows(60, 0.95, 0.95)
    flipped = old.challenger_correct.copy()
    flipped[np.flatnonzero(flipped)[0]] = False  # 1.7 points on 60 rows, but a single row
    unlucky = PairedRows(labels=old.labels, champion_correct=old.champion_correct, challenger_correct=flipped)
    accepted, _ = decide(evidence(rows(200, 0.5, 0.9), unlucky))
    assert accepted


def test_gate_refuses_a_label_that_broke_although_the_mean_holds() -> None:
    broken, sound = rows(40, 0.95, 0.5, label="lost_card"), rows(2000, 0.9, 0.9, label="top_up")
    old = PairedRows(
        labels=np.concatenate([broken.labels, sound.labels]),
        champion_correct=np.concatenate([broken.champion_correct, sound.champion_correct]),
        challenger_correct=np.concatenate([broken.challenger_correct, sound.challenger_correct]),
    )
    accepted, why = decide(evidence(rows(200, 0.5, 0.9), old))
    assert not accepted
    assert "worse on label lost_card" in why


def test_gate_refuses_bad_calibration_and_slowness() -> None:
    given = evidence(
        rows(200, 0.5, 0.9), rows(300, 0.9, 0.9), challenger_calibration_error=0.4, challenger_latency_ms=50.0
    )
    accepted, why = decide(given)
    assert not accepted
    assert "badly calibrated" in why
    assert "slower" in why


def test_gate_promotes_equal_challengers_and_stops_worse_ones_at_stated_rates() -> None:
    equal = sum(
        decide(evidence(_noisy(300, 0.9, 0.9, seed), _noisy(400, 0.9, 0.9, seed + 1)))[0] for seed in range(0, 200, 2)
    )
    worse = sum(
        decide(evidence(_noisy(300, 0.9, 0.8, seed), _noisy(400, 0.9, 0.9, seed + 1)))[0] for seed in range(0, 200, 2)
    )
    assert equal >= 85  # of 100
    assert worse <= 10


def _noisy(n: int, champion: float, challenger: float, seed: int) -> PairedRows:
    rng = np.random.default_rng(seed)
    return PairedRows(
        labels=np.array(["a"] * n),
        champion_correct=rng.random(n) < champion,
        challenger_correct=rng.random(n) < challenger,
    )


def test_paired_rows_must_have_one_length() -> None:
    with pytest.raises(DataError, match="differ in length"):
        PairedRows(labels=np.array(["a"]), champion_correct=np.ones(2, bool), challenger_correct=np.ones(1, bool))
