"""Quality over a recipe's demonstration: each answer's score beside that of the twin that never learns again."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import write_atomically
from perennial.continual.intervals import mean_interval
from perennial.ops.demo.paced import Sent

__all__ = ["Quality", "quality_summary", "write_quality_page"]

_SWAP_S = 3.0  # around a promotion
_LAST = 200  # answers in a point of the plot
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:32px auto;padding:0 16px;color:#222}
table{border-collapse:collapse}td{padding:4px 14px 4px 0;border-bottom:1px solid #e4e4e4}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a demonstration recorded, and its scores; entry i of `sent`, `scores` and `frozen` is the same question.

    `waves` are the numbers of the questions at which the world changed, `swaps` the moments at which a new version took
    over. Failed questions score 0.
    """

    measure: str  # e.g. NDCG@10
    sent: tuple[Sent, ...]
    scores: tuple[float, ...]
    frozen: tuple[float, ...]
    waves: tuple[int, ...]
    swaps: tuple[datetime, ...]


def quality_summary(quality: Quality, *, after: int, seed: int = 0) -> dict[str, Any]:
    """Figures of the stream; `after` is the question from which the last change counts as answered.

    The interval of how far the loop is ahead of its frozen twin draws whole callers.
    """
    ok = [sent for sent in quality.sent if not sent.error]
    near = {sent.number for sent in ok if any(_under_way(sent, at) for at in quality.swaps)}
    before = [i for i, sent in enumerate(quality.sent) if sent.asking.wave == 0]
    later = [i for i, sent in enumerate(quality.sent) if sent.number >= after]
    ahead = _by_caller(quality, later)
    interval = mean_interval(ahead, np.random.default_rng(seed)) if len(ahead) else None
    errors: dict[str, int] = {}
    for sent in quality.sent:
        if sent.error:
            errors[sent.error[:160]] = errors.get(sent.error[:160], 0) + 1
    return {
        "requests": len(quality.sent),
        "failed_requests": len(quality.sent) - len(ok),
        "failures": errors,
        "versions_served": sorted({sent.version for sent in ok}),
        "swaps": len(quality.swaps),
        "changes_at_request": list(quality.waves),
        "measure": quality.measure,
        "quality_before": _mean([quality.scores[i] for i in before]),
        "quality_after": _mean([quality.scores[i] for i in later]),
        "quality_after_frozen": _mean([quality.frozen[i] for i in later]),
        "requests_after": len(later),
        "quality_ahead": None if interval is None else interval.mean,
        "quality_ahead_interval": None if interval is None else [interval.low, interval.high],
        "p99_ms_steady": _p99([sent.latency_ms for sent in ok if sent.number not in near]),
        "p99_ms_swap": _p99([sent.latency_ms for sent in ok if sent.number in near]),
    }


def write_quality_page(out: Path, quality: Quality, summary: Mapping[str, Any], title: str) -> None:
    """Write `report.html`, a plot and the figures, and `summary.json`."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        height=380,
        margin={"l": 60, "r": 20, "t": 40, "b": 40},
        xaxis={"title": "request"},
        yaxis={"title": f"{quality.measure}, last {_LAST} answers", "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"},
    )
    for wave, number in enumerate(quality.waves, start=1):
        figure.add_vline(x=number, line_color="#8a8a8a", line_dash="dot", annotation_text=f"change {wave}")
    for moment in quality.swaps:
        number = max((sent.number for sent in quality.sent if sent.sent_at <= moment), default=0)
        figure.add_vline(x=number, line_color="#2f5fa8", line_width=1)
    numbers = [sent.number for sent in quality.sent]
    step = slice(20, None, 5)
    figure.add_scatter(x=numbers[step], y=_rolling(quality.frozen)[step], name="never retrained", line_color="#b0563c")
    figure.add_scatter(x=numbers[step], y=_rolling(quality.scores)[step], name="Perennial", line_color="#1f6f54")
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(json.dumps(value, default=str))}</td></tr>"
        for name, value in summary.items()
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Perennial: {html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>Grey lines: the world changes. Blue lines: a new version takes over, unattended.</p>"
        f"{figure.to_html(full_html=False, include_plotlyjs=True, config={'displayModeBar': False})}"
        f"<h2>Figures</h2><table>{rows}</table></html>"
    )
    write_atomically(out / "report.html", page)
    write_atomically(out / "summary.json", json.dumps(dict(summary), indent=1, default=str))


def _by_caller(quality: Quality, places: Sequence[int]) -> list[float]:
    """How far ahead of the twin the answers to each caller were, on average."""
    found: dict[str, list[float]] = {}
    for i in places:
        found.setdefault(quality.sent[i].asking.key, []).append(quality.scores[i] - quality.frozen[i])
    return [float(np.mean(differences)) for differences in found.values()]


def _under_way(sent: Sent, swap: datetime) -> bool:
    """Whether the request was under way in the window of a swap."""
    window = timedelta(seconds=_SWAP_S)
    return sent.sent_at - window <= swap <= sent.sent_at + timedelta(milliseconds=sent.latency_ms) + window


def _rolling(values: Sequence[float]) -> list[float]:
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    ends = np.arange(1, len(sums))
    starts = np.maximum(0, ends - _LAST)
    means: list[float] = ((sums[ends] - sums[starts]) / (ends - starts)).tolist()
    return means


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _p99(values: Sequence[float]) -> float | None:
    return float(np.percentile(values, 99)) if values else None
