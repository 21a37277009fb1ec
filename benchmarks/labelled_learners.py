"""The fast learner's jobs, and what anybody would try first, on labelled rows: what `first_hour` compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.learning.answering import answer
from perennial.continual.learning.context import Context
from perennial.continual.learning.embedding import load_embedding
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import Embedder, fingerprint, hidden_size, resolve_encoder
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import split_of
from perennial.continual.records import Example, Split

__all__ = ["Bench", "Scores", "tfidf", "tfidf_model"]

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
        self._loaded: list[Embedder] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings, from the disk where they are there."""
        return self._store.embed(texts, self.run)

    def run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings by the encoder, as a training makes them."""
        if not self._loaded:
            folder = resolve_encoder(self.encoder)
            self._loaded.append(load_embedding(folder, images=None, max_length=_MAX_LENGTH, threads=2))
        return self._loaded[0](texts)

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
    model = tfidf_model(rows, machine=machine)
    if not machine:
        return tuple(model.classes_), model.predict_proba(asked)
    scores = model.decision_function(asked)
    return tuple(model.classes_), softmax(np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores)


def tfidf_model(rows: Sequence[Example], *, machine: bool = False) -> Any:
    """The pipeline of `tfidf`, fitted: what is asked more than once need not be learnt anew."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    last = LinearSVC(random_state=0) if machine else LogisticRegression(C=10.0, max_iter=2000)
    return make_pipeline(make_union(words, letters), last).fit([row.text for row in rows], [row.label for row in rows])
