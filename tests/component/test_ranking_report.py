"""The report on a ranking: what its bundle lists for held-out rows, and what a log with lent places says of it."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.jobs.process import JobResult
from perennial.continual.learning.ranking import Exploration, ItemGram
from perennial.continual.records import PromotionDecision, Split
from perennial.continual.tasks.ranking import Impression, Query
from perennial.ops.ledger import FeedbackRow, Ledger, VersionRow, VersionState, version_card
from perennial.ops.making import version_maker
from perennial.ops.making.challenger import ChallengerMaker
from perennial.ops.making.logged_choices import UnknownTime
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks import serving_side
from perennial.ops.settings import Settings
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficWriter, columns_of
from perennial.ops.views.ranking_report import ranking_report
from perennial.ops.views.ranking_report_lines import ranking_report_lines, ranking_report_page
from tests.component.databases import fresh_url
from tests.component.ranking_fixtures import ASKED_AT, ITEMS, asked_in_town, export_ranking, train_ranking
from tests.unit.learning.ranking.town import events

pytestmark = pytest.mark.component
_MODEL, _LOGGED = "shop", 400


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ledger, Workspace]]:
    """Version 1 lends places; users' later likings are held out, and 400 of its lists are logged."""
    folder = tmp_path_factory.mktemp("report")
    models = {_MODEL: {"task": "ranking"}}
    workspace = Workspace(Settings(state=folder / "state", repository=folder / "repository", models=models))
    lends = Exploration(share=0.3, most=1, known_from=1_000.0)
    trained = train_ranking(folder / "trained", exploration=lends)
    export_ranking(workspace.bundle(_MODEL, 1), trained, 1)
    gram = ItemGram()
    gram.add(events(seed=1))
    with UserEvents(workspace.user_events(_MODEL)) as users, Ledger.open(fresh_url("sqlite", folder)) as ledger:
        users.add(events(seed=1))
        ledger.register_model(_MODEL, models[_MODEL])
        card = version_card(labels=())
        ledger.add_version(VersionRow(model=_MODEL, version=1, state=VersionState.CHAMPION, card=card))
        held = []
        for asked in asked_in_town():
            later = {one.item: one.liked for one in gram.history(asked.user) if one.at >= ASKED_AT}
            query = Query(user=asked.user, at=ASKED_AT)
            held.append(Impression(input=query, target=later, at=ASKED_AT + timedelta(days=1), key=asked.user))
        ledger.add_examples(_MODEL, held, lambda _: Split.HOLDOUT)
        _log(ledger, workspace)
        yield ledger, workspace


def _log(ledger: Ledger, workspace: Workspace) -> None:
    """Lists as a router logs them, some places drawn; the first item of every second one is liked."""
    side, version = serving_side("ranking"), BundledVersion.load(workspace.bundle(_MODEL, 1))
    town = asked_in_town()
    asked = [replace(town[number % len(town)], lottery=number) for number in range(_LOGGED)]
    answers = version.answers(asked)
    own = side.columns(asked, answers)
    at = ASKED_AT + timedelta(hours=1)
    ids = [f"{int(at.timestamp() * 1000):012x}{number:020x}" for number in range(_LOGGED)]
    fixed = {
        "prediction_id": ids,
        "at": [at] * _LOGGED,
        "key": [one.user for one in asked],
        "version": [1] * _LOGGED,
        "arm": ["champion"] * _LOGGED,
        "latency_ms": [1.0] * _LOGGED,
    }
    with closing(TrafficWriter(workspace.traffic(_MODEL), "town", task="ranking")) as writer:
        writer.append({name: (fixed | dict(own))[name] for name in columns_of("ranking")})
    firsts = [json.loads(kept)[0] for kept in own["prediction"]]
    rows = [
        FeedbackRow(prediction_id=number, label=json.dumps({first: 1.0}), at=at)
        for number, first in list(zip(ids, firsts, strict=True))[::2]
    ]
    ledger.add_feedback(_MODEL, rows)


def test_held_out_rows_are_answered_with_what_was_known_before_them(town: tuple[Ledger, Workspace]) -> None:
    report = ranking_report(*town, _MODEL, 1)
    proof = report.proof
    assert proof is not None
    assert proof.rows == proof.users >= 20
    assert proof.ahead.decided > 0, "the town's readers keep to their genre"
    assert report.verdict.startswith("Its lists are better than that of the most liked items")
    assert report.exposure is not None
    assert 0 < report.exposure.coverage <= 1


def test_a_log_with_lent_places_says_what_the_version_would_have_earned(town: tuple[Ledger, Workspace]) -> None:
    log = ranking_report(*town, _MODEL, 1).log
    assert log is not None
    assert (log.rows, log.judged, log.earned) == (_LOGGED, _LOGGED, 0.5)
    assert 0.6 < log.agreed < 0.95, "without a lottery it lists what it lists itself, but for the drawn places"
    assert 0 < log.lent < _LOGGED / 2
    found = log.off_policy
    assert found is not None
    assert found.inverse_propensity.low < 0.5 < found.inverse_propensity.high
    assert found.self_normalised == pytest.approx(0.5, abs=0.05)
    assert 100 < found.effective_rows <= _LOGGED


def test_it_is_told_in_sentences_and_as_a_page(town: tuple[Ledger, Workspace]) -> None:
    report = ranking_report(*town, _MODEL, 1)
    text = "\n".join(ranking_report_lines(report))
    for words in ("NDCG@10", "% of the catalogue", "inverse propensity", "doubly robust"):
        assert words in text
    page = ranking_report_page(replace(report, model="<b>"))
    assert "<h1>&lt;b&gt;, version 1</h1>" in page


def judged(town: tuple[Ledger, Workspace], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How many logged lists the judgement of a version 2 is given, and how many its file holds afterwards."""
    ledger, workspace = town
    given: list[int] = []

    def job(module: str, arguments: list[str], **_: Any) -> JobResult:
        spec = Path(arguments[0])
        given.append(len(json.loads(spec.read_text())["logged"]))
        decision = PromotionDecision(champion=1, challenger=2, accepted=True, reasons=(), figures={})
        (spec.parent / "decision.json").write_text(json.dumps(asdict(decision)))
        return JobResult(exit_code=0, cancelled=False, timed_out=False, tail=module)

    monkeypatch.setattr(version_maker, "run_job", job)
    assert ChallengerMaker(ledger, workspace, _MODEL).judge(2, ledger.version(_MODEL, 1)).accepted
    kept = json.loads((workspace.run(_MODEL, 2) / "judge.json").read_text())["logged"]
    return given[0], len(kept)


def test_lists_that_were_learnt_tell_nothing_of_what_would_have_been_earned(
    town: tuple[Ledger, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, workspace = town
    ledger.add_version(VersionRow(model=_MODEL, version=2))
    assert judged(town, monkeypatch) == (_LOGGED, 0), "callers' requests are kept no longer than they are needed"
    query = Query(user="u00", at=ASKED_AT + timedelta(hours=2))
    taught = [Impression(input=query, target={ITEMS[0].name: 1.0}, at=query.at, key="u00")]
    ledger.add_examples(_MODEL, taught, lambda _: Split.TRAIN)
    assert judged(town, monkeypatch) == (0, 0), "the challenger was taught what came after them"
    ledger.mark_learnt(_MODEL, [row.id for row in ledger.examples(_MODEL, split=Split.TRAIN)], 1)
    report = ranking_report(ledger, workspace, _MODEL, 1)
    assert report.log is not None
    assert (report.log.rows, report.log.judged, report.log.off_policy) == (_LOGGED, 0, None)
    assert "cannot be told: 0 of these lists are later than all that it learnt" in "\n".join(
        ranking_report_lines(report)
    )


def test_lists_count_once_their_feedback_had_time(town: tuple[Ledger, Workspace]) -> None:
    now = datetime.now(UTC)
    within = UnknownTime.of(town[1], _MODEL, now - timedelta(hours=1))
    held = [within.holds(now - timedelta(seconds=age)) for age in (7_200, 3_600, 1_800, 700, 500, 0)]
    assert held == [False, False, True, True, False, False]
