"""The panels of a recipe's page: a heading, a caption, and a plot or a table."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from perennial.ops.demo.paced import Sent

__all__ = ["LINE", "TWIN", "Panel", "over_requests", "panel_html", "rolling"]

LINE, TWIN, _WAVE, _SWAP = "#1f6f54", "#b0563c", "#8a8a8a", "#2f5fa8"
_LAST = 200  # answers in a point of a plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Part of a page: a plotly figure, or the rows of a table under its heads, or both."""

    heading: str
    caption: str = ""
    figure: Any = None
    heads: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def over_requests(y_title: str, *, sent: Sequence[Sent], waves: Sequence[int], swaps: Sequence[datetime]) -> Any:
    """An empty plot over the numbers of the requests, with a line at each change and at each new version."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=380,
        margin={"l": 60, "r": 20, "t": 40, "b": 40},
        xaxis={"title": "request", "range": [0, 1.01 * max((each.number for each in sent), default=1)]},
        yaxis={"title": y_title, "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    )
    for wave, number in enumerate(waves, start=1):
        figure.add_vline(x=number, line_color=_WAVE, line_dash="dot", annotation_text=f"change {wave}")
    for moment in swaps:
        number = max((each.number for each in sent if each.sent_at <= moment), default=0)
        figure.add_vline(x=number, line_color=_SWAP, line_width=1)
    return figure


def rolling(values: Sequence[float], last: int = _LAST) -> list[float]:
    """The mean of each value and those before it, as many as `last` at most.

    >>> rolling([1.0, 0.0, 0.0], last=2)
    [1.0, 0.5, 0.0]
    """
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - last)
    means: list[float] = ((sums[ends] - sums[starts]) / (ends - starts)).tolist()
    return means


def panel_html(panel: Panel, *, first: bool) -> str:
    """The panel as part of a page; the first one brings the library that draws."""
    made = f"<h2>{html.escape(panel.heading)}</h2>"
    if panel.caption:
        made += f"<p>{html.escape(panel.caption)}</p>"
    if panel.figure is not None:
        made += panel.figure.to_html(full_html=False, include_plotlyjs=first, config={"displayModeBar": False})
    if panel.rows:
        heads = "".join(f"<th>{html.escape(head)}</th>" for head in panel.heads)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in panel.rows)
        made += f"<table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
    return made
