"""The file of headlines: the same watch in every router and after a restart, alerts with evidence, and forgetting."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import DataError, NotFound
from perennial.continual.events import AlertRule, EventSettings, WatchPlan
from perennial.ops.commands.event_watch import judge_alert
from perennial.ops.ledger import Ledger
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.store.alerts import RISK, Alerts, AlertState
from perennial.ops.store.headlines import Headlines, Noted, Observed
from perennial.ops.store.workspace import Workspace

NOON = datetime(2026, 1, 30, 12, tzinfo=UTC)
TOPICS = ("harvest", "football", "weather", "museum", "railway", "election", "theatre", "airport", "hospital", "school")
STORY = ("ministers resign over leaked treaty", "treaty leaked as ministers resign", "leaked treaty topples ministers")
PLAN = WatchPlan(events=EventSettings(limit=12.0, sources=2), risk_limit=0.01)


def stream(seed: int, count: int) -> Iterator[Observed]:
    """Headlines about nothing in particular, each of words of its own."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        topic = TOPICS[int(rng.integers(len(TOPICS)))]
        own = " ".join("".join(rng.choice(list("abcdefghij"), size=7)) for _ in range(4))
        yield observed(f"{topic} {own}", number=number, source=f"wire {number % 3}")


def observed(
    text: str,
    *,
    number: int,
    source: str,
    rng: np.random.Generator | None = None,
    label: str = "neutral",
    key: str = "",
) -> Observed:
    place = (rng or np.random.default_rng(number)).normal(size=8).astype(np.float32)
    return Observed(
        prediction_id=f"{number:032x}",
        at=NOON + timedelta(minutes=number),
        source=source,
        key=key,
        text=text,
        label=label,
        scores={label: 1.0},
        encoder="tiny",
        place=place / np.linalg.norm(place),
    )


def with_story(count: int = 400) -> list[Observed]:
    told = list(stream(1, count))
    for place, text in enumerate((*STORY, "ministers resign over leaked treaty!")):
        told.append(observed(text, number=count + place, source=f"wire {place}", label="negative", key="desk"))
    return told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Headlines(tmp_path / "news.db").configure(PLAN)
    return tmp_path / "news.db"


def test_a_story_that_several_sources_tell_becomes_an_event_with_an_alert(path: Path) -> None:
    headlines = Headlines(path)
    noted = headlines.note(with_story())
    assert noted[:402] == [Noted()] * 402
    opened, copied = noted[402:]
    assert (opened.phase, opened.alert) == ("new", "1")
    assert copied == Noted(event=opened.event, phase="growing", alert="1")
    (row,) = headlines.events(now=NOON + timedelta(minutes=405))
    assert row.event.sources == {"wire 0", "wire 1", "wire 2"}, "a copy is no further source"
    assert (row.event.items, row.event.originals) == (4, 3)
    (alert,) = Alerts(headlines.file).all()
    assert (alert.rule, alert.subject, alert.state) == (RISK, opened.event, AlertState.OPEN)
    assert [one.text for one in alert.evidence] == list(STORY)
    assert {"leaked", "ministers", "treaty"} <= set(alert.facts["words"])


def test_alerts_and_events_are_read_on_from_the_one_that_was_read_last(path: Path) -> None:
    headlines = Headlines(path)
    headlines.note(with_story())
    alerts, (row,), now = Alerts(headlines.file), headlines.events(now=NOON), NOON + timedelta(minutes=405)
    assert [one.number for one in alerts.all(before=2)] == [1]
    assert alerts.all(before=1) == []
    opened, name = row.event.opened_at, row.event.name
    assert headlines.events(now=now, before=(opened, name)) == []
    for before in ((opened, name[:-1]), (opened + timedelta(microseconds=1), name)):
        (again,) = headlines.events(now=now, before=before)
        assert again.event.name == name


@pytest.mark.parametrize("restarts", [(1,), (100, 200, 350, 401, 402, 403), tuple(range(300, 404))])
def test_a_restart_changes_no_answer(path: Path, tmp_path: Path, restarts: tuple[int, ...]) -> None:
    told = with_story()
    whole = Headlines(path).note(told)
    Headlines(tmp_path / "other.db").configure(PLAN)
    parts: list[Noted] = []
    for start, end in zip((0, *restarts), (*restarts, len(told)), strict=True):
        parts += Headlines(tmp_path / "other.db").note(told[start:end])
    assert parts == whole


def test_routers_that_take_turns_have_one_watch(path: Path, tmp_path: Path) -> None:
    told = with_story()
    whole = Headlines(path).note(told)
    Headlines(tmp_path / "other.db").configure(PLAN)
    routers = [Headlines(tmp_path / "other.db") for _ in range(3)]
    taken = [routers[place % 3].note(told[place : place + 1])[0] for place in range(len(told))]
    assert taken == whole


def test_what_cannot_be_kept_leaves_the_watch_as_it_was(path: Path) -> None:
    headlines, told = Headlines(path), with_story()
    headlines.note(told[:402])
    with pytest.raises(AttributeError):
        headlines.note([told[402], None])  # type: ignore[list-item]
    assert headlines.note(told[402:403])[0].phase == "new"


def test_a_key_is_forgotten_everywhere_and_the_watch_with_it(path: Path) -> None:
    headlines = Headlines(path)
    headlines.note(with_story())
    assert headlines.held("desk") == 4
    assert headlines.erase("desk") == 4
    assert headlines.held("desk") == headlines.erase("desk") == 0
    (alert,) = Alerts(headlines.file).all()
    assert [one.text for one in alert.evidence] == ["", "", ""]
    assert b"treaty topples" not in path.read_bytes()
    (again,) = headlines.note([observed(STORY[0], number=410, source="wire 9")])
    assert again.phase != "new", "nobody else told the story"


def test_old_headlines_go_and_those_that_the_watch_is_made_of_stay(path: Path) -> None:
    headlines = Headlines(path)
    headlines.note(list(stream(1, 50)))
    assert headlines.prune(before=NOON + timedelta(minutes=40), keep=30) == 20
    assert headlines.prune(before=NOON, keep=0) == 0
    assert len(headlines.items(last=100)) == 30


def test_a_rule_alarms_once_in_its_time(tmp_path: Path) -> None:
    rule = AlertRule(name="bad", sentiment="negative", at_least=2, within=timedelta(minutes=30), symbols=("ACME",))
    headlines = Headlines(tmp_path / "news.db")
    headlines.configure(WatchPlan(rules=(rule,)))
    told = [
        Observed(
            **{
                **{name: getattr(one, name) for name in Observed.__dataclass_fields__},
                "opinions": {"ACME": "negative", "OTHER": "negative"} if place != 2 else {"ACME": "positive"},
            }
        )
        for place, one in enumerate(stream(3, 5))
    ]
    assert [one.alert for one in headlines.note(told)] == ["", "1", "", "", ""]
    (alert,) = Alerts(headlines.file).all()
    assert (alert.rule, alert.subject, alert.risk) == ("bad", "ACME", None)
    assert [one.source for one in alert.evidence] == ["wire 0", "wire 1"]


def test_analysts_teach_what_is_worth_an_alert(path: Path) -> None:
    headlines = Headlines(path)
    headlines.note(with_story())
    alerts, before = Alerts(headlines.file), headlines.plan().risk
    dismissed = alerts.judge(1, AlertState.DISMISSED, by="jo", at=NOON, note="an exercise")
    assert (dismissed.judged_by, dismissed.judged_at, dismissed.note) == ("jo", NOON, "an exercise")
    assert headlines.plan().risk.bias < before.bias
    assert alerts.all(state=AlertState.OPEN) == []
    (later,) = headlines.note([observed("ministers leave, treaty leaked", number=410, source="wire 4")])
    assert (later.phase, later.alert) == ("growing", "")
    alerts.judge(1, AlertState.CONFIRMED, by="jo", at=NOON)
    assert headlines.plan().risk.bias > before.bias
    opened = alerts.judge(1, AlertState.OPEN, by="jo", at=NOON)
    assert (opened.judged_by, headlines.plan().risk) == (None, before)
    with pytest.raises(NotFound, match="alert 7 is not there"):
        alerts.one(7)


def test_a_note_that_breaks_its_rule_is_refused_before_anything_is_judged(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, models={"news": ModelSettings(task="opinion")})
    workspace = Workspace(settings)
    headlines = Headlines(workspace.headlines("news"))
    headlines.configure(PLAN)
    headlines.note(with_story())
    with Ledger.open(settings.ledger_address) as ledger:
        ledger.register_model("news", {"task": "opinion"})
        for note in ("half a pair \ud800", "x" * 501):
            with pytest.raises(DataError, match="note"):
                judge_alert(ledger, workspace, "news", 1, AlertState.DISMISSED, actor="jo", note=note)
        assert Alerts(headlines.file).one(1).state is AlertState.OPEN
        told = judge_alert(ledger, workspace, "news", 1, AlertState.DISMISSED, actor="jo", note="an\x00 exercise\n")
        assert told.note == "an exercise"


def test_a_calibrated_limit_and_learnt_weights_outlive_a_new_plan(path: Path) -> None:
    headlines = Headlines(path)
    headlines.limit_by(9.25)
    assert headlines.plan().events.limit == 9.25
    assert headlines.configure(WatchPlan(risk_limit=0.7))
    assert not headlines.configure(WatchPlan(risk_limit=0.7))
    assert (headlines.plan().events.limit, headlines.plan().risk_limit) == (9.25, 0.7)
