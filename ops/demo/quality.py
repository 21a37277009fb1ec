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
from perennial.ops.demo.panels import LINE, TWIN, Panel, over_requests, panel_html, rolling

__all__ = ["Quality", "mean_of", "quality_summary", "write_quality_page"]

_SWAP_S = 3.0  # around a promotion
_LAST = 200  # answers in a point of the plot
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:32px auto;padding:0 16px;color:#222}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 0}p{margin:6px 0 14px;color:#555}
table{border-collapse:collapse;margin:8px 0 24px}td,th{padding:4px 14px 4px 0;border-bottom:1px solid #e4e4e4;
text-align:left;vertical-align:top}"""


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

    def plot(self, y_title: str) -> Any:
        """An empty plot over the questions."""
        return over_requests(y_title, sent=self.sent, waves=self.waves, swaps=self.swaps)


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
        "quality_before": mean_of([quality.scores[i] for i in before]),
        "quality_after": mean_of([quality.scores[i] for i in later]),
        "quality_after_frozen": mean_of([quality.frozen[i] for i in later]),
        "requests_after": len(later),
        "quality_ahead": None if interval is None else interval.mean,
        "quality_ahead_interval": None if interval is None else [interval.low, interval.high],
        "p99_ms_steady": _p99([sent.latency_ms for sent in ok if sent.number not in near]),
        "p99_ms_swap": _p99([sent.latency_ms for sent in ok if sent.number in near]),
    }


def write_quality_page(
    out: Path, quality: Quality, summary: Mapping[str, Any], title: str, panels: Sequence[Panel] = ()
) -> None:
    """Write `report.html`, the plot of quality, the panels and the figures, and `summary.json`."""
    parts = [panel_html(panel, first=place == 0) for place, panel in enumerate([_of_quality(quality), *panels])]
    figures = Panel(
        heading="Figures",
        heads=("figure", "value"),
        rows=tuple((name.replace("_", " "), _written(value)) for name, value in summary.items()),
    )
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Perennial: {html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>Grey lines: the world changes. Blue lines: a new version takes over, unattended.</p>"
        f"{''.join(parts)}{panel_html(figures, first=False)}</html>"
    )
    write_atomically(out / "report.html", page)
    write_atomically(out / "summary.json", json.dumps(dict(summary), indent=1, default=str))


def _of_quality(quality: Quality) -> Panel:
    """The loop's answers beside the twin's."""
    figure = quality.plot(f"{quality.measure}, last {_LAST} answers")
    numbers = [sent.number for sent in quality.sent]
    step = slice(20, None, 5)
    for name, values, colour in (("never retrained", quality.frozen, TWIN), ("Perennial", quality.scores, LINE)):
        figure.add_scatter(x=numbers[step], y=rolling(values, _LAST)[step], name=name, line_color=colour)
    caption = "The same questions for both; the twin is the first version, which never learns again."
    return Panel(heading=f"{quality.measure} over time", caption=caption, figure=figure)


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_written, value)) or "-"
    return value if isinstance(value, str) else json.dumps(value, default=str)


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


def mean_of(values: Sequence[float]) -> float | None:
    """None where there are none."""
    return float(np.mean(values)) if values else None


def _p99(values: Sequence[float]) -> float | None:
    return float(np.percentile(values, 99)) if values else None
