"""The demonstration tells one story: one population in chart and table, a headline that follows, steps of cycles."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.ops.demo.figures import figures_of
from perennial.ops.demo.measure import Learnt, Recorded, moments, summarise
from perennial.ops.demo.nightly import nightly_refits
from perennial.ops.demo.report import write_report
from perennial.ops.demo.story import LAST, Learners, headline, table
from perennial.ops.demo.timeline import cycle_times
from perennial.ops.demo.world import Answered

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RATE = 10  # requests a second
CHANGE, SWAP, ALL = 400, 700, 1_200


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def event(name: str, second: float, **facts: Any) -> dict[str, Any]:
    return {"number": 0, "name": name, "at": at(second).isoformat().replace("+00:00", "Z"), "facts": facts}


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """The world changes at request 400; what is new is answered rightly from request 700 on, by version 2."""
    answered = tuple(
        Answered(
            number=n,
            wave=int(n >= CHANGE),
            text=f"{'new' if n >= CHANGE else 'old'} {n}",
            label="new" if n >= CHANGE else "old",
            answer="new" if n >= SWAP else "old",
            sent_at=at(n / RATE),
            at_s=n / RATE,
            latency_ms=2.0 + n % 7,
            version=2 if n >= SWAP else 1,
            labelled_at=at(n / RATE + 3),
        )
        for n in range(ALL)
    )
    window = {"score": 2.0, "signals": ["words"], "state": "alert", "drifted": True, "window_to": at(60).isoformat()}
    states = [(64, "exporting"), (66, "judging"), (67, "publishing"), (69, "promoting"), (69.5, "probation")]
    events = (
        event("drift.window", 60, alert=True, **window),
        event("cycle.opened", 62, cycle=1, version=2, reason="drift in words"),
        *(event("cycle.state", second, cycle=1, version=2, state=state, note="") for second, state in states),
        event("route.promoted", 69.4, version=2, previous=1, replay_rows=10),
        event("cycle.state", 75, cycle=1, version=2, state="promoted", note=""),
        event("cycle.closed", 75, cycle=1),
    )
    return Recorded(
        answered=answered, events=events, wave_began=(CHANGE,), wave_began_at=(at(CHANGE / RATE),), triton_restarts=0
    )


@pytest.fixture(scope="module")
def learnt(recorded: Recorded) -> Learnt:
    return Learnt(
        perennial=tuple(a.answer == a.label for a in recorded.answered),
        never_retrained=tuple(a.label == "old" for a in recorded.answered),
        tfidf_nightly=tuple(a.number < CHANGE or a.number >= 900 for a in recorded.answered),
    )


@pytest.fixture(scope="module")
def summary(recorded: Recorded, learnt: Learnt) -> dict[str, Any]:
    return summarise(recorded, None, learnt, moments(recorded), replay_rows=10, wall_seconds=60.0)


def test_steps_of_a_cycle_add_up_to_the_first_answer(recorded: Recorded) -> None:
    (cycle,) = cycle_times(recorded.events, recorded.answered)
    assert cycle.steps == (
        ("training", 2.0),
        ("exporting", 2.0),
        ("judging", 1.0),
        ("publishing", 2.0),
        ("promoting", 0.5),
        ("first_answer", pytest.approx(0.502)),
    )
    assert (cycle.outcome, cycle.answered_anew_s) == ("promoted", pytest.approx(10.002))
    assert sum(seconds for _, seconds in cycle.steps) == pytest.approx(8.002)


def test_a_cycle_that_was_refused_has_its_steps_and_no_answer(recorded: Recorded) -> None:
    refused = [
        event("cycle.opened", 1, cycle=7, version=9, reason="labels"),
        event("cycle.state", 3, cycle=7, version=9, state="exporting", note=""),
        event("cycle.state", 4, cycle=7, version=9, state="judging", note=""),
        event("cycle.state", 6, cycle=7, version=9, state="refused", note="worse"),
    ]
    (cycle,) = cycle_times(refused, recorded.answered)
    assert cycle.steps == (("training", 2.0), ("exporting", 1.0), ("judging", 2.0))
    assert (cycle.outcome, cycle.answered_at, cycle.answered_anew_s) == ("refused", None, None)


def test_chart_and_table_count_the_same_requests(recorded: Recorded, learnt: Learnt, summary: dict[str, Any]) -> None:
    after = ALL - CHANGE
    assert summary["stream"]["since_change"] == {
        "perennial": (ALL - SWAP) / after,
        "never_retrained": 0.0,
        "tfidf_nightly": 300 / after,
        "requests": after,
    }
    assert summary["stream"]["last"]["requests"] == LAST
    (_, _, chart), *_ = figures_of(recorded, learnt)
    ends = {trace.name: trace.y[-1] for trace in chart.data}
    assert ends == {"never retrained": 0.0, "word counts, refitted every night": 1.0, "Perennial": 1.0}
    assert all(list(trace.x) == list(chart.data[0].x) for trace in chart.data)


@pytest.mark.parametrize(
    ("perennial", "frozen", "nightly", "said"),
    [
        (0.9, 0.6, 0.8, "Perennial kept the model good"),
        (0.9, 0.6, 0.9, "as much as word counts refitted every night"),
        (0.8, 0.6, 0.9, "word counts refitted every night did better"),
        (0.6, 0.6, 0.5, "did not help"),
        (0.5, 0.6, 0.5, "did not help"),
    ],
)
def test_the_headline_follows_from_the_figures(perennial: float, frozen: float, nightly: float, said: str) -> None:
    shares = Learners(perennial=perennial, never_retrained=frozen, tfidf_nightly=nightly, requests=1_234)
    title, told = headline(shares)
    assert said in title
    assert all(f"{share:.1%}" in told for share in (perennial, frozen, nightly))
    assert "1,234 requests" in told


def test_the_page_speaks_words_and_units(
    recorded: Recorded, learnt: Learnt, summary: dict[str, Any], tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", recorded, learnt, summary, "On <made> rows")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<h1>Perennial kept the model good</h1>" in page
    assert "On &lt;made&gt; rows" in page
    body = page[page.index("<h2>The cycles</h2>") :]
    assert "train 2.0 s, compile and prove 2.0 s, judge on held-out rows 1.0 s" in body
    assert "10 s after the drift was confirmed" in body
    assert "99th percentile of the latency" in body
    assert "_" not in "".join(name + value for _, rows in table(summary) for name, value in rows)


def test_a_night_teaches_what_was_labelled_before_it(recorded: Recorded) -> None:
    seed = [(f"old {n}", "old") for n in range(20)] + [("other", "other")] * 20
    nightly = nightly_refits(seed, recorded.answered, nights=3)
    assert nightly.nights == (400, 800)
    assert all(nightly.right[:400])
    assert not any(nightly.right[400:800])  # nobody had told it of what is new
    assert all(nightly.right[800:])


def test_a_stream_without_waves_is_summed_up_whole(recorded: Recorded, learnt: Learnt) -> None:
    natural = Recorded(
        answered=recorded.answered, events=recorded.events, wave_began=(), wave_began_at=(), triton_restarts=0
    )
    told = summarise(natural, None, learnt, moments(natural), replay_rows=0, wall_seconds=1.0)
    assert told["stream"]["since_change"]["requests"] == ALL
    assert told["retrainings_before_first_wave"] == 0
    assert next(heading for heading, _ in table(told)).startswith("The stream")
