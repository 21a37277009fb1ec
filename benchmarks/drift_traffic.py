"""A labelled set as answered traffic: a model that knows 40 classes, clean requests, and how they change.

Of BANKING77, 37 intents are left that it does not know; a set of fewer classes has none.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled_sets import SETS, steps_of
from perennial.continual.drift import Window
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import PACKAGED_MINILM, Encoder, fingerprint

__all__ = ["KINDS", "Traffic", "answers_of", "head_of", "load"]

_KNOWN = 40
_FIT_ROWS = 2_000
_CHANGED = 600
_GERMAN_WORDS = (
    "i:ich my:meine the:die a:eine is:ist are:sind to:zu do:tun have:habe was:war not:nicht card:karte "
    "cards:karten money:geld account:konto can:kann how:wie why:warum what:was where:wo when:wann it:es in:in "
    "on:auf for:für with:mit from:von and:und payment:zahlung transfer:überweisung cash:bargeld bank:bank "
    "fee:gebühr charged:belastet need:brauche want:will get:bekommen got:bekam lost:verloren "
    "pending:ausstehend app:app change:ändern pin:pin new:neue still:noch help:hilfe me:mir you:sie your:ihre "
    "this:dies that:das there:dort if:wenn of:von long:lange take:dauern exchange:wechsel rate:kurs top:auf "
    "up:laden verify:prüfen identity:identität please:bitte atm:automat use:benutzen"
)
_GERMAN = MappingProxyType(dict(pair.split(":") for pair in _GERMAN_WORDS.split()))
_PARAPHRASE = MappingProxyType(
    {
        "how do i": "what steps are required in order to",
        "how can i": "what would be the procedure to",
        "why": "for what reason",
        "card": "piece of plastic",
        "money": "funds",
        "transfer": "remittance",
        "payment": "settlement",
        "account": "profile",
        "need": "require",
        "want": "would wish",
        "get": "obtain",
        "cash": "banknotes",
        "help": "assist",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Answered rows to draw requests from. `clean` were held out of the fit; each changed kind is a window of its own.

    `truth` are the labels of the clean rows, `new_truth` those of the new intents.
    """

    clean: Window
    truth: NDArray[np.str_]
    new_intents: Window
    new_truth: NDArray[np.str_]
    changed: Mapping[str, Window]
    embeddings: NDArray[np.float32]  # every row of the data set, for false-alarm rates
    held_out_accuracy: float
    model: Any  # the head that answered, as sklearn has it


def load(folder: Path, cache: Path) -> Traffic:
    """Embed the set in a folder that is named after it (kept in `cache`), fit a head and answer the rest with it."""
    rows = [row for part in steps_of(folder, SETS[folder.name])[0] for row in part]
    texts = np.array([row.text for row in rows], dtype=object)
    labels = np.array([row.label for row in rows])
    embed = _embedder(cache)
    x = embed(texts.tolist())
    rng = np.random.default_rng(5)
    known = np.isin(labels, rng.permutation(np.unique(labels))[:_KNOWN])
    order = rng.permutation(np.flatnonzero(known))
    if len(order) < _FIT_ROWS + _CHANGED:
        raise SystemExit(f"{folder} has {len(order)} rows of known classes; a stream needs {_FIT_ROWS + _CHANGED}")
    fit, clean = order[:_FIT_ROWS], order[_FIT_ROWS:]
    model = head_of(x[fit], labels[fit])
    some = rng.choice(clean, _CHANGED, replace=False)
    changed = {}
    for kind, change in KINDS.items():
        altered = np.array([change(str(text), rng) for text in texts[some]], dtype=object)
        changed[kind] = answers_of(model, altered, embed(altered.tolist()))
    answered = answers_of(model, texts[clean], x[clean])
    new = np.flatnonzero(~known)
    return Traffic(
        clean=answered,
        truth=labels[clean],
        new_intents=answers_of(model, texts[new], x[new]) if len(new) else answered.rows([]),
        new_truth=labels[new],
        changed=changed,
        embeddings=x,
        held_out_accuracy=float((answered.predictions == labels[clean]).mean()),
        model=model,
    )


def _embedder(cache: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    encoder = Encoder.load(PACKAGED_MINILM, threads=2)
    store = EmbeddingCache(
        cache, encoder=fingerprint(encoder.folder), max_length=encoder.max_length, dimension=encoder.dimension
    )
    return lambda texts: store.embed(texts, encoder)


def head_of(x: NDArray[np.float32], labels: NDArray[np.str_]) -> Any:
    """A head fitted on embeddings."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=30, max_iter=300).fit(x, labels)


def answers_of(model: Any, texts: NDArray[np.object_], x: NDArray[np.float32]) -> Window:
    """The texts as the head answers them."""
    chances = model.predict_proba(x)
    best = np.sort(chances, axis=1)
    return Window.from_columns(
        {
            "text": texts,
            "prediction": model.classes_[chances.argmax(axis=1)],
            "confidence": best[:, -1],
            "margin": best[:, -1] - best[:, -2],
            "entropy": -(chances * np.log(chances + 1e-12)).sum(axis=1),
            "version": np.ones(len(texts), dtype=np.int64),
            "embedding": x.astype(np.float16),
        }
    )


def _typos(text: str, rng: np.random.Generator) -> str:
    letters = list(text)
    for i in np.flatnonzero(rng.random(len(letters)) < 0.08):
        other = min(int(i) + 1, len(letters) - 1)
        letters[i], letters[other] = letters[other], letters[i]
    return "".join(letters)


def _paraphrase(text: str, _: np.random.Generator) -> str:
    lowered = text.lower()
    for plain, other in _PARAPHRASE.items():
        lowered = re.sub(rf"\b{plain}\b", other, lowered)
    return f"good day, may i enquire: {lowered}"


def _case(text: str, _: np.random.Generator) -> str:
    return text.upper().replace("?", "!!!")


def _german(text: str, _: np.random.Generator) -> str:
    return " ".join(_GERMAN.get(word, word) for word in re.findall(r"[a-z']+|[^a-z'\s]", text.lower()))


KINDS: Mapping[str, Callable[[str, np.random.Generator], str]] = MappingProxyType(
    {"typos": _typos, "paraphrase": _paraphrase, "case": _case, "language": _german}
)
