"""How fast engines are on a model's own rows, at the sizes of batches that traffic has: they take turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perennial.continual.processor import processor_facts

__all__ = ["BESIDE", "MEASURED", "MEASURED_ON", "NEW", "processor_name", "rows_per_s", "times_faster"]

MEASURED, MEASURED_ON = "measured", "measured_on"  # of a manifest's options: rows a second, and on which processor
NEW, BESIDE = "new", "beside"  # in what was measured: the manifest's own engine, and the one that it stood beside
_SIZES = (1, 8, 32)  # rows of a batch: one caller alone, some, many
_TURNS = 5
_TURN_S = 0.1  # of one engine at one size
_WARM_S = 0.5  # a first batch compiles what is compiled by shape, and a second copy is made in the background
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

Answer = Callable[[Sequence[Any]], object]


def rows_per_s(
    engines: Mapping[str, Answer], rows: Sequence[Any], *, turn_s: float = _TURN_S
) -> dict[str, dict[str, float]]:
    """Rows a second of each engine at each size of a batch, medians of turns; batches are rows as they come."""
    for answer in engines.values():
        for size in _SIZES:
            _turn(answer, rows, size, _WARM_S / len(_SIZES), 0)
    taken: dict[str, dict[int, list[float]]] = {name: {size: [] for size in _SIZES} for name in engines}
    names = list(engines)
    for turn in range(_TURNS):
        for size in _SIZES:
            for place in range(len(names)):
                name = names[(place + turn) % len(names)]
                taken[name][size].append(_turn(engines[name], rows, size, turn_s, turn))
    return {
        name: {str(size): round(statistics.median(found), 1) for size, found in by_size.items()}
        for name, by_size in taken.items()
    }


def times_faster(new: Mapping[str, float], old: Mapping[str, float]) -> float:
    """How many times faster one engine is than another, over all sizes alike.

    >>> times_faster({"1": 20.0, "32": 100.0}, {"1": 10.0, "32": 200.0})
    1.0
    """
    return statistics.geometric_mean(new[size] / old[size] for size in new)


def processor_name() -> str:
    """The processor, by its name and what it computes with: where it is another one, other engines may be faster."""
    facts = processor_facts()
    present = set(facts.get("flags", facts.get("Features", "")).split())
    return " ".join([facts.get("model name", "unknown"), *(flag for flag in _FLAGS if flag in present)])


def _turn(answer: Answer, rows: Sequence[Any], size: int, seconds: float, start: int) -> float:
    """Rows a second in one turn, at least one batch."""
    place, done, began = start * size, 0, time.perf_counter()
    while not done or time.perf_counter() < began + seconds:
        answer([rows[(place + offset) % len(rows)] for offset in range(size)])
        place, done = place + size, done + size
    return done / (time.perf_counter() - began)
