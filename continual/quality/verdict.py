"""The sentence that says whether the model is worth its trouble."""

from collections.abc import Sequence

import numpy as np

from perennial.continual.quality.baselines import BaselineFigures

__all__ = ["plain_verdict"]

_NAMES = {
    "majority": "answering every text with the commonest class",
    "tf-idf": "word and letter counts with logistic regression (TF-IDF)",
}
_SURE = 2.0  # standard errors


def plain_verdict(right: Sequence[bool], baselines: Sequence[BaselineFigures]) -> str:
    """One sentence on the model beside the better baseline, paired row by row.

    >>> weak = BaselineFigures(name="majority", learnt=9, accuracy=0.5, macro_f1=0.3, right=(True, False) * 50)
    >>> plain_verdict((True,) * 100, [weak])
    'The model is ahead of answering every text with the commonest class: 100.0% against 50.0% of 100 held-out rows.'
    >>> print(plain_verdict((False,) * 100, [weak]))  # doctest: +ELLIPSIS
    THE BASELINE WINS: answering every text with the commonest class is right in 50.0% of 100 held-out rows, ...
    """
    best = max(baselines, key=lambda baseline: baseline.accuracy)
    ours, theirs = np.asarray(right, float), np.asarray(best.right, float)
    gap, error = float((ours - theirs).mean()), float((ours - theirs).std() / max(1, len(ours)) ** 0.5)
    model, baseline = f"{100 * ours.mean():.1f}%", f"{100 * theirs.mean():.1f}%"
    name = _NAMES.get(best.name, best.name)
    if gap < 0 and -gap > error:
        sure = "" if -gap > _SURE * error else ", though not by much more than chance"
        return (
            f"THE BASELINE WINS: {name} is right in {baseline} of {len(ours)} held-out rows, the model in "
            f"{model}{sure}. Do not rely on the model yet: look at the confused classes, add rows, or try another "
            f"learner or encoder with `perennial learn run`."
        )
    if gap <= _SURE * error:
        return (
            f"The model is level with {name}: {model} against {baseline} of {len(ours)} held-out rows, which chance "
            f"could turn around."
        )
    return f"The model is ahead of {name}: {model} against {baseline} of {len(ours)} held-out rows."
