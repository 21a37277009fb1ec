"""A trained ranking comes back from its folder as it was written, and a folder that is none is refused."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import DataError
from perennial.continual.learning.card import MODEL_FILE, ModelCard, is_finished
from perennial.continual.learning.ranking import (
    Ask,
    Blend,
    Bounds,
    Exploration,
    GramSettings,
    Item,
    ItemGram,
    ItemTexts,
    Profile,
    TrainedRanking,
    read_items,
    write_items,
)
from perennial.continual.learning.trained import STATISTICS_FILE
from tests.unit.learning.ranking.town import NOON, catalogue, events


def trained(gram: ItemGram) -> TrainedRanking:
    items = (*catalogue(), Item(name="later", offered_from=NOON, offered_until=NOON + timedelta(days=1)))
    settings = GramSettings(ridge=5.0, texts=ItemTexts.of(items))
    return TrainedRanking(
        card=ModelCard(learner="item_gram", task="ranking"),
        items=items,
        structure=gram.solve(settings),
        blend=Blend(recency=0.8),
        bounds=Bounds(most_alike=2),
        exploration=Exploration(share=0.1),
    )


def test_what_is_written_is_read_again_and_answers_the_same(tmp_path: Path) -> None:
    gram = ItemGram()
    gram.add(events())
    model = trained(gram)
    model.write(tmp_path, gram)
    again, sums = TrainedRanking.load(tmp_path), TrainedRanking.sums(tmp_path)
    assert again.card == model.card
    assert again.card.task == "ranking"
    assert (again.items, again.blend, again.bounds, again.exploration) == (
        model.items,
        model.blend,
        model.bounds,
        model.exploration,
    )
    assert again.structure.names == model.structure.names
    assert np.array_equal(again.structure.weights, model.structure.weights)
    state = Profile(user="u00", events=gram.history("u00"))
    assert sums.history("u00") == gram.history("u00")
    assert again.recommender(sums).rank(Ask(), state) == model.recommender(gram).rank(Ask(), state)


def test_users_are_in_the_sums_alone(tmp_path: Path) -> None:
    gram = ItemGram()
    gram.add(replace(event, user=f"person-{event.user}") for event in events())
    trained(gram).write(tmp_path, gram)
    assert [path.name for path in sorted(tmp_path.iterdir()) if b"person-" in path.read_bytes()] == [STATISTICS_FILE]


def test_the_card_is_the_mark_of_a_whole_folder(tmp_path: Path) -> None:
    gram = ItemGram()
    gram.add(events())
    trained(gram).write(tmp_path, gram)
    (tmp_path / MODEL_FILE).unlink()
    assert not is_finished(tmp_path)
    with pytest.raises(DataError, match="did not finish"):
        TrainedRanking.load(tmp_path)


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    gram = ItemGram()
    gram.add(events())
    trained(gram).write(tmp_path, gram)
    document = json.loads((tmp_path / "blend.json").read_text())
    (tmp_path / "blend.json").write_text(json.dumps(document | {"blend": {"recency": 7.0}}))
    with pytest.raises(DataError, match="no trained ranking"):
        TrainedRanking.load(tmp_path)
    (tmp_path / "structure.safetensors").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        TrainedRanking.load(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{}", "name"), ('{"name": "a", "color": "red"}', "color"), ("tea", "line 2"), ('{"name": " "}', "empty")],
)
def test_a_line_that_is_no_item_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"name": "tea"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read_items(path)


def test_a_catalogue_keeps_its_order_and_has_each_name_once(tmp_path: Path) -> None:
    items = (Item(name="b", text="two\u2028lines", language="en"), Item(name="a"))
    write_items(tmp_path / "items.jsonl", items)
    assert read_items(tmp_path / "items.jsonl") == items
    gram = ItemGram()
    gram.add(events())
    with pytest.raises(DataError, match="names"):
        replace(trained(gram), items=(*items, items[0]))
