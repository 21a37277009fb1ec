"""The compiled list of best items answers like the sums that it was made of, also for a large catalogue, in time."""

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, ExportFailed
from perennial.continual.learning.card import ModelCard
from perennial.continual.learning.ranking import (
    Ask,
    Blend,
    Bounds,
    Exploration,
    GramSettings,
    Item,
    ItemGram,
    ItemTexts,
    Neighbours,
    Profile,
    TrainedRanking,
)
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.ranking.catalogue import Catalogue, item_inputs
from perennial.exporters.ranking.graph import swap_item_graph, write_item_graph
from perennial.exporters.ranking.signature import ASK_ENGINE, RANKED, UNKNOWN, UNKNOWN_VALUES, VALUES
from perennial.exporters.ranking.ties import ItemTies
from tests.unit.learning.ranking.town import NOON, catalogue, events

pytestmark = pytest.mark.slow

Outputs = Mapping[str, NDArray[Any]]
NOTHING = np.zeros(0, np.int64)


class Engine:
    """The graph on one core."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Outputs:
        names = ASK_ENGINE.output_names
        return dict(zip(names, self._session.run(list(names), dict(inputs)), strict=True))


def town(gram: ItemGram, **more: Any) -> tuple[TrainedRanking, Catalogue]:
    """A model of the town, some of whose items come later or are of another language, with all its ties."""
    gram.add(events())
    items = (
        *catalogue(),
        Item(name="later", text="garden roses", offered_from=NOON + timedelta(days=1)),
        Item(name="autre", text="garden roses", language="fr"),
    )
    texts = ItemTexts.of(items)
    trained = TrainedRanking(
        card=ModelCard(learner="item_gram", task="ranking"),
        items=items,
        structure=gram.solve(GramSettings(ridge=5.0, text=2.0, texts=texts, most_items=35)),
        **{"blend": Blend(recency=0.8, text=0.3, sequel=0.5, sequel_recency=0.6), **more},
    )
    ties = ItemTies.of(trained, gram)  # all of them: it is a small town
    made = Catalogue(
        items=items, ties=ties, blend=trained.blend, bounds=trained.bounds, exploration=trained.exploration
    )
    return trained, made


ASKS: Mapping[str, Asked] = {
    "as it is": Asked(user="?", count=12),
    "one item": Asked(user="?", count=1),
    "candidates": Asked(user="?", candidates=("i01", "i04", "i39", "unheard of"), count=12),
    "a rule": Asked(user="?", withheld=("i05", "i07"), count=12),
    "words": Asked(user="?", context="spring roses volume3", count=12),
    "a language": Asked(user="?", language="en", count=12),
    "a time": Asked(user="?", at=NOON, count=12),
}


@pytest.mark.parametrize("what", ASKS)
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"blend": Blend(recency=0.8, text=0.0, sequel=0.0, popular=0.2)},
        {"bounds": Bounds(most_alike=3, most_popular=0, alike=0.5)},
        {"exploration": Exploration(share=0.4, most=3, among=4)},
    ],
    ids=["whole", "structure alone", "bounds", "exploration"],
)
def test_the_lists_are_those_of_the_recommender(tmp_path: Path, what: str, more: dict[str, Any]) -> None:
    gram = ItemGram()
    trained, made = town(gram, **more)
    strangers = trained.exploration.among + 100
    write_item_graph(made.ties, tmp_path / "model.onnx", known_from=trained.exploration.known_from, strangers=strangers)
    engine, model, ask = Engine(tmp_path / "model.onnx"), trained.recommender(gram), ASKS[what]
    wanted = Ask(
        count=ask.count,
        at=ask.at,
        candidates=None if ask.candidates is None else frozenset(ask.candidates),
        withheld=frozenset(ask.withheld),
        language=ask.language,
        context=ask.context,
    )
    profiles = [Profile(user=user, events=gram.history(user)) for user in gram.users[:6]]
    profiles.append(Profile(user="new"))
    profiles.append(profiles[0].want("engine pumps", 0.7).block("i13"))
    asked = [
        Asked(
            **{name: getattr(ask, name) for name in ("count", "at", "candidates", "withheld", "language", "context")},
            user=profile.user,
            profile=profile,
            lottery=number,
        )
        for number, profile in enumerate(profiles)
    ]
    outputs = engine.infer(made.encode(asked))
    for number, (found, profile) in enumerate(zip(made.lists(asked, outputs), profiles, strict=True)):
        theirs = model.rank(wanted, profile, np.random.default_rng(number))
        assert [placed.item for placed in found] == list(theirs.items)
        assert [placed.score for placed in found] == pytest.approx([one.score for one in theirs.places], abs=1e-5)
        assert [placed.propensity for placed in found] == pytest.approx(
            [one.propensity for one in theirs.places], rel=1e-4
        )
        assert [placed.explored for placed in found] == [one.explored for one in theirs.places]


def test_reasons_name_the_liking_that_counts_most_a_word_or_the_rest(tmp_path: Path) -> None:
    gram = ItemGram()
    _, made = town(gram)
    write_item_graph(made.ties, tmp_path / "model.onnx")
    engine = Engine(tmp_path / "model.onnx")
    known = Profile(user="u00", events=gram.history("u00"))
    asked = [
        Asked(user="u00", profile=known),
        Asked(user="new"),
        Asked(user="new", context="roses"),
    ]
    of_known, of_new, of_word = made.lists(asked, engine.infer(made.encode(asked)))
    names = {event.item for event in known.liked}
    assert {placed.reason.removeprefix("because of ") for placed in of_known} <= names | {"often after what you liked"}
    assert of_known[0].reason.startswith("because of ")
    assert {placed.reason for placed in of_new} == {"popular"}
    assert of_word[0].reason == "about roses"


def test_padding_says_nothing_and_where_few_are_left_the_rest_is_marked(tmp_path: Path) -> None:
    table = Neighbours(
        places=np.array([[1], [0]], np.int32), values=np.ones((2, 1), np.float32), popular=np.zeros(2, np.float32)
    )
    ties = ItemTies(neighbours=table, known=np.array([9.0, 1.0]))
    write_item_graph(ties, tmp_path / "model.onnx", most=9, known_from=5.0, strangers=7)
    engine = Engine(tmp_path / "model.onnx")
    inputs = item_inputs({0: 1.0}, np.array([0]), {})
    wider = {name: np.pad(array, [(0, 0), (0, 3)]) for name, array in inputs.items() if name != "popular"}
    for given in (inputs, {**inputs, **wider}):
        found = engine.infer(given)
        assert (found[RANKED].tolist(), found[VALUES].tolist()) == ([[1, -1]], [[1.0, 0.0]])
        assert (found[UNKNOWN].tolist(), found[UNKNOWN_VALUES].tolist()) == ([[1, -1]], [[1.0, 0.0]])
    boosted = engine.infer(item_inputs({}, NOTHING, {0: 2.0, 1: -1.0}))
    assert (boosted[RANKED].tolist(), boosted[VALUES].tolist()) == ([[0, 1]], [[2.0, -1.0]])
    for wrong in ({"most": 0}, {"strangers": 0}):
        with pytest.raises(ConfigurationError, match="ask for 1 or more"):
            write_item_graph(ties, tmp_path / "model.onnx", **wrong)


def test_new_ties_go_into_the_graph_of_a_catalogue_of_the_same_size(tmp_path: Path) -> None:
    gram = ItemGram()
    _, made = town(gram)
    graph = write_item_graph(made.ties, tmp_path / "old.onnx")
    gram.add(events(users=10, seed=7))
    _, newer = town(gram)
    swap_item_graph(newer.ties, tmp_path / "new.onnx", of=graph.fingerprint)
    asked = [Asked(user="u00", profile=Profile(user="u00", events=gram.history("u00")))]
    write_item_graph(newer.ties, tmp_path / "whole.onnx")
    rows = newer.encode(asked)
    swapped, whole, old = (Engine(tmp_path / f"{name}.onnx").infer(rows) for name in ("new", "whole", "old"))
    assert np.array_equal(swapped[VALUES], whole[VALUES])
    assert not np.array_equal(swapped[VALUES], old[VALUES])
    smaller = ItemTies(
        neighbours=Neighbours(
            places=np.zeros((1, 1), np.int32), values=np.ones((1, 1), np.float32), popular=np.zeros(1, np.float32)
        ),
        known=np.ones(1),
    )
    with pytest.raises(ExportFailed, match="1 items does not fit"):
        swap_item_graph(smaller, tmp_path / "other.onnx", of=graph.fingerprint)


def test_a_hundred_thousand_items_take_milliseconds(tmp_path: Path) -> None:
    rng, count = np.random.default_rng(0), 100_000
    table = Neighbours(
        places=rng.integers(0, count, (count, 64), dtype=np.int32),
        values=rng.random((count, 64), dtype=np.float32),
        popular=rng.random(count, dtype=np.float32),
    )
    ties = ItemTies(neighbours=table, known=rng.random(count) * 10)
    write_item_graph(ties, tmp_path / "model.onnx", known_from=5.0, strangers=150)
    engine = Engine(tmp_path / "model.onnx")
    liked = dict(zip(rng.choice(count, 50, replace=False).tolist(), rng.random(50).tolist(), strict=True))
    seen = np.array(list(liked))
    inputs = item_inputs(liked, seen, {}, popular=0.1)
    took = []
    for _ in range(30):
        began = time.thread_time()  # of this core: other processes may hold it meanwhile
        found = engine.infer(inputs)
        took.append(time.thread_time() - began)
    assert np.median(took) < 0.010
    own = table.scores(list(liked), list(liked.values()), popular=0.1)
    own[seen] = -np.inf
    assert found[VALUES][0] == pytest.approx(np.sort(own)[::-1][:100], rel=1e-5)
    assert own[found[RANKED][0]] == pytest.approx(found[VALUES][0], rel=1e-5)
    strange = np.where(ties.unknown(5.0), own, -np.inf)
    assert found[UNKNOWN_VALUES][0] == pytest.approx(np.sort(strange)[::-1][:150], rel=1e-5)
