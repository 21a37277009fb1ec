"""What a desk saw of events and alerts by the end of a demonstration, beside the stories that were really told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from perennial.ops.commands.event_watch import latest_alerts, open_headlines
from perennial.ops.demo.news import News, ToldStory
from perennial.ops.demo.paced import Sent
from perennial.ops.store.alerts import Alert, AlertState
from perennial.ops.store.headlines import EventRow
from perennial.ops.store.workspace import Workspace

__all__ = ["Newsdesk", "SeenEvent"]

_MOST = 500  # events and alerts
_HEADLINES = 60  # of one event
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """An event, the numbers of the questions at which it opened and was told of last, and the story that it is."""

    row: EventRow
    opened: int
    last: int
    story: ToldStory | None
    alert: Alert | None

    @property
    def words(self) -> str:
        """What it is about, in its own words."""
        return ", ".join(self.row.event.words[:3]) or self.row.event.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Newsdesk:
    """`events` in the order in which they opened; `told` has the numbers of the headlines that told each story.

    `days` is the time between the first and the last headline, as published.
    """

    events: tuple[SeenEvent, ...]
    alerts: tuple[Alert, ...]
    told: Mapping[str, tuple[int, ...]]
    days: float
    allowed_a_day: float
    knows_stories: bool

    @classmethod
    def read(cls, workspace: Workspace, model: str, news: News, sent: Sequence[Sent]) -> "Newsdesk":
        """From the model's files, once its service has stopped."""
        published = [each.asking.asked.published_at for each in sent]
        now = max(published)
        alerts = latest_alerts(workspace, model, last=_MOST)[::-1]
        with open_headlines(workspace, model) as headlines:
            rows = headlines.events(now=now, last=_MOST, headlines=_HEADLINES)[::-1]
        told: dict[str, list[int]] = {}
        for each in sent:
            if (story := news.story_of(each.asking.asked.text)) is not None:
                told.setdefault(story.name, []).append(each.number)
        alarmed = {alert.subject: alert for alert in alerts if alert.risk is not None}
        numbers = {at: each.number for at, each in zip(published, sent, strict=True)}
        return cls(
            events=tuple(
                SeenEvent(
                    row=row,
                    opened=_number(numbers, row.event.opened_at),
                    last=_number(numbers, row.event.last_at),
                    story=_story(row, news),
                    alert=alarmed.get(row.event.name),
                )
                for row in rows
            ),
            alerts=tuple(alerts),
            told={name: tuple(numbers) for name, numbers in told.items()},
            days=(now - min(published)) / _DAY,
            allowed_a_day=workspace.model(model).events.false_alerts_per_day,
            knows_stories=bool(news.stories),
        )

    def found(self) -> dict[str, int]:
        """Of each story that became an event, how many headlines it took."""
        first: dict[str, int] = {}
        for event in self.events:
            if event.story is not None:
                name = event.story.name
                first.setdefault(name, sum(number <= event.opened for number in self.told.get(name, ())))
        return first

    def false(self) -> list[SeenEvent]:
        """Events that tell no story."""
        return [event for event in self.events if event.story is None]

    def figures(self) -> dict[str, Any]:
        """For the summary."""
        states = [alert.state for alert in self.alerts]
        figures: dict[str, Any] = {
            "events": len(self.events),
            "alerts": len(self.alerts),
            "alerts_confirmed": states.count(AlertState.CONFIRMED),
            "alerts_dismissed": states.count(AlertState.DISMISSED),
        }
        if self.knows_stories:
            found = self.found()
            figures |= {
                "stories_told": len(self.told),
                "stories_found": len(found),
                "headlines_until_found": median(found.values()) if found else None,
                "events_of_no_story": len(self.false()),
                "events_of_no_story_allowed": self.allowed_a_day * self.days,
            }
        return figures


def _number(numbers: Mapping[datetime, int], at: datetime) -> int:
    """The question that was published then, else the last one before."""
    return numbers[at] if at in numbers else max((n for known, n in numbers.items() if known <= at), default=0)


def _story(row: EventRow, news: News) -> ToldStory | None:
    """The story that half of an event's headlines tell."""
    stories = [news.story_of(text) for _, _, text in row.headlines]
    named = [story for story in stories if story is not None]
    if not named or 2 * len(named) < len(stories):
        return None
    return max(named, key=lambda story: sum(other.name == story.name for other in named))
