"""An answer that is written token by token: asked of an engine a few tokens at a time, so that it can be given up."""

import time
from collections.abc import Callable

import numpy as np

from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.codec import numbers
from perennial.exporters.generation.signature import LOGITS, STEPS, TOKENS, TOP, WRITTEN
from perennial.exporters.signature import Array

__all__ = ["write"]

_CALL_S = 1.0  # a call that takes longer is followed by a shorter one: what comes out of an engine is its pulse


def write(
    ask: Callable[[Inputs], Outputs],
    row: Inputs,
    *,
    first: int,
    most: int,
    goes_on: Callable[[], bool],
    wrote: Callable[[list[int], int], None] = lambda tokens, new: None,
) -> Outputs:
    """One row's answer, or as much of it as was written before `goes_on` said no.

    Nothing is kept between two calls but what the engine remembers of the beginning.

    Args:
        ask: gives an engine's outputs.
        row: an engine's inputs of one row, with `STEPS` for all of it.
        first: tokens of the first call.
        most: tokens of a later call.
        goes_on: asked before each call; it may raise.
        wrote: told of all tokens so far, and how many are new.
    """
    left, written, steps = int(row[STEPS][0, 0]), list[int](), first
    logits: Array | None = None
    while (left > 0 or logits is None) and goes_on():
        asked = min(left, steps)
        began = time.monotonic()
        outputs = ask({**row, WRITTEN: numbers([written]), STEPS: np.array([[asked]], dtype=np.int64)})
        took_s = max(time.monotonic() - began, 1e-6)
        logits = outputs[LOGITS] if logits is None else logits
        new = [int(token) - 1 for token in outputs[TOKENS][0] if token > 0]
        written += new
        wrote(written, len(new))
        left -= max(len(new), 1)
        if len(new) < asked:
            break
        steps = max(1, min(most, int(max(asked, 1) * _CALL_S / took_s)))
    return {TOKENS: numbers([written]), LOGITS: np.zeros((1, TOP), dtype=np.float32) if logits is None else logits}
