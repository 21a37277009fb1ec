"""The first version of a ranking: catalogue and users' events are kept, then it is made as any first version is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perennial.continual.jobs.process import Progress
from perennial.continual.learning.card import read_card
from perennial.continual.learning.ranking import Event, Item, impressions_of, write_items
from perennial.ops.commands.first_version import FirstVersion, check_unserved, first_version_under_claim
from perennial.ops.ledger import Ledger
from perennial.ops.store.user_events import UserEvents
from perennial.ops.store.workspace import Workspace

__all__ = ["FirstRanking", "first_ranking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRanking:
    """What was made, and its figures on rows that it has not learnt."""

    first: FirstVersion
    metrics: dict[str, float]


def first_ranking(
    ledger: Ledger,
    workspace: Workspace,
    model: str,
    events: Sequence[Event],
    items: Sequence[Item],
    on_progress: Progress = lambda _: None,
    *,
    segments: Mapping[str, str] | None = None,
) -> FirstRanking:
    """Keep catalogue and events, and make the first version; what a killed try kept is kept again, which is harmless.

    Raises:
        As `first_version`.
    """
    with workspace.claim_beginning(model):
        check_unserved(ledger, workspace, model)
        write_items(workspace.items(model), items)
        on_progress({"stage": "keep the users' events"})
        UserEvents(workspace.user_events(model)).add(events)
        rows = impressions_of(events, segments=segments)
        made = first_version_under_claim(ledger, workspace, model, rows, on_progress)
    return FirstRanking(first=made, metrics=dict(read_card(made.bundle).metrics))
