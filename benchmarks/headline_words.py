"""What it costs to find a story by its fourth headline for whoever goes by words: false alarms in shuffled headlines.

    python -m benchmarks.headline_words --data gold_news

Nobody knows beforehand which word will tell a story. So whoever alarms as soon as four of 21 headlines share a word
must do so for every word that is as rare. That is counted here, in shuffles, for the words of the longer stories of
`benchmarks.opinion`. No model and no limit has a say in it.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from perennial.continual.events import words_of

__all__ = ["alarms_by_words", "main"]

SINCE = date(2015, 9, 1)
STORIES = ("ukraine", "greece", "nymex", "minutes", "hike")  # words of the stories of six headlines, the rarest first
_LATEST, _OTHERS = 20, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print a line a word and write `headline_words.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.headline_words", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder gold_news")
    parser.add_argument("--shuffles", type=int, default=30)
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    with (options.data / "gold_news.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if date.fromisoformat(row["date"]) >= SINCE]
    later = [frozenset(words_of(row["text"])) for row in rows]
    found = {word: alarms_by_words(later, word, shuffles=options.shuffles) for word in STORIES}
    for word, told in found.items():
        print(f"{word:10} {told['share']:6.2%} of all headlines: {told['alarms']:.2f} false alarms in 2,000")
    print(record.write("headline_words", {"words": found}, options.out), file=sys.stderr)
    return 0


def alarms_by_words(headlines: Sequence[frozenset[str]], word: str, *, shuffles: int) -> Mapping[str, Any]:
    """Alarms in 2,000 shuffled headlines, where any word no commoner than `word` alarms with its fourth of 21.

    >>> same = [frozenset({"gold"})] * 50
    >>> alarms_by_words(same, "gold", shuffles=1)["alarms"], alarms_by_words(same, "iron", shuffles=1)["alarms"]
    (2000.0, 0.0)
    """
    often = Counter(one for words in headlines for one in words)
    rare = [frozenset(one for one in words if often[one] <= often[word]) for words in headlines]
    alarms = tried = 0
    for seed in range(shuffles):
        order = [rare[place] for place in np.random.default_rng(seed).permutation(len(rare))]
        latest: Counter[str] = Counter(one for words in order[:_LATEST] for one in words)
        for place in range(_LATEST, len(order)):
            alarms += any(latest[one] >= _OTHERS for one in order[place])
            latest.update(order[place])
            latest.subtract(order[place - _LATEST])
            tried += 1
    return {"share": often[word] / len(headlines), "alarms": 2_000 * alarms / tried}


if __name__ == "__main__":
    sys.exit(main())
