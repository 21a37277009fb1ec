"""Lists for users, rules and catalogues that nobody would think of: each is answered, and holds what it may."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.learning.ranking import Bounds, Event, Exploration, ItemGram, Placed, Profile
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.ranking.catalogue import Catalogue
from perennial.exporters.ranking.graph import write_item_graph
from tests.unit.exporters.test_item_graph import Engine, town
from tests.unit.learning.ranking.town import NOON

pytestmark = pytest.mark.slow

_WORLDS = {
    "plain": {},
    "lends": {"exploration": Exploration(share=0.9, most=5, among=50, known_from=1e9)},
    "bound": {"bounds": Bounds(most_alike=1, most_popular=0, alike=0.1), "exploration": Exploration(share=0.5)},
}


@pytest.fixture(scope="module", params=_WORLDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalogue, Engine]:
    trained, made = town(ItemGram(), **_WORLDS[request.param])
    path: Path = tmp_path_factory.mktemp("hostile") / "model.onnx"
    strangers = trained.exploration.among + 100
    write_item_graph(made.ties, path, known_from=trained.exploration.known_from, strangers=strangers)
    return made, Engine(path)


def asked_of(served: tuple[Catalogue, Engine], asked: Sequence[Asked]) -> list[tuple[Placed, ...]]:
    made, engine = served
    return made.lists(asked, engine.infer(made.encode(asked)))


def history(names: Sequence[str], *, step: timedelta = timedelta(seconds=1)) -> tuple[Event, ...]:
    events = [Event(user="u", item=name, at=NOON + step * number) for number, name in enumerate(names)]
    return tuple(sorted(events, key=lambda event: event.at))


def all_names(made: Catalogue) -> list[str]:
    return [item.name for item in made.items]


def test_whoever_is_asked_for_gets_a_list_that_holds_what_it_may(served: tuple[Catalogue, Engine]) -> None:
    """Drawn at random: unknown candidates, deleted items, skewed clocks, everything blocked, wishes in emoji."""
    made, _ = served
    names, rng = [*all_names(made), "deleted", "🎬 film", "i00 "], np.random.default_rng(3)
    asked = []
    for number in range(120):
        drawn = [[str(name) for name in rng.permutation(names)[: rng.integers(0, len(names))]] for _ in range(4)]
        profile = Profile(
            user="u",
            events=history(drawn[0], step=timedelta(days=float(rng.integers(-3_000, 3_000)))),
            blocked=frozenset(drawn[1] if rng.random() < 0.5 else names),
            wanted={"🎬": 1e9, "garden": -1e9} if rng.random() < 0.5 else {},
        )
        asked.append(
            Asked(
                user="u",
                profile=replace(profile, blocked=frozenset()) if rng.random() < 0.5 else profile,
                count=int(rng.integers(1, 101)),
                candidates=tuple(drawn[2]) if rng.random() < 0.5 else None,
                withheld=tuple(drawn[3]) * 2 if rng.random() < 0.3 else (),
                language=str(rng.choice(["", "en", "tlh"])),
                at=NOON if rng.random() < 0.5 else None,
                lottery=number,
            )
        )
    for one, found in zip(asked, asked_of(served, asked), strict=True):
        items = [placed.item for placed in found]
        forbidden = one.known.hidden | set(one.withheld)
        allowed = set(all_names(made) if one.candidates is None else one.candidates) & set(all_names(made))
        assert set(items) <= allowed - forbidden
        assert len(items) == len(set(items)) <= one.count
        assert all(0.0 < placed.propensity <= 1.0 and placed.reason for placed in found)
        assert np.isfinite([placed.score for placed in found]).all()


def test_a_list_of_which_everything_is_blocked_or_unknown_is_empty(served: tuple[Catalogue, Engine]) -> None:
    made, _ = served
    blocked = Profile(user="u", blocked=frozenset(all_names(made)))
    asked = [
        Asked(user="u", profile=blocked, lottery=1),
        Asked(user="u", candidates=("no such item", "🎬"), lottery=1),
        Asked(user="u", candidates=(), lottery=1),
        Asked(user="u", profile=Profile(user="u", events=history(all_names(made))), count=100, lottery=1),
    ]
    assert asked_of(served, asked) == [(), (), (), ()]


def test_ten_thousand_clicks_are_answered_as_the_last_ones_are(served: tuple[Catalogue, Engine]) -> None:
    """Long ago weighs nothing; items that are no longer there are passed over."""
    made, _ = served
    last = history(all_names(made)[:6], step=timedelta(days=1))
    long_ago = tuple(
        Event(user="u", item=f"gone {number}", at=NOON - timedelta(seconds=20_000 - number)) for number in range(10_000)
    )
    asked = [Asked(user="u", profile=Profile(user="u", events=events), lottery=4) for events in (last, long_ago + last)]
    short, long = asked_of(served, asked)
    assert [placed.item for placed in long] == [placed.item for placed in short]
