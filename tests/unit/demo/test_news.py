"""The news of the demonstration of opinion: what is made up, what an archive gives, and what became of the stories."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial.client.opinions import Opinion
from perennial.continual.errors import DataError
from perennial.continual.events import Event, Phase
from perennial.ops.demo.archive import Archive
from perennial.ops.demo.headline_phrases import MANNERS, SOURCES
from perennial.ops.demo.newsdesk import Newsdesk, SeenEvent
from perennial.ops.demo.newsroom import Newsroom
from perennial.ops.demo.opinion import run
from perennial.ops.demo.opinion_panels import opinion_panels
from perennial.ops.demo.paced import Sent
from perennial.ops.demo.panels import panel_html
from perennial.ops.demo.quality import Quality
from perennial.ops.demo.recipes import RecipeDemoOptions
from perennial.ops.store.alerts import Alert, AlertState
from perennial.ops.store.headlines import EventRow

NOON = datetime(2026, 1, 30, 12, tzinfo=UTC)


def newsroom() -> Newsroom:
    return Newsroom(seed=3, began=NOON)


def test_stories_are_told_by_several_sources_among_other_headlines() -> None:
    room = newsroom()
    drawn = [room.draw() for _ in range(700)]
    assert len(room.stories) == 6
    for story in room.stories:
        told = [(n, one) for n, one in enumerate(drawn) if room.story_of(one.asked.text) == story]
        originals = {one.asked.text: one for _, one in told}
        assert len(originals) >= 6
        assert len({one.asked.source for one in originals.values()}) >= 4
        assert min(n for n, _ in told) == pytest.approx(story.began, abs=12)
        assert {one.truth for _, one in told} == {story.kind.sentiment}
    assert {story.kind.matters for story in room.stories} == {True, False}
    texts = Counter(one.asked.text for one in drawn)
    assert 0.01 < sum(count - 1 for count in texts.values()) / len(drawn) < 0.08, "some headlines are syndicated"
    assert [one.asked.published_at for one in drawn] == [NOON + number * timedelta(minutes=3) for number in range(700)]


def test_each_change_brings_words_that_nobody_knew_from_a_wire_of_its_own() -> None:
    room = newsroom()
    assert len(room.wired()) == len({one.text for one in room.wired()}) == 620
    known = {word for example in room.labelled() for word in example.text.split()}
    labels = Counter(example.label for example in room.labelled())
    assert set(labels) == {"positive", "negative", "neutral"}
    before = {room.draw().asked.source for _ in range(100)}
    assert before == set(SOURCES)
    for wire in ("Floor Talk", "Tagesdraht"):
        told = room.change()
        assert "a wire" in told
        new = [one for one in (room.draw() for _ in range(200)) if one.asked.source == wire]
        assert len(new) > 60
        words = {word for one in new for word in one.asked.text.split()}
        assert len(words & known) < len(words) / 3
        assert {one.wave for one in new} == {room.manner}
    assert room.changes == len(MANNERS) - 1 == room.manner


def test_an_archive_gives_its_headlines_in_order_and_the_last_one_again(tmp_path: Path) -> None:
    path = tmp_path / "news.csv"
    days = ["2003-01-02", "2001-05-06", "2002-03-04", "2002-03-04"]
    path.write_text("date,text,label\n" + "".join(f"{day},t{row},up\n" for row, day in enumerate(days)), "utf-8")
    archive = Archive.read(path, first=1)
    assert [example.text for example in archive.labelled()] == ["t1"]
    drawn = [archive.draw() for _ in range(4)]
    assert [one.asked.text for one in drawn] == ["t2", "t3", "t0", "t0"]
    first, second, third, _ = [one.asked.published_at for one in drawn]
    assert first.date().isoformat() == "2002-03-04"
    assert first < second < third
    assert (archive.title, archive.pace.steady) == ("Opinion over news, 2002-03-04 to 2003-01-02", 3)
    assert (archive.wired(), archive.story_of("t0"), archive.changes) == ((), None, 0)
    with pytest.raises(DataError, match="4 rows; 2 for the first version leave too few"):
        Archive.read(path, first=2)
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="no table of dated rows"):
        run(RecipeDemoOptions(out=tmp_path / "out", data=tmp_path), lambda *_: None)


def event(name: str, number: int, last: int, texts: list[str]) -> EventRow:
    at = NOON + number * timedelta(minutes=3)
    made = Event(
        name=name,
        opened_at=at,
        last_at=NOON + last * timedelta(minutes=3),
        words=("treaty", "<b>"),
        sources=frozenset(SOURCES[:2]),
        score=13.0,
        items=len(texts) + 1,
        originals=len(texts),
        tone=-1.0,
    )
    return EventRow(event=made, phase=Phase.OVER, headlines=tuple((at, SOURCES[0], text) for text in texts))


def test_figures_and_panels_tell_what_became_of_stories_alerts_and_the_budget() -> None:
    room = newsroom()
    sent = []
    for number in range(400):
        asking = room.draw()
        answer = Opinion(label=asking.truth, confidence=1.0, event="", phase="", alert="", version=1, prediction_id="")
        at = NOON + timedelta(seconds=number)
        sent.append(Sent(number=number, asking=asking, sent_at=at, answer=answer, version=1))
    story = room.stories[0]
    told = tuple(one.number for one in sent if room.story_of(one.asking.asked.text) == story)
    texts = [sent[number].asking.asked.text for number in told]
    alert = Alert(
        number=1,
        rule="risk",
        subject="e1",
        at=NOON,
        risk=0.9,
        facts={"words": ["treaty"], "sources_named": list(SOURCES[:2]), "bad_news": 0.4},
        state=AlertState.CONFIRMED,
        evidence=(),
    )
    found, false = event("e1", told[2], told[-1], texts[:3]), event("e2", 300, 310, ["nobody's"])
    desk = Newsdesk(
        events=(
            SeenEvent(row=found, opened=told[2], last=told[-1], story=story, alert=alert),
            SeenEvent(row=false, opened=300, last=310, story=None, alert=None),
        ),
        alerts=(alert,),
        told={story.name: told, room.stories[1].name: (250,)},
        days=2.0,
        allowed_a_day=0.5,
        knows_stories=True,
    )
    assert desk.figures() == {
        "events": 2,
        "alerts": 1,
        "alerts_confirmed": 1,
        "alerts_dismissed": 0,
        "stories_told": 2,
        "stories_found": 1,
        "headlines_until_found": 3,
        "events_of_no_story": 1,
        "events_of_no_story_allowed": 1.0,
    }
    quality = Quality(
        measure="right sentiments",
        sent=tuple(sent),
        scores=(1.0,) * 400,
        frozen=(0.5,) * 400,
        waves=(),
        swaps=(NOON + timedelta(seconds=200),),
    )
    panels = opinion_panels(desk, quality, ["neutral"] * 400)
    assert [panel.heading for panel in panels] == [
        "Sentiment over time",
        "Events and their phases",
        "Events with their evidence",
        "Alerts and verdicts",
        "The budget of false alarms",
    ]
    page = "".join(panel_html(panel, first=False) for panel in panels)
    assert "treaty, &lt;b&gt;" in page, "what strangers wrote stays text"
    assert "<b>" not in page
    assert "confirmed" in page
    assert "0.5 false events a day are allowed, 1.0 in 2.0 days" in page
    assert len(opinion_panels(desk, quality, ["neutral"] * 400)[1].figure.data) > 4
    unknown = Newsdesk(events=(), alerts=(), told={}, days=1.0, allowed_a_day=1.0, knows_stories=False)
    assert [panel.heading for panel in opinion_panels(unknown, quality, [])] == ["Sentiment over time"]
    assert set(unknown.figures()) == {"events", "alerts", "alerts_confirmed", "alerts_dismissed"}
