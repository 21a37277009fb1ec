"""What ends a canary and a probation, on a real ledger: proof at any time, and chance at no time."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perennial.continual import cycle as cy
from perennial.continual.rollout import LiveEvidence
from perennial.exporters.text_classification.classifier import BundleClassifier
from perennial.ops.comparing.comparison import ArmComparison
from perennial.ops.store.event_feed import EventFeed
from perennial.ops.store.state import ROLLOUT, LiveFigures
from tests.component.town import Town
from tests.component.triton_fixtures import write_bundle

pytestmark = pytest.mark.component

EQUAL = LiveEvidence(gains=1, losses=2, ties=27)  # -3.3 points, by one net loss
TOLD_APART = LiveEvidence(gains=1, losses=7, ties=92)  # by a test that may be made once
PROVEN = LiveEvidence(gains=5, losses=60, ties=900)
GOOD = LiveEvidence(gains=20, losses=20, ties=960)


class Evidence:
    """Whatever the test says."""

    def __init__(self) -> None:
        self.now = LiveEvidence()
        self.asked: list[dict[str, Any]] = []

    def read(self, **asked: Any) -> LiveEvidence:
        self.asked.append(asked)
        return self.now

    def disputed(self, **_: Any) -> tuple[str, ...]:
        return ()


class Judge:
    """An `ArmComparison` of one model, in the second hour of a canary or at the end of a probation."""

    def __init__(self, town: Town) -> None:
        self.evidence, self.ledger = Evidence(), town.ledger
        self._comparison = ArmComparison(
            model="intent",
            ledger=town.ledger,
            workspace=town.workspace,
            traffic=town.traffic,
            feed=EventFeed(),
            evidence=self.evidence,  # type: ignore[arg-type]
            cancel=threading.Event(),
        )
        self.began = datetime.now(UTC) - timedelta(hours=2)

    def shadow(self) -> cy.Event:
        return self._comparison.shadow(champion=1, challenger=2)

    def canary(self, evidence: LiveEvidence, *, cycle: int = 1, over: bool = True) -> cy.Event | None:
        self.evidence.now = evidence
        return self._comparison.canary(cycle=cycle, champion=1, challenger=2, entered=self.began, over=over)

    def probation(
        self, evidence: LiveEvidence, *, cycle: int = 1, settled: bool = True, over: bool = False
    ) -> cy.Event | None:
        self.evidence.now = evidence
        return self._comparison.probation(
            cycle=cycle, champion=2, previous=1, since=self.began, settled=settled, over=over
        )

    def figures(self) -> LiveFigures:
        figures = ROLLOUT.read(self.ledger, "intent")
        assert figures is not None
        return figures


@pytest.fixture
def judge(make_town: Callable[..., Town]) -> Judge:
    return Judge(make_town())


@pytest.mark.parametrize(("labelled", "refused"), [(29, False), (30, True)])
def test_a_replay_turns_a_worse_challenger_away_from_thirty_labels_on(
    make_town: Callable[..., Town], labelled: int, refused: bool
) -> None:
    town = make_town(cycle={"shadow_rows_per_s": 100_000.0})
    for version, shift in ((1, 0), (2, 1)):
        write_bundle(town.workspace.bundle("intent", version), version, shift=shift)
    requests = town.ask(40)
    champion = BundleClassifier.load(town.workspace.bundle("intent", 1), threads=1)
    rows = town.traffic.read(last=40, columns=["prediction_id", "text"]).to_pylist()
    answers = champion.predict([row["text"] for row in rows]).labels
    right = {row["prediction_id"]: str(label) for row, label in zip(rows, answers, strict=True)}
    town.label([replace(one, truth=right[one.prediction_id]) for one in requests[:labelled]])
    event = Judge(town).shadow()
    assert isinstance(event, cy.ShadowRefused if refused else cy.ShadowAccepted)
    if isinstance(event, cy.ShadowRefused):
        assert "on 30 labelled rows" in event.reasons[0]


def test_a_probation_ends_on_evidence(judge: Judge) -> None:
    assert judge.probation(EQUAL) is None
    assert isinstance(judge.probation(PROVEN, settled=False), cy.ProbationFailed)
    assert judge.probation(GOOD, settled=False) is None, "failures and times are watched for a while in any case"
    assert judge.probation(GOOD) == cy.ProbationPassed()


def test_or_at_its_age_by_the_test_at_the_limit(judge: Judge) -> None:
    assert judge.probation(TOLD_APART) is None
    assert judge.probation(replace(TOLD_APART, waiting=3), over=True) is None, "labels came that are to be compared"
    assert isinstance(judge.probation(TOLD_APART, over=True), cy.ProbationFailed)
    for evidence in (EQUAL, LiveEvidence(), LiveEvidence(losses=8, ties=21)):
        assert judge.probation(evidence, over=True) == cy.ProbationPassed(), "29 labels are too few for a test"


def test_a_cycle_has_its_test_at_the_limit_once_in_its_canary_or_with_few_labels_in_its_probation(judge: Judge) -> None:
    assert judge.canary(EQUAL) == cy.CanaryStepPassed()
    assert judge.probation(TOLD_APART, over=True) == cy.ProbationPassed()
    assert judge.figures().reasons == ("nothing was proven against it in its probation",)
    few = LiveEvidence(losses=6, ties=23)
    assert judge.canary(few, cycle=2) == cy.CanaryStepPassed()
    assert judge.figures().reasons == ("29 labels are too few for a test; its probation goes on with them",)
    assert isinstance(judge.probation(TOLD_APART, cycle=2, over=True), cy.ProbationFailed)


def test_labels_of_the_canary_count_in_the_probation(judge: Judge) -> None:
    judge.canary(LiveEvidence(), over=False)
    judge.probation(LiveEvidence(), cycle=2)
    judge.probation(LiveEvidence())
    assert [asked.get("labels_since") == judge.began for asked in judge.evidence.asked] == [True, True, True]


def test_the_time_limit_of_a_canary_turns_away_what_is_told_apart_and_no_other(judge: Judge) -> None:
    assert judge.canary(TOLD_APART, over=False) is None
    assert isinstance(judge.canary(TOLD_APART), cy.CanaryStepFailed)
    assert judge.canary(EQUAL) == cy.CanaryStepPassed()
    assert judge.figures().reasons[0].startswith("nothing speaks against it at the time limit")


def test_the_test_at_the_time_limit_waits_for_labels_that_came_and_are_not_compared_yet(judge: Judge) -> None:
    """As after a restart: 32 texts a second are asked anew."""
    assert judge.canary(replace(EQUAL, waiting=68)) is None
    assert isinstance(judge.canary(TOLD_APART), cy.CanaryStepFailed)


def test_the_test_at_the_time_limit_is_made_once_a_cycle(judge: Judge) -> None:
    """A paused canary, or the next share, is watched on by the tests that may be looked at for ever."""
    assert judge.canary(EQUAL) == cy.CanaryStepPassed()
    assert judge.canary(TOLD_APART, over=False) is None
    assert judge.canary(TOLD_APART) == cy.CanaryStepPassed()
    assert judge.figures().reasons == ("nothing spoke against it at the time limit, and nothing was proven since",)
    assert isinstance(judge.canary(PROVEN), cy.CanaryStepFailed)
    assert isinstance(judge.canary(TOLD_APART, cycle=2), cy.CanaryStepFailed)
