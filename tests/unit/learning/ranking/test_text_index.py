"""The index of texts finds nearly all of the nearest, tells their cosines exactly, and is there for those who ask."""

import sys
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DependencyUnreachable, ExportFailed
from perennial.continual.learning.card import ModelCard
from perennial.continual.learning.ranking import (
    GramSettings,
    Item,
    ItemGram,
    ItemTexts,
    Neighbours,
    TrainedRanking,
    text_index,
)
from perennial.continual.learning.ranking.text_index import IndexSettings, TextIndex
from perennial.continual.learning.ranking.training import RankingSettings
from tests.unit.learning.ranking.town import catalogue, events

_ITEMS, _TIES = 3_000, 20
ON = IndexSettings(on=True, from_items=1)


def _many(seed: int = 0) -> tuple[Item, ...]:
    """Items with four of a thousand words each; every hundredth has none."""
    words = np.random.default_rng(seed).integers(0, 1_000, (_ITEMS, 4)).tolist()
    texts = (" ".join(f"w{word}" for word in own) for own in words)
    return tuple(Item(name=f"many {n}", text="" if n % 100 == 0 else text) for n, text in enumerate(texts))


def test_nearly_all_of_the_nearest_are_found_with_their_cosines() -> None:
    texts = ItemTexts.of(_many())
    index = TextIndex(texts, _TIES, ON)
    ((places, cosines, where),) = index.nearest(range(0, _ITEMS, 7))
    alike = texts.similarity(places.tolist())
    assert np.take_along_axis(alike, where, axis=1)[cosines > 0] == pytest.approx(cosines[cosines > 0], abs=1e-6)
    tenth = np.sort(alike, axis=1)[:, -10]
    told = tenth > 0
    found = np.minimum((cosines >= tenth[:, None] - 1e-6).sum(axis=1), 10)
    assert found[told].mean() / 10 == pytest.approx(index.recall, abs=0.03)
    assert index.recall >= 0.95
    assert not cosines[places % 100 == 0].any(), "an item without words is near to nothing"


def test_who_has_few_near_texts_must_find_them_too() -> None:
    groups = ItemTexts.of([Item(name=f"{n}", text=f"own{n} group{n // 5}") for n in range(1_000)])
    index = TextIndex(groups, _TIES, ON)
    assert (index.share, index.recall) == (0.01, 1.0), "with fewer words each finds itself alone"


def test_all_words_find_all_and_an_export_is_refused_where_too_few_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ItemTexts.of(_many())
    assert TextIndex(texts, _TIES, IndexSettings(on=True, recall=1.0)).recall == 1.0
    monkeypatch.setattr(text_index, "_SHARES", (0.0005, 0.002))
    with pytest.raises(ExportFailed, match=r"the index finds 0\.\d+ of the 10 nearest texts \(limit 0\.95\)"):
        TextIndex(texts, _TIES, ON)


def test_ties_by_the_index_are_those_of_the_structure_and_nearly_all_of_the_texts(tmp_path: Path) -> None:
    gram = ItemGram()
    gram.add(events())
    items = (*catalogue(), *_many())
    trained = TrainedRanking(
        card=ModelCard(learner="item_gram", task="ranking"),
        items=items,
        structure=gram.solve(GramSettings(ridge=5.0, text=2.0, texts=ItemTexts.of(items), most_items=35)),
        index=ON,
    )
    trained.write(tmp_path, gram)
    assert TrainedRanking.load(tmp_path).index == ON
    model = trained.recommender(gram)
    exact, quick = Neighbours.of(model, _TIES), Neighbours.of(model, _TIES, ON)
    assert np.array_equal(exact.values[model.structured], quick.values[model.structured])
    sequels = slice(len(items), None)
    assert np.array_equal(exact.values[sequels], quick.values[sequels])
    assert np.all(quick.values <= exact.values + 1e-6)
    assert quick.values.sum() >= 0.97 * exact.values.sum()
    few = Neighbours.of(model, _TIES, IndexSettings(on=True, from_items=len(items) + 1))
    assert np.array_equal(few.values, exact.values)


def test_it_is_off_unless_asked_for_and_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not RankingSettings.of({}).index.on
    assert RankingSettings.of({"index": {"on": True, "recall": 0.9}}).index == IndexSettings(on=True, recall=0.9)
    with pytest.raises(ConfigurationError, match="recall must lie above 0"):
        RankingSettings.of({"index": {"recall": 2}})
    monkeypatch.setitem(sys.modules, "sparse_dot_topn", None)
    with pytest.raises(DependencyUnreachable, match=r"pip install 'perennial-serving\[index\]'"):
        TextIndex(ItemTexts.of(catalogue()), _TIES, ON)
