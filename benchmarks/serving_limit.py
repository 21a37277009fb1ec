"""What the engine gives in its own process: `python -m benchmarks.serving_limit BUNDLE TEXTS ROWS SECONDS`.

Batches of so many rows as they arrive, tokenised, computed and the best label taken, one after the other.
"""

import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.serving_peers.our_engine import OurEngine

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Print one line of JSON."""
    bundle, path, rows, seconds = arguments
    texts = itertools.cycle(Path(path).read_text(encoding="utf-8").splitlines())
    engine = OurEngine(Path(bundle), None)
    count = int(rows)
    for _ in range(3):
        engine.answer(list(itertools.islice(texts, count)))
    took: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    while (start := time.perf_counter()) < began + float(seconds):
        engine.answer(list(itertools.islice(texts, count)))
        took.append(time.perf_counter() - start)
    whole = time.perf_counter() - began
    answered = len(took) * count
    print(
        json.dumps(
            {
                "rows_per_s": answered / whole,
                "p50_ms": 1000.0 * float(np.median(took)),
                "cpu_ms_a_row": 1000.0 * (time.process_time() - used) / answered,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
