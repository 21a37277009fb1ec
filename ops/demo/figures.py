"""The plots of the demonstration's page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perennial.ops.demo.measure import Learnt, Recorded, promotions
from perennial.ops.demo.timeline import STEP_NAMES, cycle_times

__all__ = ["figures_of"]

_LINE, _TWIN, _NIGHTLY, _WAVE, _SWAP = "#1f6f54", "#b0563c", "#7a5ea8", "#8a8a8a", "#2f5fa8"
_STEPS = ("#1f6f54", "#5b9e86", "#c9a227", "#2f5fa8", "#b0563c", "#7a5ea8", "#8a8a8a")
_WINDOW = 200  # requests
_TICKS_MS = (0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000)


_OF_LEARNERS = (
    f"Share of the last {_WINDOW} requests that each learner answered rightly: the same requests for all three. "
    "The twin is the first version, never retrained; the third refits word counts on every label, every night."
)
_OF_DRIFT = (
    "The strongest signal of each window of traffic, in units of the smallest effect that matters: above 1 it counts. "
    "Two windows of three confirm a drift."
)
_OF_LATENCY = "As the client saw it; each point is one second's median, and its 99th percentile."


def figures_of(recorded: Recorded, learnt: Learnt) -> list[tuple[str, str, Any]]:
    """Name, caption and figure of each plot."""
    figures = [
        ("Right answers over the stream", _OF_LEARNERS, _accuracy(recorded, learnt)),
        ("Drift", _OF_DRIFT, _drift(recorded)),
        ("Who answered", "The version behind each request.", _versions(recorded)),
        ("Latency", _OF_LATENCY, _latency(recorded)),
    ]
    if any(cycle.steps for cycle in cycle_times(recorded.events, recorded.answered)):
        figures.insert(2, ("From drift to answer", "What each step of a cycle took.", _timeline(recorded)))
    return figures


def _figure(recorded: Recorded, y_title: str) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=330,
        margin={"l": 60, "r": 20, "t": 40, "b": 40},
        xaxis={
            "title": "request",
            "range": [0, 1.01 * max((a.number for a in recorded.answered), default=1)],
            "separatethousands": True,
            "exponentformat": "none",
        },
        yaxis_title=y_title,
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    )
    for wave, number in enumerate(recorded.wave_began, start=1):
        figure.add_vline(
            x=number,
            line_color=_WAVE,
            line_dash="dot",
            annotation_text=f"wave {wave}",
            annotation_position="bottom right",
        )
    for moment in promotions(recorded):
        number = max((a.number for a in recorded.answered if a.sent_at <= moment), default=0)
        figure.add_vline(x=number, line_color=_SWAP, line_width=1)
    return figure


def _rolling(right: Sequence[bool], width: int) -> np.ndarray[Any, Any]:
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(right, dtype=np.float64))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - width)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _accuracy(recorded: Recorded, learnt: Learnt) -> Any:
    figure = _figure(recorded, "right answers")
    numbers = [a.number for a in recorded.answered]
    step = slice(min(20, len(numbers) // 2), None, 5)
    lines: tuple[tuple[str, Sequence[bool], dict[str, Any]], ...] = (
        ("never retrained", learnt.never_retrained, {"color": _TWIN, "dash": "dash"}),
        ("word counts, refitted every night", learnt.tfidf_nightly, {"color": _NIGHTLY, "dash": "dot"}),
        ("Perennial", learnt.perennial, {"color": _LINE, "width": 2.5}),
    )
    for name, right, line in lines:
        figure.add_scatter(x=numbers[step], y=_rolling(right, _WINDOW)[step], name=name, line=line)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def _drift(recorded: Recorded) -> Any:
    from datetime import datetime

    figure = _figure(recorded, "effect (1 = it matters)")
    windows = [e for e in recorded.events if e["name"] == "drift.window"]
    ends = [datetime.fromisoformat(e["facts"]["window_to"]) for e in windows]
    numbers = [max((a.number for a in recorded.answered if a.sent_at <= end), default=0) for end in ends]
    figure.add_scatter(
        x=numbers,
        y=[e["facts"]["score"] for e in windows],
        mode="lines+markers",
        name="drift score",
        line={"color": _LINE},
        text=[", ".join(e["facts"]["signals"]) or "no signal" for e in windows],
    )
    alerts = [i for i, e in enumerate(windows) if e["facts"]["alert"]]
    figure.add_scatter(
        x=[numbers[i] for i in alerts],
        y=[windows[i]["facts"]["score"] for i in alerts],
        mode="markers",
        name="alert",
        marker={"color": _TWIN, "size": 12, "symbol": "diamond"},
    )
    figure.add_hline(y=1, line_color=_WAVE, line_width=1)
    return figure


def _timeline(recorded: Recorded) -> Any:
    """A bar for each cycle, a piece for each step."""
    import plotly.graph_objects as go

    cycles = cycle_times(recorded.events, recorded.answered)
    names = [f"version {cycle.version}" for cycle in cycles]
    figure = go.Figure()
    taken = [name for name in STEP_NAMES if any(name in dict(cycle.steps) for cycle in cycles)]
    for place, name in enumerate(taken):
        seconds = [dict(cycle.steps).get(name, 0.0) for cycle in cycles]
        figure.add_bar(
            x=seconds,
            y=names,
            name=STEP_NAMES[name],
            orientation="h",
            marker_color=_STEPS[place % len(_STEPS)],
            hovertemplate=f"{STEP_NAMES[name]}: %{{x:.1f}} s<extra>%{{y}}</extra>",
        )
    figure.update_layout(
        template="plotly_white",
        barmode="stack",
        height=150 + 34 * len(cycles),
        margin={"l": 90, "r": 20, "t": 60, "b": 45},
        xaxis={"title": "seconds since the cycle was opened"},
        yaxis={"autorange": "reversed"},
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom", "traceorder": "normal"},
    )
    return figure


def _versions(recorded: Recorded) -> Any:
    figure = _figure(recorded, "version")
    ok = [a for a in recorded.answered if not a.error]
    figure.add_scatter(
        x=[a.number for a in ok],
        y=[a.version for a in ok],
        mode="markers",
        marker={"size": 3, "color": _LINE},
        name="answered",
    )
    failed = [a for a in recorded.answered if a.error]
    figure.add_scatter(
        x=[a.number for a in failed],
        y=[0 for _ in failed],
        mode="markers",
        marker={"size": 6, "color": _TWIN, "symbol": "x"},
        name="failed",
    )
    figure.update_yaxes(dtick=1)
    return figure


def _latency(recorded: Recorded) -> Any:
    figure = _figure(recorded, "milliseconds")
    seconds: dict[int, list[Any]] = {}
    for a in recorded.answered:
        if not a.error:
            seconds.setdefault(int(a.at_s), []).append(a)
    x = [rows[0].number for rows in seconds.values()]
    for q, name, colour in ((50, "median", _LINE), (99, "99th percentile", _TWIN)):
        y = [float(np.percentile([a.latency_ms for a in rows], q)) for rows in seconds.values()]
        figure.add_scatter(x=x, y=y, name=name, line={"color": colour, "width": 1.5})
    figure.update_yaxes(type="log", tickvals=_TICKS_MS, ticktext=[f"{tick:,g}" for tick in _TICKS_MS])
    return figure
