"""Charts as figures of geometry, drawn by the templates as inline SVG; each also says its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Bar", "Span", "bars", "path", "span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar, in the chart's own units, with the value that it stands for."""

    x: float
    y: float
    width: float
    height: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An interval on a line, with the value inside it."""

    low: float
    value: float
    high: float


def bars(counts: Sequence[float], width: float, height: float) -> tuple[Bar, ...]:
    """Return a bar for each count, the highest as high as the chart.

    >>> [(bar.x, bar.height) for bar in bars([1, 2], 10, 8)]
    [(0.0, 4.0), (5.0, 8.0)]
    """
    most, step = max((*counts, 1)), width / max(1, len(counts))
    heights = [height * count / most for count in counts]
    return tuple(
        Bar(
            x=round(step * place, 2),
            y=round(height - tall, 2),
            width=round(step * 0.72, 2),
            height=round(tall, 2),
            value=value,
        )
        for place, (tall, value) in enumerate(zip(heights, counts, strict=True))
    )


def span(low: float, value: float, high: float, width: float) -> Span:
    """Return an interval of shares on a line of this width.

    >>> span(0.5, 0.75, 1.0, 100)
    Span(low=50.0, value=75.0, high=100.0)
    """
    cut = [round(width * min(1.0, max(0.0, share)), 2) for share in (low, value, high)]
    return Span(low=cut[0], value=cut[1], high=cut[2])


def path(values: Sequence[float | None], width: float, height: float, *, top: float) -> str:
    """Return the line through values, from left to right, as the data of an SVG path; it breaks where one is missing.

    >>> path([0, 1, None, 0.5], 30, 10, top=1)
    'M0.0 10.0L10.0 0.0M30.0 5.0'
    """
    step, drawn, pen = width / max(1, len(values) - 1), "", "M"
    for place, value in enumerate(values):
        if value is None:
            pen = "M"
            continue
        drawn += f"{pen}{round(step * place, 2)} {round(height * (1 - min(1.0, max(0.0, value / top))), 2)}"
        pen = "L"
    return drawn
