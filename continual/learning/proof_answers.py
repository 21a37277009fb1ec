"""What a newly trained model answers to the rows that were held out, kept without their texts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.continual.arrays import softmax
from perennial.continual.atomic_file import write_atomically
from perennial.continual.learning.answering import answer
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.spec import JobSpec

__all__ = ["ProofAnswers", "answer_holdout", "read_proof_answers"]

_FILE = "holdout-answers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofAnswers:
    """Label and confidence of each held-out row's answer, in the order of the spec's file.

    >>> ProofAnswers.of({"given": ["a"], "confidence": [0.9]}).given
    ('a',)
    """

    given: tuple[str, ...]
    confidence: tuple[float, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "ProofAnswers":
        """The answers out of a file's content."""
        return cls(given=tuple(map(str, document["given"])), confidence=tuple(map(float, document["confidence"])))


def answer_holdout(spec: JobSpec) -> None:
    """Let a finished training answer its held-out rows, as it was before it learnt them; keep the answers beside it."""
    rows = read_rows(spec.holdout)
    if not rows:
        return
    texts = [row.text for row in rows]
    labels, logits = answer(
        spec.out, texts, cache=spec.cache_folder, threads=spec.threads, proved=True, images=spec.images
    )
    sure = softmax(logits)
    document = {
        "given": [labels[place] for place in logits.argmax(axis=1)],
        "confidence": [round(float(share), 6) for share in sure.max(axis=1)],
    }
    write_atomically(spec.out / _FILE, json.dumps(document, ensure_ascii=False))


def read_proof_answers(trained: Path) -> ProofAnswers | None:
    """The answers that a training kept; None where it kept none, as those of earlier releases did."""
    try:
        return ProofAnswers.of(json.loads((trained / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None
