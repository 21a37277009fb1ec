"""Closed forms beside what anybody would try first, on several sets and languages: accuracy, macro F1, calibration.

    python -m benchmarks.closed_forms --data FOLDER [--sets banking77 gold_news ...] [--rows 4000]

Each set is a folder of FOLDER. The closed forms are the fast learner's jobs as `perennial serve` runs them: a tenth of
the rows, by the hash of their text, chooses the settings and is never learnt. The baselines see all training rows.
gold_news is a stream in time order: 585 rows first, then labels after each 500; each model answers the next 500.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.labelled_sets import SETS, steps_of
from perennial.continual.arrays import softmax
from perennial.continual.learning.answering import answer
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Context
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import Encoder, fingerprint, hidden_size, resolve_encoder
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.metrics import accuracy, expected_calibration_error, macro_f1
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import split_of
from perennial.continual.records import Example, Split

__all__ = ["main"]

_MAX_LENGTH = 128
Scores = tuple[tuple[str, ...], NDArray[np.float64]]  # labels, probabilities (rows, C)


class Bench:
    """An encoder with the embeddings that it has made, and the ways to learn from them."""

    def __init__(self, encoder: str, cache: Path) -> None:
        self.encoder, self.cache = encoder, cache
        folder = resolve_encoder(encoder)
        self._store = EmbeddingCache(
            cache, encoder=fingerprint(folder), max_length=_MAX_LENGTH, dimension=hidden_size(folder)
        )
        self._loaded: list[Encoder] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings, from the disk where they are there."""
        return self._store.embed(texts, self.run)

    def run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings by the encoder."""
        if not self._loaded:
            self._loaded.append(Encoder.load(self.encoder, max_length=_MAX_LENGTH, threads=2))
        return self._loaded[0].embed(texts)

    def closed_form(
        self, learner: LearnerName, rows: Sequence[Example], asked: Sequence[str], folder: Path, before: Path | None
    ) -> tuple[Scores, Path]:
        """What the fast learner's job on all rows so far answers; it goes on from the model `before`."""
        out = folder / f"{learner}-{len(rows)}"
        held = [row for row in rows if split_of(row.text) is Split.HOLDOUT]
        write_rows(folder / "fresh.jsonl", [row for row in rows if split_of(row.text) is Split.TRAIN])
        write_rows(folder / "held.jsonl", held)
        spec = JobSpec(
            learner=learner,
            examples=folder / "fresh.jsonl",
            holdout=folder / "held.jsonl",
            previous=before,
            encoder=self.encoder,
            out=out,
            cache=self.cache,
            max_length=_MAX_LENGTH,
        )
        train_fast(spec, Context(), self.run)
        labels, logits = answer(out, list(asked), cache=self.cache)
        return (labels, softmax(logits)), out

    def frozen(self, rows: Sequence[Example], asked: Sequence[str]) -> Scores:
        """Logistic regression on the frozen embeddings."""
        from sklearn.linear_model import LogisticRegression

        X = self.embed([row.text for row in rows])
        model = LogisticRegression(C=10.0, max_iter=2000).fit(X, [row.label for row in rows])
        return tuple(model.classes_), model.predict_proba(self.embed(asked))


def tfidf(rows: Sequence[Example], asked: Sequence[str], *, machine: bool = False) -> Scores:
    """Logistic regression on tf-idf of words and letters, or a linear support vector machine, which is never sure."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    last = LinearSVC(random_state=0) if machine else LogisticRegression(C=10.0, max_iter=2000)
    model = make_pipeline(make_union(words, letters), last)
    model.fit([row.text for row in rows], [row.label for row in rows])
    if not machine:
        return tuple(last.classes_), model.predict_proba(asked)
    scores = model.decision_function(asked)
    return tuple(last.classes_), softmax(np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sets, print a line an arm and write `closed_forms.json`."""
    parser = argparse.ArgumentParser(prog="closed_forms", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", type=int, default=0, help="training rows at most; 0 is all")
    parser.add_argument("--encoder", default="", help="in place of what a user of each set's language would name")
    parser.add_argument("--out", type=Path, default=record.OUT)
    options = parser.parse_args(arguments)
    found = []
    for name in options.sets:
        for line in _measured(name, options):
            found.append(line)
            print(line, flush=True)
    record.write("closed_forms", {"sets": found}, options.out)
    return 0


def _measured(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    columns = SETS[name]
    steps = steps_of(options.data / name, columns, options.rows)
    bench = Bench(options.encoder or columns.encoder, options.out / "cache")
    with TemporaryDirectory() as work:
        arms: dict[str, Callable[[Sequence[Example], Sequence[str], Any], tuple[Scores, Any]]] = {
            learner.value: lambda rows, asked, before, learner=learner: bench.closed_form(  # type: ignore[misc]
                learner, rows, asked, Path(work), before
            )
            for learner in (LearnerName.RIDGE, LearnerName.KERNEL_LDA)
        }
        arms["frozen_lr"] = lambda rows, asked, before: (bench.frozen(rows, asked), None)
        arms["tfidf_lr"] = lambda rows, asked, before: (tfidf(rows, asked), None)
        for arm, learn in arms.items():
            started, before = time.perf_counter(), None
            given: list[str] = []
            sure: list[float] = []
            for rows, asked in steps:
                (labels, chances), before = learn(rows, [row.text for row in asked], before)
                given += [labels[place] for place in chances.argmax(axis=1)]
                sure += chances.max(axis=1).tolist()
            truth = [row.label for _, asked in steps for row in asked]
            right = np.array(given) == np.array(truth)
            yield {
                "set": name,
                "arm": arm,
                "rows": len(steps[-1][0]),
                "asked": len(truth),
                "accuracy": round(100 * accuracy(given, truth), 2),
                "macro_f1": round(macro_f1(given, truth), 4),
                "ece": round(float(expected_calibration_error(np.array(sure), right)), 4),
                "seconds": round(time.perf_counter() - started, 1),
                "settings": read_card(before).settings if before else None,
            }


if __name__ == "__main__":
    sys.exit(main())
