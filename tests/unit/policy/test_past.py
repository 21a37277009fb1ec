"""What a policy would have seen: windows, drift, quality and changes out of logged rows, whatever their score."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from perennial.continual.drift import DriftSettings, ReferenceProfile, Votes
from perennial.continual.drift.accuracy import GivenLabel, SampledAnswer, measure_accuracy, resolve_labels
from perennial.continual.policy import DriftState, History
from perennial.continual.policy.past import PastKnowledge, PastRows, PastRules, changes_in, history_of
from tests.unit.drift.generated import traffic

pytestmark = pytest.mark.slow

T0 = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE, SIZE, WINDOWS = 200, 100, 8
NEW_FROM = REFERENCE + 4 * SIZE  # the row at which the unseen topic begins
RULES = PastRules(
    drift=DriftSettings(votes=Votes("2 of 3"), min_rows=100, requests_per_false_retraining=10_000, cooldown_requests=0),
    window_rows=SIZE,
    quality_rows=150,
    random_share=0.0,
    seed=0,
    version=1,
)


def at(row: int) -> datetime:
    return T0 + timedelta(minutes=row)


@pytest.fixture(scope="module")
def rows() -> PastRows:
    """Every second row has a target, which comes ten rows later; unseen rows score 0.25, others 1 or 0.5."""
    rng = np.random.default_rng(0)
    count = REFERENCE + WINDOWS * SIZE
    calm, drifted = traffic(NEW_FROM, rng), traffic(count - NEW_FROM, rng, new=0.6)
    columns = {
        name: np.concatenate([getattr(calm, name), getattr(drifted, name)])
        for name in calm.__slots__
        if getattr(calm, name) is not None
    }
    window = replace(calm, **columns | {"ids": np.array([f"p{n}" for n in range(count)])})
    unseen = ["mortgage" if "mortgage" in str(text).split() else None for text in window.texts]
    targets = [None if n % 2 else (unseen[n] or str(window.predictions[n])) for n in range(count)]
    scores = [None if t is None else 0.25 if t == "mortgage" else (1.0, 0.5)[n % 3 == 0] for n, t in enumerate(targets)]
    return PastRows(
        window=window,
        at=[at(n) for n in range(count)],
        targets=targets,
        target_at=[None if target is None else at(n + 10) for n, target in enumerate(targets)],
        scores=scores,
        fresh_scores=[None if n % 10 or score is None else 1.0 for n, score in enumerate(scores)],
        counted=np.ones(count, dtype=bool),
    )


@pytest.fixture(scope="module")
def plain(rows: PastRows) -> History:
    return history(rows)


def history(rows: PastRows, rules: PastRules = RULES, *, changes: tuple[datetime, ...] = ()) -> History:
    sample = rows.window.rows(slice(0, REFERENCE))
    reference = ReferenceProfile.build(sample, version=1, rng=np.random.default_rng(1))
    known = PastKnowledge(
        reference=reference,
        start=REFERENCE,
        sample_scores={n: score for n, score in enumerate(rows.scores[:REFERENCE]) if score is not None},
        changes=changes,
        learnt_at=[moment for moment in rows.target_at if moment is not None],
        training_s=60.0,
        proved_at=[moment for moment in rows.target_at if moment is not None][::5],
        proof_needed=7,
    )
    return history_of(rows, known, rules)


def test_a_change_is_where_unknown_targets_begin_and_those_near_each_other_are_one(rows: PastRows) -> None:
    known = {"lost_card", "top_up"}
    (change,) = changes_in(rows, known, least=5, near=SIZE)
    assert at(NEW_FROM) <= change < at(NEW_FROM + 20)
    assert changes_in(rows, known | {"mortgage"}, least=5, near=SIZE) == []
    assert changes_in(rows, known, least=10_000, near=SIZE) == []
    first, second = sorted((rows.targets.index("lost_card"), rows.targets.index("top_up")))
    assert changes_in(rows, {"mortgage"}, least=5, near=SIZE) == [at(first)]
    assert changes_in(rows, {"mortgage"}, least=5, near=0) == [at(first), at(second)]


def test_the_past_is_cut_into_windows_behind_the_reference(rows: PastRows, plain: History) -> None:
    past = plain
    assert [point.at for point in past.points] == [at(REFERENCE + (n + 1) * SIZE - 1) for n in range(WINDOWS)]
    assert {point.requests for point in past.points} == {SIZE}
    assert {point.feedback for point in past.points} == {SIZE // 2}
    assert {point.proof for point in past.points} == {SIZE // 10}
    assert past.proof_needed == 7
    assert (past.champion_since, past.training_s) == (at(REFERENCE - 1), 60.0)
    sample = [score for score in rows.scores[:REFERENCE] if score is not None]
    assert past.reference_quality == pytest.approx(np.mean(sample))


def test_an_episode_begins_with_its_first_window(plain: History) -> None:
    points = plain.points
    assert all(point.drift is DriftState.OK and point.drift_since is None for point in points[:4])
    assert points[-1].drift is DriftState.ALERT
    assert points[-1].drift_since == at(NEW_FROM - 1)
    assert any(point.drift_signals for point in points)


def test_quality_is_the_mean_of_the_scores_that_were_known_by_then(rows: PastRows, plain: History) -> None:
    for number, point in enumerate(plain.points):
        first = REFERENCE + number * SIZE
        mine = [score for score in rows.scores[first : first + SIZE] if score is not None]
        assert point.accuracy_kept == pytest.approx(np.mean(mine))
        last = first + SIZE
        known = [n for n in range(last) if rows.scores[n] is not None and n + 10 <= last - 1][-RULES.quality_rows :]
        answers = [SampledAnswer(prediction_id=str(n), predicted=str(n), chance=1e-6) for n in known]
        given = [GivenLabel(prediction_id=str(n), label=str(n), annotator="x", at=T0) for n in known]
        expected = measure_accuracy(
            answers, resolve_labels(given), score=lambda answer, _: rows.scores[int(answer)] or 0.0
        )
        assert point.measured_quality is not None
        assert (point.measured_quality.value, point.measured_quality.low, point.measured_quality.high) == (
            expected.value,
            expected.low,
            expected.high,
        )
        assert point.measured_quality.rows == len(known)


def test_what_a_retraining_would_have_been_worth_is_told_for_each_stretch_between_changes(rows: PastRows) -> None:
    change = at(NEW_FROM)
    past = history(rows, changes=(change,))
    assert past.changes == (change,)
    for point in past.points:
        stretch = range(NEW_FROM) if point.at < change else range(NEW_FROM, len(rows.at))
        gain = np.mean([1.0 - rows.scores[n] for n in stretch if rows.fresh_scores[n] is not None])  # type: ignore[operator]
        assert point.accuracy_kept is not None
        assert point.accuracy_fresh == pytest.approx(min(1.0, point.accuracy_kept + gain))


def test_a_random_share_alone_measures_where_there_is_one(rows: PastRows, plain: History) -> None:
    nothing = replace(rows, fresh_scores=[None] * len(rows.at))
    points = history(nothing, replace(RULES, random_share=0.3)).points
    assert {point.accuracy_fresh for point in points} == {None}
    qualities = [
        (point.measured_quality, all_of.measured_quality) for point, all_of in zip(points, plain.points, strict=True)
    ]
    assert qualities[0][0] is None, "fewer than 50 of them have a score"
    assert qualities[-1][0] is not None
    assert all(mine is None or (every is not None and mine.rows <= every.rows) for mine, every in qualities)
