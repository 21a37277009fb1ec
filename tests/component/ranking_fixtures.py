"""A tiny ranking: trained on a town of readers in no time, and bundles of it."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from perennial.continual.learning.card import ModelCard
from perennial.continual.learning.ranking import (
    Blend,
    Bounds,
    Event,
    Exploration,
    GramSettings,
    Item,
    ItemGram,
    ItemTexts,
    Profile,
    TrainedRanking,
)
from perennial.exporters.bundle import EngineKind
from perennial.exporters.job import export_bundle
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.spec import ExportResult, ExportSpec
from tests.unit.learning.ranking.town import NOON, catalogue, events

__all__ = ["ASKED_AT", "ITEMS", "asked_in_town", "export_ranking", "train_ranking", "write_impressions"]

ASKED_AT = NOON + timedelta(hours=5)
ITEMS = tuple(catalogue())
_USERS = [f"u{number:02}" for number in range(24)]


def train_ranking(
    folder: Path,
    *,
    seed: int = 1,
    items: Sequence[Item] = ITEMS,
    more: Sequence[Event] = (),
    exploration: Exploration | None = None,
) -> Path:
    """A learner's folder: another seed gives other likings of the same items."""
    gram = ItemGram()
    gram.add([*events(seed=seed), *more])
    TrainedRanking(
        card=ModelCard(learner="item_gram", task="ranking"),
        items=tuple(items),
        structure=gram.solve(GramSettings(ridge=5.0, texts=ItemTexts.of(items))),
        blend=Blend(recency=0.8, text=0.3),
        bounds=Bounds(),
        exploration=exploration or Exploration(),
    ).write(folder, gram)
    return folder


def asked_in_town(seed: int = 1) -> list[Asked]:
    """A list for each of some users and for somebody new, with what the users had done by then."""
    gram = ItemGram()
    gram.add(events(seed=seed))
    return [_asked(user, gram.history(user)) for user in [*_USERS, "new"]]


def write_impressions(path: Path) -> Path:
    """These lists as held-out rows; a user's next likings are what was relevant."""
    gram = ItemGram()
    gram.add(events(seed=1))
    rows = []
    for user in [*_USERS, "new"]:
        later = {event.item: event.liked for event in gram.history(user) if event.at >= ASKED_AT}
        rows.append({"user": user, "asked_at": ASKED_AT.isoformat(), "relevances": later})
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def export_ranking(
    folder: Path,
    trained: Path,
    version: int,
    *,
    previous: Path | None = None,
    engine: str = EngineKind.ONNXRUNTIME.value,
    precision: str = "fp32",
) -> ExportResult:
    """A verified bundle in `folder`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return export_bundle(
        ExportSpec(
            task="ranking",
            trained_dir=trained,
            out_dir=folder,
            held_out=write_impressions(trained.parent / f"held-{version}.json"),
            model="shop",
            version=version,
            engine=engine,
            precision=precision,
            threads=1,
            previous_bundle=previous,
        )
    )


def _asked(user: str, history: tuple[Event, ...]) -> Asked:
    before = history[: bisect_left(history, ASKED_AT, key=lambda event: event.at)]
    return Asked(user=user, at=ASKED_AT, profile=Profile(user=user, events=before))
