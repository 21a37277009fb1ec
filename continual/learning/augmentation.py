"""Light changes of wording for training rows."""

import numpy as np

__all__ = ["augment"]

_SHORTEST = 4  # words; shorter texts are left alone


def augment(text: str, rng: np.random.Generator, *, share: float = 0.1) -> str:
    """The text with about `share` of its words left out and, half of the time, two neighbours swapped.

    >>> augment("hello there", np.random.default_rng(0))
    'hello there'
    """
    words = text.split()
    if len(words) < _SHORTEST:
        return text
    kept = [word for word, chance in zip(words, rng.random(len(words)), strict=True) if chance >= share]
    if len(kept) < _SHORTEST - 1:
        return text
    if rng.random() < 0.5:
        place = int(rng.integers(len(kept) - 1))
        kept[place], kept[place + 1] = kept[place + 1], kept[place]
    return " ".join(kept)
