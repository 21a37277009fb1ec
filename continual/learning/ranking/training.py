"""One training of a ranking: events into the sums, the structure out of them, and its worth on rows kept back."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

from perennial.continual.errors import ConfigurationError, TrainingFailed
from perennial.continual.learning.card import ModelCard, is_finished
from perennial.continual.learning.context import Context
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.ranking.events import Event, Item
from perennial.continual.learning.ranking.gram import GramSettings, ItemGram
from perennial.continual.learning.ranking.held_out import HeldOutFigures, measure_held_out
from perennial.continual.learning.ranking.impressions import events_of
from perennial.continual.learning.ranking.item_texts import ItemTexts
from perennial.continual.learning.ranking.recommender import Blend
from perennial.continual.learning.ranking.slots import Bounds, Exploration
from perennial.continual.learning.ranking.text_index import IndexSettings
from perennial.continual.learning.ranking.trained import TrainedRanking, read_items
from perennial.continual.learning.rows import read_task_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.tasks.ranking import Impression, Ranking

__all__ = ["RankingSettings", "train_ranking"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingSettings:
    """`[models.NAME.learning.params]` of a ranking; the tables have the fields of their classes.

    >>> RankingSettings.of({"ridge": 50, "exploration": {"share": 0.1}}).exploration.share
    0.1
    """

    ridge: float = 200.0
    text: float = 20.0
    most_items: int = 5000
    nearness: float = 1.0
    sequel: float = 0.8
    blend: Blend = field(default_factory=Blend)
    bounds: Bounds = field(default_factory=Bounds)
    exploration: Exploration = field(default_factory=Exploration)
    index: IndexSettings = field(default_factory=IndexSettings)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "RankingSettings":
        """The settings in a job's params.

        Raises:
            ConfigurationError: a name is unknown, or a value is of the wrong kind or out of range.
        """
        _check_known(params, cls, "a ranking")
        tables = {"blend": Blend, "bounds": Bounds, "exploration": Exploration, "index": IndexSettings}
        try:
            made = {name: _table(tables[name], name, params[name]) for name in tables.keys() & params.keys()}
            settings = cls(**dict(params) | made)
            settings.gram(())
            ItemGram(nearness=settings.nearness, sequel=settings.sequel)
        except TypeError as error:
            raise ConfigurationError(f"params of a ranking: {error}; see docs/recommendation.md") from error
        return settings

    def gram(self, items: Iterable[Item]) -> GramSettings:
        """How the sums are solved for a catalogue."""
        texts = ItemTexts.of(tuple(items))
        return GramSettings(texts=texts, ridge=self.ridge, text=self.text, most_items=self.most_items)


def train_ranking(spec: JobSpec, context: Context) -> ModelCard:
    """Carry the sums of `previous` on by the new rows, take the users of `erase` out, solve, and write the folder.

    Raises:
        DataError, ConfigurationError: the spec or its files are wrong.
        TrainingFailed: there are no events.
        Cancelled: the context was told to stop.
    """
    settings = RankingSettings.of(spec.params)
    items = _catalogue(spec)
    now = datetime.now(UTC)
    read = {name: _rows(spec, name, now) for name in ("examples", "replay", "holdout", "erase")}
    context.report("events", 0, 1)
    sums = _sums(spec, settings)
    removed = 0
    for user in sorted({row.input.user for row in read["erase"]}):
        removed += len(sums.history(user))
        sums.erase(user)
    sums.add(_events([*read["replay"], *read["examples"]]))
    context.report("events", 1, 1)
    if not sums.rows:
        raise TrainingFailed("no events to learn from: no user has done anything; import events first")
    context.checkpoint()
    context.report("solve", 0, 1)
    structure = sums.solve(settings.gram(items))
    context.report("solve", 1, 1)
    trained = TrainedRanking(
        card=_card(spec, settings, sums, removed=removed, items=len(items), replay=len(read["replay"])),
        items=items,
        structure=structure,
        blend=settings.blend,
        bounds=settings.bounds,
        exploration=settings.exploration,
        index=settings.index,
    )
    figures = measure_held_out(trained.recommender(sums), sums, read["holdout"], on_progress=context.stage("prove"))
    trained = replace(trained, card=replace(trained.card, metrics=_metrics(figures)))
    context.checkpoint()
    trained.write(spec.out, sums)
    logger.info("training.ranking_trained", extra={"users": sums.rows, "items": len(items)})
    return trained.card


def _catalogue(spec: JobSpec) -> tuple[Item, ...]:
    """The catalogue of the job; without one, that of the version before."""
    if spec.items is not None:
        return read_items(spec.items)
    if spec.previous is not None:
        return TrainedRanking.load(spec.previous).items
    raise ConfigurationError("the job names no items; give the file of the catalogue, a JSON object a line")


def _rows(spec: JobSpec, name: str, now: datetime) -> list[Impression]:
    rows: list[Any] = read_task_rows(getattr(spec, name), Ranking(), now=now)
    return rows


def _sums(spec: JobSpec, settings: RankingSettings) -> ItemGram:
    """The sums of the version before, made anew of their own events where the settings weigh pairs otherwise."""
    wanted = ItemGram(nearness=settings.nearness, sequel=settings.sequel)
    if spec.previous is None or not is_finished(spec.previous):
        return wanted
    kept = TrainedRanking.sums(spec.previous)
    if (kept.nearness, kept.sequel) == (wanted.nearness, wanted.sequel):
        return kept
    for user in kept.users:
        wanted.add(kept.history(user))
    return wanted


def _events(rows: Iterable[Impression]) -> Iterator[Event]:
    return (event for row in rows for event in events_of(row))


def _card(
    spec: JobSpec, settings: RankingSettings, sums: ItemGram, *, removed: int, items: int, replay: int
) -> ModelCard:
    events = sum(len(sums.history(user)) for user in sums.users)
    return ModelCard(
        task=Ranking.name,
        learner=LearnerName.ITEM_GRAM.value,
        parent_version=spec.parent_version,
        data={"rows": events, "users": sums.rows, "items": items, "replay_rows": replay, "rows_removed": removed},
        settings=asdict(settings),
    )


def _metrics(figures: HeldOutFigures | None) -> dict[str, float]:
    return {} if figures is None else {f"holdout_{name}": float(value) for name, value in asdict(figures).items()}


def _table(kind: type, name: str, values: object) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"params of a ranking: {name} is {values!r}; it must be a table")
    _check_known(values, kind, name)
    return kind(**values)


def _check_known(values: Mapping[str, Any], kind: Any, what: str) -> None:
    known = {each.name for each in fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise ConfigurationError(f"params of {what}: {unknown} are unknown; there are {', '.join(sorted(known))}")
