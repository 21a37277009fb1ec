"""What every task promises, and that gate and rollout decide alike on each: better, equal and worse challengers."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest

from perennial.continual.drift.accuracy import ResolvedLabels, SampledAnswer, measure_accuracy
from perennial.continual.drift.sequential import errors, upper_bound
from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.gate import GateEvidence, GateRules, PairedRows, judge
from perennial.continual.identity import split_by
from perennial.continual.images import image_name
from perennial.continual.preparation import split_of
from perennial.continual.records import Split
from perennial.continual.replay import BufferKind, OfferOutcome, make_buffer, restore_buffer, row_bytes
from perennial.continual.rollout import LiveEvidence, RolloutRules, ScoreSums, Verdict, judge_live
from perennial.continual.task import PREDICTION, AnyTask, ColumnKind, score_kept
from perennial.continual.tasks import TASKS, task_named
from perennial.continual.tasks.generation import Rewrite
from perennial.ops.traffic import FIXED_COLUMNS, columns_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LABELS = ("fee", "refund", "lost card", "top up")
QUERY = {"user": "u1", "asked_at": "2026-01-30T10:00:00Z", "relevances": {}}
ITEMS = tuple(f"item {number}" for number in range(30))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A task with rows of it. `answer` is what a version says that is right with a probability."""

    task: AnyTask
    raws: Sequence[dict[str, Any]]  # the first two are the same question, no others are
    personal: dict[str, Any] | None  # None where an input holds no words
    wrong: Sequence[dict[str, Any]]
    answers: Sequence[Any]
    target: Callable[[np.random.Generator], Any]
    answer: Callable[[Any, float, np.random.Generator], Any]

    def rows(self) -> list[Any]:
        return [self.task.read_row(raw, now=NOON) for raw in self.raws]


def kept(value: Any) -> str:
    """An answer or a target as log and ledger keep it."""
    return value if isinstance(value, str) else json.dumps(value)


def one_label(target: str, right: float, rng: np.random.Generator) -> str:
    return target if rng.random() < right else LABELS[(LABELS.index(target) + 1) % len(LABELS)]


def some_items(rng: np.random.Generator) -> dict[str, float]:
    chosen = rng.choice(len(ITEMS), size=3, replace=False)
    return {ITEMS[place]: float(worth) for place, worth in zip(chosen, (3.0, 2.0, 1.0), strict=True)}


def an_order(target: dict[str, float], right: float, rng: np.random.Generator) -> tuple[str, ...]:
    """Every relevant item comes first with this probability, else anywhere."""
    others = [ITEMS[place] for place in rng.permutation(len(ITEMS))]
    first = [item for item in sorted(target, key=target.__getitem__, reverse=True) if rng.random() < right]
    return (*first, *(item for item in others if item not in first))


def of_labelled_texts(name: str) -> Case:
    return Case(
        task=task_named(name),
        raws=[
            {"text": "My card was lost", "label": "lost card", "at": (NOON - timedelta(days=2)).isoformat()},
            {"text": "my  CARD was lost ", "label": "fee", "key": "caller-7"},
            {"text": "Grüße aus Köln", "label": "refund", "origin": "labeller", "redacted": True},
            {"text": "what is this fee", "label": "fee", "prediction_id": "0" * 32, "origin": "feedback"},
        ],
        personal={"text": "mail jo@example.org about the fee", "label": "fee"},
        wrong=[
            {"text": "no label"},
            {"label": "fee"},
            {"text": " ", "label": "fee"},
            {"text": "x", "label": ""},
            {"text": 5, "label": "fee"},
            {"text": "x", "label": "fee", "origin": "nowhere"},
            {"text": "x", "label": "fee", "at": "yesterday"},
        ],
        answers=LABELS,
        target=lambda rng: str(rng.choice(LABELS)),
        answer=one_label,
    )


RED, GREEN, BLUE = (image_name(colour) for colour in (b"red", b"green", b"blue"))
REWRITE = {"approved": "You cannot pay by card.", "accepted": "Hi Jo, you can't pay by card."}
ACCEPTED = ("Hi! It costs $5.", "It costs $5.", "Hello Jo, it costs $5. Have a nice day!")


def an_edit(target: str, right: float, rng: np.random.Generator) -> str:
    """The accepted text with this probability, else one that shares next to nothing with it."""
    return target if rng.random() < right else "".join(sorted(target, reverse=True))


CASES = [
    Case(
        task=task_named("generation"),
        raws=[
            REWRITE | {"tone": "warm", "name": "Jo", "at": (NOON - timedelta(days=2)).isoformat()},
            REWRITE | {"tone": " Warm", "approved": "you  cannot pay by CARD.", "name": "Ann", "key": "caller-7"},
            {"approved": "Grüße aus Köln", "accepted": "Grüße!", "origin": "labeller", "redacted": True},
            REWRITE | {"prediction_id": "0" * 32, "origin": "feedback"},
        ],
        personal=REWRITE | {"approved": "mail jo@example.org about the fee"},
        wrong=[
            {"approved": "no edit"},
            {"accepted": "no reply"},
            *(REWRITE | {"approved": text} for text in (" ", 5)),
            *(REWRITE | {"accepted": text} for text in ("", 5)),
            REWRITE | {"tone": 5},
            REWRITE | {"origin": "nowhere"},
            REWRITE | {"at": "yesterday"},
        ],
        answers=ACCEPTED,
        target=lambda rng: str(rng.choice(ACCEPTED)),
        answer=an_edit,
    ),
    Case(
        task=task_named("image_classification"),
        raws=[
            {"text": RED, "label": "lost card", "at": (NOON - timedelta(days=2)).isoformat()},
            {"text": f" {RED} ", "label": "fee", "key": "caller-7"},
            {"text": GREEN, "label": "refund", "origin": "labeller", "redacted": True},
            {"text": BLUE, "label": "fee", "prediction_id": "0" * 32, "origin": "feedback"},
        ],
        personal=None,
        wrong=[
            {"text": RED},
            {"label": "fee"},
            *({"text": text, "label": "fee"} for text in (" ", 5, "my card", "image:../../etc/passwd", RED[:-1])),
            {"text": RED, "label": ""},
            {"text": RED, "label": "fee", "at": "yesterday"},
        ],
        answers=LABELS,
        target=lambda rng: str(rng.choice(LABELS)),
        answer=one_label,
    ),
    of_labelled_texts("opinion"),
    of_labelled_texts("replies"),
    of_labelled_texts("text_classification"),
    Case(
        task=task_named("ranking"),
        raws=[
            {"user": "u1", "asked_at": "2026-01-30T10:00:00+00:00", "relevances": {"item 1": 1}, "key": "u1"},
            {"user": " u1 ", "asked_at": "2026-01-30T12:00:00+02:00", "relevances": {}, "segment": "new"},
            {"user": "u1", "asked_at": "2026-01-30T10:00:01Z", "relevances": {"ä": 0.5, "b": 3}, "redacted": True},
            {
                "user": "u2",
                "asked_at": "2026-01-30T10:00:00Z",
                "relevances": {"b": 0},
                "context": "Grüße",
                "origin": "seed",
            },
        ],
        personal=QUERY | {"context": "call +44 20 7946 0958"},
        wrong=[
            {"user": "u1", "relevances": {}},
            *(QUERY | {"user": user} for user in (" ", 5)),
            *(QUERY | {"relevances": {"a": worth}} for worth in (-1.0, float("nan"), 1e9, "much")),
            *(QUERY | {"relevances": relevances} for relevances in ([["a", 1.0]], {"": 1.0}, None)),
            *(QUERY | {"context": context} for context in (5, " ")),
            QUERY | {"segment": ""},
            QUERY | {"asked_at": "2026-01-30T10:00:00"},
            QUERY | {"origin": "nowhere"},
        ],
        answers=[(), ITEMS, ITEMS[::-1], ITEMS[:3], (ITEMS[0],) * 20],
        target=some_items,
        answer=an_order,
    ),
]
every_task = pytest.mark.parametrize("case", CASES, ids=[case.task.name for case in CASES])


def test_every_task_is_tried() -> None:
    assert {case.task.name for case in CASES} == set(TASKS)
    with pytest.raises(
        ConfigurationError, match="task 'image' is unknown; use one of generation, image_classification, "
    ):
        task_named("image")


@every_task
def test_a_score_lies_between_nothing_and_the_best(case: Case) -> None:
    rng = np.random.default_rng(0)
    targets = [case.target(rng) for _ in range(50)] + [row.target for row in case.rows()]
    scores = [case.task.score(answer, target) for answer in case.answers for target in targets]
    scores += [case.task.score(case.answer(target, right, rng), target) for target in targets[:50] for right in (0, 1)]
    assert all(isinstance(score, float) and 0.0 <= score <= 1.0 for score in scores)
    assert all(case.task.score(case.answer(target, 1.0, rng), target) == 1.0 for target in targets[:50])
    assert min(scores) < 0.5


@every_task
def test_an_answer_is_the_same_as_itself_and_others_are_not(case: Case) -> None:
    same = [[case.task.same(one, other) for other in case.answers] for one in case.answers]
    assert same == [list(row) for row in np.eye(len(case.answers), dtype=bool).tolist()]


@every_task
def test_the_first_two_rows_ask_the_same_and_no_others_do(case: Case) -> None:
    found = [case.task.identity(row.input) for row in case.rows()]
    assert found[0] == found[1]
    assert len(set(found)) == len(found) - 1


@every_task
def test_what_is_asked_again_is_never_both_learnt_and_held_out(case: Case) -> None:
    rows = stream(case, 400)
    splits = [split_by(case.task.identity(row.input), holdout_share=0.25) for row in rows]
    assert 60 < splits.count(Split.HOLDOUT) < 140
    first, second = (case.task.identity(row.input) for row in case.rows()[:2])
    assert all(split_by(first, holdout_share=s) is split_by(second, holdout_share=s) for s in np.linspace(0, 1, 20))
    held = {n for n, split in enumerate(splits) if split is Split.HOLDOUT}
    assert all(split_by(case.task.identity(rows[n].input), holdout_share=0.5) is Split.HOLDOUT for n in held)
    if case.task.name == "text_classification":
        assert splits == [split_of(row.text, holdout_share=0.25) for row in rows], "what ledgers hold stays where it is"


@every_task
def test_an_identity_is_the_same_in_every_process(case: Case) -> None:
    code = (
        "import json, sys; from datetime import datetime; from perennial.continual.tasks import task_named\n"
        "name, now, raws = json.load(sys.stdin); task = task_named(name); now = datetime.fromisoformat(now)\n"
        "print(json.dumps([task.identity(task.read_row(raw, now=now).input).hex() for raw in raws]))"
    )
    here = [case.task.identity(row.input).hex() for row in case.rows()]
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps([case.task.name, NOON.isoformat(), case.raws]),
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert json.loads(there.stdout) == here


@every_task
def test_rows_survive_a_round_trip_through_json(case: Case) -> None:
    for row in case.rows():
        written = json.loads(json.dumps(case.task.write_row(row)))
        assert case.task.read_row(written, now=NOON + timedelta(days=1)) == row


@every_task
def test_rows_that_the_ledger_keeps_are_read_again(case: Case) -> None:
    for row in case.rows():
        kept_row = case.task.keep(row)
        assert case.task.read_kept(kept_row) == row
        assert case.task.read_target(kept_row.target) == row.target
        if isinstance(row.input, str):
            assert (kept_row.input, kept_row.target) == (row.input, row.target), "searched for as they are"


@every_task
def test_the_traffic_log_keeps_the_answer_and_texts_of_what_was_asked(case: Case) -> None:
    columns = case.task.log_columns
    texts = [name for name, kind in columns.items() if kind is ColumnKind.TEXT]
    assert PREDICTION in texts
    assert len(texts) > 1
    assert not set(columns) & {*FIXED_COLUMNS, "embedding"}
    assert list(columns_of(case.task.name)) == [*FIXED_COLUMNS, *columns]


@every_task
def test_answers_and_targets_that_were_kept_are_read_again(case: Case) -> None:
    for answer in case.answers:
        assert case.task.read_answer(kept(answer)) == answer
    for row in case.rows():
        assert case.task.read_target(kept(row.target)) == row.target


@every_task
def test_personal_data_leaves_once_and_for_all(case: Case) -> None:
    if case.personal is not None:
        row = case.task.read_row(case.personal, now=NOON)
        assert row.redacted
        assert case.task.redact(row.input) == (row.input, False)
        assert "[" in json.dumps(case.task.write_row(row))
    assert [case.task.redact(one.input) for one in case.rows()] == [(one.input, False) for one in case.rows()]


@every_task
def test_a_row_that_breaks_a_rule_is_refused(case: Case) -> None:
    for raw in case.wrong:
        with pytest.raises(DataError):
            case.task.read_row(raw, now=NOON)


@every_task
def test_a_stratum_and_words_are_text_and_a_size_grows_with_the_row(case: Case) -> None:
    rows = case.rows()
    assert len({case.task.stratum(row) for row in rows}) > 1
    assert all(case.task.stratum(row) and case.task.words(row.input) for row in rows)
    assert case.task.words(rows[0].input) == case.task.words(rows[0].input)
    assert all(case.task.size_bytes(row) > 0 for row in rows)
    assert case.task.stratum_noun


# ---- the memory of old rows ----


def stream(case: Case, count: int) -> list[Any]:
    """Rows of the case asked again and again by others, at later times."""
    row = case.rows()[1]
    if isinstance(row.input, str):
        return [replace(row, text=f"{row.text} {n}", at=NOON + timedelta(seconds=n)) for n in range(count)]
    if isinstance(row.input, Rewrite):
        asked = [
            replace(row.input, approved=f"{n} {row.input.approved}", tone="new" if n in (3, 4) else "all")
            for n in range(count)
        ]
        return [replace(row, input=asked[n], at=NOON + timedelta(seconds=n)) for n in range(count)]
    queries = [replace(row.input, user=f"u{n}", segment="new" if n in (3, 4) else "all") for n in range(count)]
    return [replace(row, input=queries[n], at=NOON + timedelta(seconds=n)) for n in range(count)]


@every_task
@pytest.mark.parametrize("kind", list(BufferKind))
def test_a_buffer_keeps_rows_by_identity_stratum_size_and_time(case: Case, kind: BufferKind) -> None:
    rows = stream(case, 60)
    budget = 9 * (row_bytes(rows[0], case.task) + 8)
    buffer = make_buffer(kind, 10, 7, budget, task=case.task)
    for row in rows:
        buffer.offer(row)
    assert 1 < len(buffer) <= 10
    assert buffer.bytes == sum(row_bytes(row, case.task) for row in buffer.rows()) <= budget
    kept_row = buffer.rows()[0]
    other = next(row.target for row in case.rows() if row.target != kept_row.target)
    changed = {"label" if isinstance(kept_row.input, str) else "target": other}
    assert buffer.offer(kept_row).outcome is OfferOutcome.DUPLICATE
    assert (
        buffer.offer(replace(kept_row, at=kept_row.at - timedelta(days=1), **changed)).outcome is OfferOutcome.DUPLICATE
    )
    assert kept_row in buffer.offer(replace(kept_row, at=kept_row.at + timedelta(days=1), **changed)).evicted
    assert kept_row not in buffer.rows()
    assert restore_buffer(buffer.state(), task=case.task).state() == buffer.state()


def test_a_small_segment_keeps_its_rows_in_a_balanced_buffer() -> None:
    case = next(case for case in CASES if case.task.name == "ranking")
    buffer = make_buffer("class_balanced", 10, 7, task=case.task)
    for row in stream(case, 100):
        buffer.offer(row)
    assert sorted(row.input.segment for row in buffer.rows()) == ["all"] * 8 + ["new"] * 2


# ---- the decisions that stand on the score ----


def paired(case: Case, rows: int, champion: float, challenger: float, seed: int) -> PairedRows:
    rng = np.random.default_rng(seed)
    targets = [case.target(rng) for _ in range(rows)]
    scores = [
        np.array([case.task.score(case.answer(target, right, rng), target) for target in targets])
        for right in (champion, challenger)
    ]
    return PairedRows(
        strata=np.array([f"part {place % 4}" for place in range(rows)]),
        champion_scores=scores[0],
        challenger_scores=scores[1],
        stratum_noun=case.task.stratum_noun,
    )


def accepted(case: Case, fresh: PairedRows, old: PairedRows) -> tuple[bool, str]:
    evidence = GateEvidence(
        champion=1,
        challenger=2,
        fresh=fresh,
        old=old,
        challenger_calibration_error=0.0,
        champion_latency_ms=1.0,
        challenger_latency_ms=1.0,
    )
    decision = judge(evidence, GateRules(), np.random.default_rng(0))
    return decision.accepted, "; ".join(decision.reasons)


@every_task
def test_the_gate_takes_the_better_and_the_equal_and_refuses_the_worse(case: Case) -> None:
    old = [paired(case, 300, 0.9, 0.9, seed) for seed in range(20)]
    better = [accepted(case, paired(case, 200, 0.5, 0.9, seed), old[seed])[0] for seed in range(20)]
    equal = [accepted(case, paired(case, 200, 0.9, 0.9, 100 + seed), old[seed])[0] for seed in range(20)]
    worse = [accepted(case, paired(case, 200, 0.9, 0.6, seed), old[seed]) for seed in range(20)]
    assert sum(better) >= 17
    assert sum(equal) >= 16
    assert not any(taken for taken, _ in worse)
    assert all("not better" in why for _, why in worse)


@every_task
def test_the_gate_refuses_what_forgets_and_names_the_part_that_broke(case: Case) -> None:
    fresh = paired(case, 200, 0.5, 0.9, 1)
    taken, why = accepted(case, fresh, paired(case, 400, 0.95, 0.6, 2))
    assert not taken
    assert "forgets" in why
    assert f"worse on {case.task.stratum_noun} part 0" in why


def live(case: Case, rows: int, champion: float, challenger: float, seed: int) -> Verdict:
    pairs = paired(case, rows, champion, challenger, seed)
    differences = pairs.challenger_scores - pairs.champion_scores
    for seen in range(25, rows + 1, 25):
        values, counts = np.unique(differences[:seen], return_counts=True)
        evidence = LiveEvidence(
            gains=int((differences[:seen] > 0).sum()),
            losses=int((differences[:seen] < 0).sum()),
            ties=int((differences[:seen] == 0).sum()),
            scores=ScoreSums.of(dict(zip(values.tolist(), counts.tolist(), strict=True))),
        )
        verdict = judge_live(evidence, RolloutRules(), at_limit=seen == rows).verdict
        if verdict is not Verdict.UNDECIDED:
            return verdict
    return Verdict.UNDECIDED


@every_task
def test_a_rollout_passes_the_better_and_the_equal_and_turns_the_worse_away(case: Case) -> None:
    assert [live(case, 800, 0.8, 0.95, seed) for seed in range(20)] == [Verdict.HOLDS] * 20
    assert [live(case, 800, 0.95, 0.75, seed) for seed in range(20)] == [Verdict.WORSE] * 20
    assert sum(live(case, 800, 0.9, 0.9, seed) is Verdict.HOLDS for seed in range(20)) >= 18


@every_task
def test_the_measured_quality_and_the_watched_errors_are_of_the_score(case: Case) -> None:
    rng = np.random.default_rng(0)
    pairs = [(case.answer(target, 0.7, rng), target) for target in (case.target(rng) for _ in range(300))]
    scores = [case.task.score(answer, target) for answer, target in pairs]
    answers, targets = ([kept(value) for value in values] for values in zip(*pairs, strict=True))
    sampled = [SampledAnswer(prediction_id=str(n), predicted=answer, chance=0.1) for n, answer in enumerate(answers)]
    labels = ResolvedLabels(
        labels={str(n): target for n, target in enumerate(targets)}, contested=frozenset(), corrected=0
    )
    found = measure_accuracy(sampled, labels, score=partial(score_kept, case.task))
    assert found.value == pytest.approx(np.mean(scores))
    assert found.low < found.value < found.high
    missed = errors(answers, targets, partial(score_kept, case.task))
    assert missed.tolist() == [1.0 - score for score in scores]
    assert upper_bound(missed) > missed.mean()


# ---- what NDCG is ----


def test_a_ranking_is_worth_the_discounted_gain_of_its_first_ten() -> None:
    score = task_named("ranking").score
    target = {"a": 3.0, "b": 2.0, "c": 1.0}
    best = 3 + 2 / np.log2(3) + 1 / 2
    assert score(("a", "b", "c"), target) == 1.0
    assert score(("c", "x", "a"), target) == pytest.approx((1 + 3 / 2) / best)
    assert score((*(f"x{n}" for n in range(9)), "a"), target) == pytest.approx(3 / np.log2(11) / best)
    assert score((*(f"x{n}" for n in range(10)), "a"), target) == 0.0
    assert score(("a", "a", "a"), {"a": 1.0}) == 1.0
    assert score(("b", "a", "a"), {"a": 1.0}) == pytest.approx(1 / np.log2(3))
    assert score(("a",), {}) == score((), {"a": 1.0}) == score(("a",), {"a": 0.0}) == 0.0
    many = {f"x{n}": 1.0 for n in range(50)}
    assert score(tuple(many), many) == 1.0


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", "null", '"a"'])
def test_what_is_no_ranking_is_not_read_as_one(text: str) -> None:
    with pytest.raises(DataError):
        task_named("ranking").read_answer(text)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"a": "much"}', "null", '{"a": NaN}', '{"a": -5, "b": 1}', '{"a": 1e308}', '{"a": true}', '{"a": 1e7}'],
)
def test_what_are_no_relevances_are_not_read_as_some(text: str) -> None:
    with pytest.raises(DataError):
        task_named("ranking").read_target(text)
