"""The demonstration's page: four plots and a table, one self-contained HTML file."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import write_atomically
from perennial.ops.demo.measure import Recorded, promotions

__all__ = ["write_report"]

_LINE, _TWIN, _WAVE, _SWAP = "#1f6f54", "#b0563c", "#8a8a8a", "#2f5fa8"
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:32px auto;padding:0 16px;color:#222}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 0}p{margin:6px 0 14px;color:#555}
table{border-collapse:collapse;margin:8px 0 24px}
td{padding:4px 14px 4px 0;border-bottom:1px solid #e4e4e4;text-align:left}
td:last-child{font-variant-numeric:tabular-nums}"""


def write_report(path: Path, recorded: Recorded, twin: Sequence[str], summary: dict[str, Any], title: str) -> None:
    """Write the page.

    Args:
        path: where it goes.
        recorded: the stream and the loop's events.
        twin: the never-retrained first version's answer to each request, in the order of `recorded.answered`.
        summary: the figures for the table.
        title: what the demonstration ran on.
    """
    figures = [
        ("Accuracy over the stream", "Right answers among the last 200 requests.", _accuracy(recorded, twin)),
        (
            "Drift score",
            "The strongest signal of each window, in units of the smallest effect that matters: above 1 it counts.",
            _drift(recorded),
        ),
        ("Who answered", "The version behind each request.", _versions(recorded)),
        (
            "Latency",
            "Seen by the client; each point is the median, and the 99th percentile, of one second.",
            _latency(recorded),
        ),
    ]
    parts = [
        f"<h2>{html.escape(name)}</h2><p>{html.escape(caption)}</p>"
        + figure.to_html(full_html=False, include_plotlyjs=index == 0, config={"displayModeBar": False})
        for index, (name, caption, figure) in enumerate(figures)
    ]
    rows = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(_shown(v))}</td></tr>" for k, v in summary.items())
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Perennial: {html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>Perennial kept the model good</h1>"
        f"<p>{html.escape(title)}. Grey lines: new intents or wording begin to arrive. "
        f"Blue lines: a new version takes over.</p>"
        f"{''.join(parts)}<h2>Figures</h2><table>{rows}</table></html>"
    )
    write_atomically(path, page)


def _figure(recorded: Recorded, y_title: str) -> Any:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=330,
        margin={"l": 60, "r": 20, "t": 40, "b": 40},
        xaxis={"title": "request", "range": [0, 1.01 * max((a.number for a in recorded.answered), default=1)]},
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


def _rolling(right: Sequence[bool], width: int = 200) -> np.ndarray[Any, Any]:
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(right, dtype=np.float64))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - width)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


def _accuracy(recorded: Recorded, twin: Sequence[str]) -> Any:
    figure = _figure(recorded, "accuracy")
    numbers = [a.number for a in recorded.answered]
    step = slice(20, None, 5)
    kept = _rolling([a.answer == a.label for a in recorded.answered])
    alone = _rolling([answer == a.label for answer, a in zip(twin, recorded.answered, strict=True)])
    figure.add_scatter(x=numbers[step], y=alone[step], name="never retrained", line={"color": _TWIN, "dash": "dash"})
    figure.add_scatter(x=numbers[step], y=kept[step], name="Perennial", line={"color": _LINE, "width": 2.5})
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return figure


def _drift(recorded: Recorded) -> Any:
    from datetime import datetime

    figure = _figure(recorded, "effect / floor")
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
    figure.update_yaxes(type="log", dtick=1)
    return figure


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_shown(v) for v in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
    return str(value)
