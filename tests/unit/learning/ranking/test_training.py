"""A training of a ranking: from rows to a folder, on from a folder, and a user taken out without a trace."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError, TrainingFailed
from perennial.continual.learning.context import Context
from perennial.continual.learning.job import main
from perennial.continual.learning.learners import LEARNERS, sums_hold, train_model
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.ranking import (
    Event,
    Item,
    TrainedRanking,
    events_of,
    impressions_of,
    write_items,
)
from perennial.continual.learning.ranking.training import RankingSettings
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.tasks.ranking import Impression, Query, Ranking

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ITEMS = tuple(
    Item(name=f"{kind} {number}", text=f"a {kind} of kind {number % 3}")
    for kind in ("tea", "cup")
    for number in range(10)
)
Write = Callable[..., JobSpec]


def made_events(users: range, *, begin: datetime = NOON, seed: int = 0) -> list[Event]:
    """Users who like teas, or cups: each has eight events, one a minute."""
    rng = np.random.default_rng(seed)
    return [
        Event(user=f"user {user}", item=f"{('tea', 'cup')[user % 2]} {number}", at=begin + timedelta(minutes=minute))
        for user in users
        for minute, number in enumerate(rng.permutation(10)[:8])
    ]


@pytest.fixture
def spec_of(tmp_path: Path) -> Write:
    """A job of these rows; lists become files."""
    write_items(tmp_path / "items.jsonl", ITEMS)

    def made(name: str = "job", **fields: object) -> JobSpec:
        files = {key: tmp_path / f"{name}-{key}.jsonl" for key, value in fields.items() if isinstance(value, list)}
        for key, path in files.items():
            write_rows(path, fields[key], Ranking())  # type: ignore[arg-type]
        given = {"examples": None, "items": tmp_path / "items.jsonl", "threads": 1, "nice": 0, **fields, **files}
        spec = JobSpec(learner=LearnerName.ITEM_GRAM, out=tmp_path / f"{name}-out", **given)  # type: ignore[arg-type]
        spec.write(tmp_path / f"{name}.json")
        return JobSpec.read(tmp_path / f"{name}.json")

    return made


def test_a_training_leaves_a_model_that_knows_who_likes_what(spec_of: Write, tmp_path: Path) -> None:
    rows = impressions_of(made_events(range(20)))
    kept_back = rows[::9]
    spec = spec_of(examples=[row for row in rows if row not in kept_back], holdout=kept_back)
    assert main([str(tmp_path / "job.json")]) == 0
    trained = TrainedRanking.load(spec.out)
    assert (trained.card.task, trained.card.learner, trained.card.labels) == ("ranking", "item_gram", ())
    assert trained.card.data["users"] == 20
    assert trained.card.data["rows"] == len(rows) - len(kept_back)
    figures = trained.card.metrics
    assert figures["holdout_rows"] == len(kept_back)
    assert figures["holdout_ndcg_10"] > figures["holdout_popular_ndcg_10"] > 0
    assert figures["holdout_hit_rate_10"] > figures["holdout_popular_hit_rate_10"]
    assert 0 < figures["holdout_coverage"] <= 1


def test_a_training_goes_on_from_the_version_before_as_if_all_rows_had_come_at_once(spec_of: Write) -> None:
    old, new = (
        impressions_of(made_events(range(20))),
        impressions_of(made_events(range(15, 25), begin=NOON + timedelta(days=1))),
    )
    first = spec_of("first", examples=old)
    train_model(first, Context())
    second = spec_of("second", examples=new, replay=old[:3], previous=first.out, parent_version=1)
    card = train_model(second, Context())
    assert card.parent_version == 1
    whole = spec_of("whole", examples=[*old, *new])
    train_model(whole, Context())
    assert TrainedRanking.sums(second.out).users == TrainedRanking.sums(whole.out).users
    np.testing.assert_array_equal(
        TrainedRanking.load(second.out).structure.weights, TrainedRanking.load(whole.out).structure.weights
    )


def test_an_erased_user_leaves_what_there_would_be_without_them(spec_of: Write) -> None:
    learner, rows = LEARNERS[LearnerName.ITEM_GRAM], impressions_of(made_events(range(20)))
    mine, others = [row for row in rows if row.key == "user 3"], [row for row in rows if row.key != "user 3"]
    first, without = spec_of("first", examples=rows), spec_of("without", examples=others)
    for spec in (first, without):
        train_model(spec, Context())
    assert sums_hold(first.out, learner.keys(mine))
    corrected = spec_of("second", erase=mine[:1], previous=first.out, params=learner.correction_params({}))
    assert train_model(corrected, Context()).data["rows_removed"] == len(mine)
    assert not sums_hold(corrected.out, learner.keys(mine))
    assert sums_hold(corrected.out, learner.keys(others))
    assert (corrected.out / "statistics.safetensors").read_bytes() == (
        without.out / "statistics.safetensors"
    ).read_bytes()
    np.testing.assert_array_equal(
        TrainedRanking.load(corrected.out).structure.weights, TrainedRanking.load(without.out).structure.weights
    )


def test_settings_that_weigh_pairs_otherwise_make_the_sums_anew(spec_of: Write) -> None:
    first = spec_of("first", examples=impressions_of(made_events(range(20))))
    train_model(first, Context())
    near = spec_of("near", previous=first.out, params={"nearness": 0.5, "exploration": {"share": 0.2}})
    train_model(near, Context())
    sums = TrainedRanking.sums(near.out)
    assert (sums.nearness, sums.rows) == (0.5, 20)
    assert TrainedRanking.load(near.out).exploration.share == 0.2


def test_a_new_catalogue_brings_items_that_nobody_has_liked(spec_of: Write, tmp_path: Path) -> None:
    first = spec_of("first", examples=impressions_of(made_events(range(20))))
    train_model(first, Context())
    write_items(tmp_path / "items.jsonl", (*ITEMS[:15], Item(name="pot", text="a tea pot")))
    second = spec_of("second", previous=first.out)
    train_model(second, Context())
    assert {item.name for item in TrainedRanking.load(second.out).items} == {*(item.name for item in ITEMS[:15]), "pot"}
    assert "pot" in TrainedRanking.load(second.out).structure.names


def test_an_item_that_changes_its_text_is_placed_by_the_new_one(spec_of: Write, tmp_path: Path) -> None:
    """Nobody has liked the pot: the text alone tells where it belongs. What was learnt of likings stays."""
    rows = impressions_of(made_events(range(20)))

    def nearness(trained: TrainedRanking, kind: str) -> float:
        names = list(trained.structure.names)
        pot, others = names.index("pot"), [names.index(item.name) for item in ITEMS if item.name.startswith(kind)]
        return float(trained.structure.weights[pot, others].mean() + trained.structure.weights[others, pot].mean())

    write_items(tmp_path / "items.jsonl", (*ITEMS, Item(name="pot", text="a tea of kind 1")))
    first = spec_of("first", examples=rows)
    train_model(first, Context())
    write_items(tmp_path / "items.jsonl", (*ITEMS, Item(name="pot", text="a cup of kind 1")))
    second, whole = spec_of("second", previous=first.out, parent_version=1), spec_of("whole", examples=rows)
    for spec in (second, whole):
        train_model(spec, Context())
    before, after = TrainedRanking.load(first.out), TrainedRanking.load(second.out)
    assert nearness(before, "tea") > nearness(before, "cup")
    assert nearness(after, "cup") > nearness(after, "tea")
    np.testing.assert_array_equal(after.structure.weights, TrainedRanking.load(whole.out).structure.weights)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"items": None}, ConfigurationError, "names no items"),
        ({}, TrainingFailed, "no events to learn from"),
        ({"params": {"rigde": 1.0}}, ConfigurationError, r"\['rigde'\] are unknown; there are blend"),
        ({"params": {"blend": {"tex": 1.0}}}, ConfigurationError, r"params of blend: \['tex'\]"),
        ({"params": {"bounds": 3}}, ConfigurationError, "bounds is 3; it must be a table"),
        ({"params": {"ridge": -1.0}}, ConfigurationError, "ridge must be above 0"),
        ({"params": {"ridge": "much"}}, ConfigurationError, "params of a ranking"),
        ({"examples": Path("nowhere.jsonl")}, DataError, "does not exist"),
    ],
)
def test_a_job_that_cannot_be_done_says_why(
    spec_of: Write, fields: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_model(spec_of(**fields), Context())


def test_impressions_and_events_tell_the_same() -> None:
    events = made_events(range(3))
    assert sorted((e.user, e.item, e.at, e.liked) for row in impressions_of(events) for e in events_of(row)) == sorted(
        (e.user, e.item, e.at, e.liked) for e in events
    )
    row = Impression(input=Query(user="u", at=NOON), target={"a": 5.0, "b": 0.0}, at=NOON)
    assert [(event.item, event.liked) for event in events_of(row)] == [("a", 1.0), ("b", 0.0)]
    rows = impressions_of([replace(events[0], liked=0.2), events[0]], segments={events[0].user: "new"})
    assert [(row.target, row.input.segment, row.key) for row in rows] == [
        ({events[0].item: 1.0}, "new", events[0].user)
    ]


def test_settings_of_a_ranking_are_its_params() -> None:
    settings = RankingSettings.of({"ridge": 50, "bounds": {"most_alike": 2}})
    assert (settings.ridge, settings.bounds.most_alike, settings.blend.recency) == (50, 2, 0.95)
