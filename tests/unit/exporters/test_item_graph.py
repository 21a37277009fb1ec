"""The compiled list of best items answers like the sums that it was made of, also for a large catalogue, in time."""

import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.ranking import (
    Ask,
    Blend,
    GramSettings,
    ItemGram,
    ItemTexts,
    Neighbours,
    Profile,
    Recommender,
)
from perennial.exporters.item_graph import HIDDEN_SCORE, OUTPUTS, item_inputs, write_item_graph
from tests.unit.learning.ranking.town import catalogue, events


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_the_graph_gives_the_lists_of_the_recommender(tmp_path: Path) -> None:
    items, gram = catalogue(), ItemGram()
    gram.add(events())
    texts = ItemTexts.of(items)
    blend = Blend(recency=0.8, text=0.3, sequel=0.5, sequel_recency=0.6)
    solved = gram.solve(GramSettings(ridge=5.0, text=2.0, texts=texts))
    model = Recommender(solved, items, texts=texts, follows=gram, blend=blend)
    ties = Neighbours.of(model, len(items))  # all of them, so that nothing is let go
    write_item_graph(ties, tmp_path / "model.onnx", most=12)
    engine = session(tmp_path / "model.onnx")
    place = {item.name: number for number, item in enumerate(items)}
    for user in gram.users[:10]:
        state = Profile(user=user, events=gram.history(user))
        liked = [place[event.item] for event in state.liked]
        weights = [event.liked * 0.8 ** (len(liked) - 1 - step) for step, event in enumerate(state.liked)]
        sequel = [event.liked * 0.6 ** (len(liked) - 1 - step) for step, event in enumerate(state.liked)]
        liked, weights = [*liked, *(len(items) + one for one in liked)], [*weights, *sequel]
        hidden = [place[name] for name in state.hidden]
        inputs = item_inputs(liked, weights, hidden, popular=0.0, items=len(items))
        found, scores = engine.run(list(OUTPUTS), inputs)
        wanted = model.rank(Ask(count=12), state)
        assert scores[0] == pytest.approx([placed.score for placed in wanted.places], abs=1e-5)
        own = ties.scores(liked, weights, popular=0.0)
        assert own[found[0]] == pytest.approx(scores[0], abs=1e-5)
        assert not set(found[0].tolist()) & set(hidden)
    empty = engine.run(list(OUTPUTS), item_inputs([], [], [], popular=1.0, items=len(items)))
    assert empty[1][0].tolist() == sorted(model.popular.tolist(), reverse=True)[:12]


def test_where_few_are_left_the_rest_is_marked(tmp_path: Path) -> None:
    ties = Neighbours(
        places=np.array([[1], [0]], np.int32), values=np.ones((2, 1), np.float32), popular=np.zeros(2, np.float32)
    )
    write_item_graph(ties, tmp_path / "model.onnx", most=9)
    inputs = item_inputs([0], [1.0], [0], popular=0.0, items=2)
    found, scores = session(tmp_path / "model.onnx").run(list(OUTPUTS), inputs)
    assert found.tolist() == [[1, 0]]
    assert scores.tolist() == [[1.0, pytest.approx(HIDDEN_SCORE)]]
    with pytest.raises(ConfigurationError, match="best 0 items"):
        write_item_graph(ties, tmp_path / "model.onnx", most=0)


def test_a_hundred_thousand_items_take_milliseconds(tmp_path: Path) -> None:
    rng, count = np.random.default_rng(0), 100_000
    ties = Neighbours(
        places=rng.integers(0, count, (count, 64), dtype=np.int32),
        values=rng.random((count, 64), dtype=np.float32),
        popular=rng.random(count, dtype=np.float32),
    )
    write_item_graph(ties, tmp_path / "model.onnx")
    engine = session(tmp_path / "model.onnx")
    liked = rng.integers(0, count, 50).tolist()
    inputs = item_inputs(liked, rng.random(50).tolist(), liked, popular=0.1, items=count)
    took = []
    for _ in range(30):
        began = time.thread_time()  # of this core: other processes may hold it meanwhile
        found, scores = engine.run(list(OUTPUTS), inputs)
        took.append(time.thread_time() - began)
    assert np.median(took) < 0.010
    own = ties.scores(liked, inputs["weights"][0].tolist(), popular=0.1)
    own[liked] = -np.inf
    assert scores[0] == pytest.approx(np.sort(own)[::-1][:100], rel=1e-5)
    assert own[found[0]] == pytest.approx(scores[0], rel=1e-5)
