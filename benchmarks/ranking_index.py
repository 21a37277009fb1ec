"""Large catalogues: what looking at all texts costs, what an approximate index costs and misses, and a list's time.

    python -m benchmarks.ranking_index [--items 100000 --items 1000000]

Catalogues are made up: titles of words that come as often as words do (Zipf), three genres of forty, and no user yet
but for 2,000 items. Ties by looking at all texts are made for some items, and the time for all is told from it. A list
is the compiled engine's on one core, of a user with fifty likings.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import record
from perennial.continual.learning.ranking import Item, ItemTexts, Neighbours
from perennial.continual.learning.ranking.text_index import IndexSettings, TextIndex
from perennial.exporters.ranking.catalogue import item_inputs
from perennial.exporters.ranking.graph import write_item_graph
from perennial.exporters.ranking.ties import ItemTies
from perennial.exporters.runtime import OnnxEngine

__all__ = ["main", "titles"]

_TIES, _SOME, _LIKED, _LISTS = 64, 256, 50, 40
_WORDS, _GENRES = 40_000, 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print the table and write `ranking_index.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.ranking_index", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, action="append", help="of a catalogue; may be given again")
    parser.add_argument("--recall", type=float, default=IndexSettings().recall, help="that the index must reach")
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    sizes = options.items or [100_000, 1_000_000]
    results = {"catalogues": [_measured(count, options.recall) for count in sizes]}
    for row in results["catalogues"]:
        print(
            f"{row['items']:>9,} items: ties by all texts {row['exact_s']:,.0f} s, by the index {row['index_s']:,.0f} s"
            f" (recall@10 {row['recall']:.3f}, words of {row['share']:.1%}); a list {row['list_ms']:.1f} ms"
        )
    print(record.write("ranking_index", results, options.out), file=sys.stderr)
    return 0


def titles(count: int, seed: int = 0) -> tuple[Item, ...]:
    """Items with two to six words each and three genres."""
    rng = np.random.default_rng(seed)
    often = 1.0 / np.arange(1, _WORDS + 1)
    lengths = rng.integers(2, 7, count)
    words = rng.choice(_WORDS, int(lengths.sum()), p=often / often.sum())
    genres = rng.integers(0, _GENRES, (count, 3))
    ends = np.cumsum(lengths)
    return tuple(
        Item(
            name=f"item {number}",
            text=" ".join(
                [
                    *(f"w{word}" for word in words[end - length : end].tolist()),
                    *(f"genre{genre}" for genre in genres[number].tolist()),
                ]
            ),
        )
        for number, (length, end) in enumerate(zip(lengths.tolist(), ends.tolist(), strict=True))
    )


def _measured(count: int, recall: float) -> dict[str, Any]:
    texts = ItemTexts.of(titles(count))
    began = time.perf_counter()
    index = TextIndex(texts, _TIES, IndexSettings(on=True, recall=recall))
    places, values = np.zeros((count, _TIES), np.int32), np.zeros((count, _TIES), np.float32)
    for some, cosines, where in index.nearest(range(count)):
        places[some], values[some] = where, cosines
    by_index = time.perf_counter() - began
    print(f"{count}: index {by_index:.0f} s, recall {index.recall:.3f}", file=sys.stderr, flush=True)
    began = time.perf_counter()
    for start in range(0, _SOME, 16):
        alike = texts.similarity(range(start, start + 16))
        np.argpartition(-alike, _TIES - 1, axis=1)
    exact = (time.perf_counter() - began) * count / _SOME
    rng = np.random.default_rng(1)
    table = Neighbours(places=places, values=values, popular=rng.random(count, dtype=np.float32))
    took = _list_s(ItemTies(neighbours=table, known=rng.random(count) * 10), rng)
    return {
        "items": count,
        "exact_s": exact,
        "exact_items_measured": _SOME,
        "index_s": by_index,
        "recall": index.recall,
        "share": index.share,
        "list_ms": 1_000 * took,
    }


def _list_s(ties: ItemTies, rng: np.random.Generator) -> float:
    """Seconds of one core for a list, in the middle of some."""
    liked = rng.choice(ties.items, _LIKED, replace=False)
    inputs = item_inputs(dict(zip(liked.tolist(), rng.random(_LIKED).tolist(), strict=True)), liked, {})
    with TemporaryDirectory() as folder:
        write_item_graph(ties, Path(folder) / "model.onnx", known_from=5.0, strangers=150)
        engine = OnnxEngine(Path(folder) / "model.onnx", threads=1)
    took = []
    for _ in range(_LISTS):
        began = time.thread_time()
        engine.infer(inputs)
        took.append(time.thread_time() - began)
    return float(np.median(took))


if __name__ == "__main__":
    sys.exit(main())
