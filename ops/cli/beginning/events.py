"""A first version of a ranking: made of what users did with items, and compared with what everybody likes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.ops.cli.beginning.port import Files
from perennial.ops.cli.console import say
from perennial.ops.cli.session import session

if TYPE_CHECKING:
    from perennial.continual.learning.ranking import Item
    from perennial.continual.learning.ranking.files import EventFile
    from perennial.ops.settings import LearningSettings

__all__ = ["EventsRead", "make", "plan", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsRead:
    """The events of one file, and the catalogue of the other."""

    found: "EventFile"
    items: "tuple[Item, ...]"


def read(files: Files) -> EventsRead:
    """Events and items; without a catalogue, the items are those that somebody did something with."""
    from perennial.continual.learning.ranking import Item
    from perennial.continual.learning.ranking.files import read_event_file, read_item_file

    found = read_event_file(files.data, reading=files.reading)
    if files.items is not None:
        return EventsRead(found=found, items=read_item_file(files.items))
    say("without --items the items have no texts: none is near another before users say so, and new ones cannot come")
    return EventsRead(found=found, items=tuple(Item(name=name) for name in sorted({e.item for e in found.events})))


def plan(events_read: EventsRead, learning: "LearningSettings") -> dict[str, Any]:
    """How many events, users and items there are, and what of it cannot be used."""
    from perennial.continual.errors import DataError
    from perennial.continual.learning.learners import learner_named
    from perennial.continual.learning.ranking import impressions_of

    rows = impressions_of(events_read.found.events, segments=events_read.found.segments)
    counted = _counted(events_read) | {"rows": len(rows)}
    try:
        learner_named(learning.learner).first_rows(rows)
    except DataError as refusal:
        return counted | {"then": f"refused: {refusal}"}
    return counted | {"then": "train and publish version 1"}


def make(config: Path, model: str, events_read: EventsRead) -> dict[str, Any]:
    """Train it, and say how it does on what was kept back, beside the list of the most liked items."""
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_ranking import first_ranking

    counted = _counted(events_read)
    with session(config) as parts, stages(f"first version of {model}") as on_progress:
        made = first_ranking(
            parts.ledger,
            parts.workspace,
            model,
            events_read.found.events,
            events_read.items,
            on_progress,
            segments=events_read.found.segments,
        )
    for line in _lines(made.metrics):
        say(line)
    return {
        "model": model,
        "version": made.first.version,
        "rows": made.first.rows,
        **counted,
        "bundle": str(made.first.bundle),
        "held_out": made.metrics,
    }


def _counted(events_read: EventsRead) -> dict[str, Any]:
    """Sizes; items of the events that the catalogue lacks are named, for they are never shown."""
    names = {item.name for item in events_read.items}
    strange = sorted({event.item for event in events_read.found.events} - names)
    if strange:
        say(
            f"{len(strange)} items of the events are not in the catalogue (e.g. {strange[0]!r}); they are never shown, "
            "so add them to the file of items"
        )
    return {
        "events": len(events_read.found.events),
        "liked": sum(event.liked > 0 for event in events_read.found.events),
        "users": len({event.user for event in events_read.found.events}),
        "items": len(names),
        "items_not_in_catalogue": len(strange),
    }


def _lines(metrics: dict[str, float]) -> list[str]:
    """What the figures on kept-back events say."""
    if not metrics:
        return ["no liked event was kept back, so nothing tells how good the version is; give more events"]
    own, popular = metrics["holdout_ndcg_10"], metrics["holdout_popular_ndcg_10"]
    verdict = "better" if own > popular else "no better"
    return [
        (
            f"on {metrics['holdout_rows']:.0f} kept-back events: NDCG@10 {own:.3f}, hit rate@10 "
            f"{metrics['holdout_hit_rate_10']:.3f}; the most liked items: {popular:.3f} and "
            f"{metrics['holdout_popular_hit_rate_10']:.3f}: the version is {verdict}"
        ),
        f"its lists show {100 * metrics['holdout_coverage']:.0f}% of the catalogue",
    ]
