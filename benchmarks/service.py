"""Approved replies: found by their texts, by one approved question, sent by themselves, and over time.

    python -m benchmarks.service --data FOLDER [--data FOLDER] [--quick]

Folders hold `bankfaq.csv` (question, answer, class), `sgd_test_pairs.csv` (dialogue, user, system), or `train.csv` and
`test.csv` (text, category). Weights that judge a pair, and the settings of their learning, are of other replies.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.service_data import Vectors, read_faq, read_turns
from benchmarks.service_halves import category_library, paraphrases, tested_halves
from benchmarks.service_similar import asked_rows, similar_approved
from benchmarks.service_stream import live_stream
from perennial.continual.intervals import Interval, wilson
from perennial.continual.learning.replies import (
    FEATURES,
    Library,
    Matcher,
    Question,
    Reply,
    lowest_precision,
)
from perennial.continual.learning.replies.features import Surface
from perennial.continual.learning.replies.fitting import cross_fitted

__all__ = ["chosen_limit", "main"]

_PRECISION, _CONFIDENCE = 0.95, 0.95
_LIMITS = 20  # that are tried, each at another share of the pairs
_LEAST = 240  # pairs of a situation
_NOTHING = 2.0  # a limit that no share reaches
_RIVALS = 99


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print its table and write `service.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.service", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True, help="a folder; may be given twice")
    parser.add_argument("--out", type=Path, default=record.OUT, help="where the result goes")
    parser.add_argument("--cache", type=Path, default=record.OUT / "service-vectors", help="where embeddings are kept")
    parser.add_argument("--encoder", default="packaged:minilm")
    parser.add_argument("--quick", action="store_true", help="a fifth of the data, to see that it runs")
    options = parser.parse_args(arguments)
    share = 5 if options.quick else 1
    vectors = Vectors(options.encoder, options.cache)
    recipes: list[dict[str, Any]] = []
    for folder in options.data:
        if (folder / "train.csv").is_file():
            shares, hits = paraphrases(folder, vectors, every=share)
            value = wilson(int(hits.sum()), len(hits))
            recipes.append(_row("five questions approved", "R@1", value, {}))
            recipes += _sent("five questions approved", shares, hits)
            for approved in (1, 5):
                recipes.append(_similar(folder, vectors, approved, every=share))
            asked_again = category_library(folder, every=share)
            recipes.append(live_stream("asked again over time", asked_again, vectors, np.random.default_rng(1)))
        if (folder / "bankfaq.csv").is_file():
            recipes += _replies(folder / "bankfaq.csv", vectors, every=share)
        if (folder / "sgd_test_pairs.csv").is_file():
            recipes.append(_next_turn(read_turns(folder / "sgd_test_pairs.csv", every=share), vectors))
    for row in recipes:
        print(f"{row['name']:34s} {row['metric']:28s} {row['value']:.3f}  {row['interval']}  {row['baseline']}")
    print(record.write("service", {"encoder": options.encoder, "recipes": recipes}, options.out), file=sys.stderr)
    return 0


def _similar(folder: Path, vectors: Vectors, approved: int, *, every: int) -> dict[str, Any]:
    """After one similar question is approved, where any other has so many."""
    before, after, share = similar_approved(folder, vectors, approved=approved, every=every)
    name = f"one similar question approved, {approved} a reply"
    row = _row(name, "R@1", wilson(int(after.sum()), len(after)), {"before": float(before.mean())})
    return row | {"questions": len(after), "share_with_similar": share}


def _replies(path: Path, vectors: Vectors, *, every: int) -> list[dict[str, Any]]:
    """Cold, after one approved question, sent by themselves, and over time."""
    library = read_faq(path, every=every)
    found = tested_halves(library, asked_rows(path, library), vectors(library.texts), np.random.default_rng(0))
    rows = []
    named = {"cold": "cold reply", "again": "asked again, as it stands", "warm": "asked of another product"}
    for situation, name in named.items():
        places = found.places(situation)
        for k in (1, 3) if len(places) else ():
            base = {each: float((found.places(f"{situation} {each}") < k).mean()) for each in ("bm25", "encoder")}
            rows.append(_row(name, f"R@{k}", wilson(int((places < k).sum()), len(places)), base))
        rows += _sent(situation, *found.sure(situation))
    rows.append(live_stream("replies over time", library, vectors, np.random.default_rng(1)))
    return rows


def _sent(situation: str, shares: NDArray[np.float64], hits: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Coverage and precision of what is sent: each half of the pairs by the limit that was chosen on the other one.

    Too few pairs, of which no choice could reach the precision, tell nothing.
    """
    if len(shares) < _LEAST:
        return []
    order = np.random.default_rng(2).permutation(len(shares))
    limits, right, count = [], 0, 0
    for chosen, judged in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        limits.append(chosen_limit(shares[chosen], hits[chosen]))
        sent = shares[judged] >= limits[-1]
        right, count = right + int(hits[judged][sent].sum()), count + int(sent.sum())
    about = {"sent": count, "of": len(shares), "limits": limits, "asked_for": _PRECISION}
    name = f"sent by itself, {situation}"
    rows = [_row(name, "coverage", wilson(count, len(shares)), {}) | about]
    return rows if not count else [*rows, _row(name, "precision", wilson(right, count), {}) | about]


def chosen_limit(shares: NDArray[np.float64], hits: NDArray[np.bool_]) -> float:
    """The lowest of a few limits above which right answers surely reach the precision; above 1 where none does.

    The bounds of all limits hold together (Bonferroni), for the best of many is chosen by what was also by luck.
    """
    limits = np.unique(np.quantile(shares, np.linspace(0.0, 1.0, _LIMITS, endpoint=False)))
    confidence = 1 - (1 - _CONFIDENCE) / len(limits)
    for limit in limits:
        sent = shares >= limit
        if lowest_precision(int(hits[sent].sum()), int(sent.sum()), confidence=confidence) >= _PRECISION:
            return float(limit)
    return _NOTHING


def _next_turn(turns: list[tuple[str, str, str]], vectors: Vectors) -> dict[str, Any]:
    """The next turn among 100: learnt on one half of the dialogues, tried on the other."""
    vectors([text for _, *said in turns for text in said])  # at once, which is quicker
    rng = np.random.default_rng(3)
    dialogues = sorted({dialogue for dialogue, _, _ in turns})
    half = set(rng.permutation(dialogues)[: len(dialogues) // 2].tolist())
    matcher = _learnt([turn for turn in turns if turn[0] in half], vectors)
    library, asked, truth = _library([turn for turn in turns if turn[0] not in half])
    bare = Library(replies=library.replies)
    surface, embedded = Surface.of(bare), vectors(bare.texts)
    found = matcher.searched(surface, vectors(asked), asked, embedded).features(surface)
    scores = matcher.scores(found)
    words = found[:, :, FEATURES.index("answer_words")]
    meaning = found[:, :, FEATURES.index("answer")]
    hits: dict[str, list[bool]] = {"ours": [], "bm25": [], "encoder": []}
    for row, right in enumerate(truth):
        others = rng.choice(
            np.delete(np.arange(len(library.replies)), right), min(_RIVALS, len(library.replies) - 1), False
        )
        for name, each in (("ours", scores), ("bm25", words), ("encoder", meaning)):
            hits[name].append(bool((each[row, others] < each[row, right]).all()))
    value = wilson(sum(hits["ours"]), len(truth))
    return _row("next turn", "R@1 of 100", value, {name: float(np.mean(hits[name])) for name in ("bm25", "encoder")})


def _learnt(turns: list[tuple[str, str, str]], vectors: Vectors) -> Matcher:
    library, _, _ = _library(turns)
    found = cross_fitted(library, vectors(library.texts), np.random.default_rng(4))
    return Matcher() if found is None else found[0]


def _library(turns: list[tuple[str, str, str]]) -> tuple[Library, list[str], list[int]]:
    """The system's turns as replies, the user's as their questions."""
    place: dict[str, int] = {}
    for _, _, said in turns:
        place.setdefault(said, len(place))
    replies = tuple(Reply(id=f"r{number}", text=text, intent="turn") for text, number in place.items())
    asked, truth = [user for _, user, _ in turns], [place[said] for _, _, said in turns]
    pairs = dict.fromkeys((f"r{number}", text) for text, number in zip(asked, truth, strict=True))
    return Library(replies=replies, questions=tuple(Question(reply=r, text=t) for r, t in pairs)), asked, truth


def _row(name: str, metric: str, value: Interval, baseline: dict[str, float]) -> dict[str, Any]:
    return record.recipe(name, metric, value.mean, [round(value.low, 4), round(value.high, 4)], baseline)


if __name__ == "__main__":
    sys.exit(main())
