"""The stream of the recommendation benchmark: in time order, ties shuffled, nothing learnt before it is scored."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kept_parts import KeptParts
from benchmarks.ranking import recipes_of
from benchmarks.ranking_arms import ARMS, Ranks, erasure, live_ranks
from benchmarks.ranking_stream import Ratings, Stream, gains, rank_of, scored_places
from tests.unit.learning.ranking.town import catalogue, events


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Ratings:
    """A town's likings as a rating file, several at one time."""
    folder = tmp_path_factory.mktemp("town")
    rows = [
        (event.user, event.item[1:], 5.0 if event.liked > 0.4 else 4.0, int(event.at.timestamp()) // 900)
        for event in events(60)
    ]
    lines = ["user,item,rating,ts", *(",".join(map(str, row)) for row in rows), "u00,39,1.0,5"]
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    items = [f"{item.name[1:]},{item.text},{item.language}" for item in catalogue()]
    (folder / "movies.csv").write_text("\n".join(["item,title,genres", *items]) + "\n", encoding="utf-8")
    return Ratings.read(folder)


def test_only_likings_of_known_items_are_events(ratings: Ratings) -> None:
    assert len(ratings.likings) == 600
    assert {item.name for item in ratings.items} == {f"{n:02}" for n in range(30)}


def test_orders_differ_only_among_events_of_one_time(ratings: Ratings) -> None:
    one, other = (Stream.of(ratings, seed, (0.6, 1.0)) for seed in (0, 1))
    assert one.events != other.events
    assert Stream.of(ratings, 0, (0.6, 1.0)) == one
    seconds = [[int(event.at.timestamp()) for event in stream.events] for stream in (one, other)]
    assert seconds[0] == seconds[1] == sorted(seconds[0])
    assert all(before.at < after.at for before, after in zip(one.events, one.events[1:], strict=False))
    assert (one.begin, one.end) == (360, 600)
    assert [list(block) for block in one.blocks(100)][-1] == list(range(560, 600))
    assert all(
        sum(event.user == one.events[place].user for event in one.events[:place]) >= 5 for place in scored_places(one)
    )


def test_headlines_tell_each_figure_beside_the_best_of_the_others() -> None:
    figures = ("ndcg", "hit_rate", "ndcg_cold")
    known = {
        "Perennial": dict(zip(figures, (0.07, 0.1, 0.05), strict=True)),
        "popularity": dict(zip(figures, (0.03, 0.2, 0.0), strict=True)),
        "EASE": dict(zip(figures, (0.05, 0.1, 0.01), strict=True)),
    }
    intervals = {f"{figure}_interval": [0.0, 1.0] for figure in figures} | {"ours_ahead_interval": [0.01, 0.03]}
    rows = recipes_of([{"arm": name, **told, **intervals} for name, told in known.items()])
    assert [(row["metric"], row["value"], row["baseline"]["name"]) for row in rows] == [
        ("NDCG@10", 0.07, "EASE"),
        ("HR@10", 0.1, "popularity"),
        ("NDCG@10", 0.05, "EASE"),
    ]
    assert rows[0]["baseline"]["ahead_interval"] == [0.01, 0.03]


def test_a_finished_order_is_made_once_and_read_back_as_it_was(ratings: Ratings, tmp_path: Path) -> None:
    stream = Stream.of(ratings, 0, (0.6, 0.7))
    found = live_ranks(ratings, stream, {"Perennial": ARMS["Perennial"]}, refit=80, seed=0)
    parts = [asdict(replace(found, ranks=dict(found.ranks))), None]
    kept = KeptParts(tmp_path, sources=())
    again = [kept.part("order", {"seed": 0}, lambda: parts.pop(0)) for _ in range(2)]
    assert parts == [None]
    assert again[0] == again[1]
    assert Ranks(**again[0]).ranks == dict(found.ranks)
    assert kept.part("order", {"seed": 1}, lambda: "another") == "another"


def test_items_of_equal_score_share_their_places() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([3.0, 1.0, 1.0, 1.0, 5.0])
    assert {rank_of(scores, 2, [4], rng) for _ in range(200)} == {1, 2, 3}
    assert rank_of(scores, 0, [], rng) == 1
    ndcg, hits = gains(np.array([0, 2, 9, 10]))
    assert ndcg.tolist() == [1.0, 0.5, pytest.approx(1 / np.log2(11)), 0.0]
    assert hits.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_live_arms_beat_popularity_in_a_town_of_two_tastes(ratings: Ratings) -> None:
    stream = Stream.of(ratings, 0, (0.6, 1.0))
    found = live_ranks(ratings, stream, ARMS, refit=80, seed=0)
    assert {len(ranks) for ranks in found.ranks.values()} == {len(scored_places(stream))}
    worth = {name: float(gains(np.array(ranks))[1].mean()) for name, ranks in found.ranks.items()}
    assert worth["Perennial"] > worth["popularity"]
    assert len(found.click_s) == len(found.lists) == len(found.users) // 5
    difference = erasure(ratings, ARMS["Perennial"])
    assert (difference["sums_difference"], difference["weights_difference"]) == (0.0, 0.0)
