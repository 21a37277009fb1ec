"""The demonstration's page: a headline, plots, the cycles and tables, one self-contained HTML file."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.ops.demo.figures import figures_of
from perennial.ops.demo.measure import Learnt, Recorded
from perennial.ops.demo.story import Learners, headline, table
from perennial.ops.demo.timeline import STEP_NAMES, CycleTimes, cycle_times

__all__ = ["write_report"]

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:32px auto;padding:0 16px;color:#222}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 0}p{margin:6px 0 14px;color:#555}
table{border-collapse:collapse;margin:8px 0 24px}.told{color:#222;font-size:17px}
td,th{padding:4px 14px 4px 0;border-bottom:1px solid #e4e4e4;text-align:left;vertical-align:top}
td:last-child,td.number{font-variant-numeric:tabular-nums}"""


def write_report(path: Path, recorded: Recorded, learnt: Learnt, summary: dict[str, Any], title: str) -> None:
    """Write the page.

    Args:
        path: where it goes.
        recorded: the stream and the loop's events.
        learnt: which requests each learner answered rightly.
        summary: the figures; see `summarise`.
        title: what the demonstration ran on.
    """
    said, told = headline(Learners(**summary["stream"]["since_change"]), natural=not recorded.wave_began)
    plots = [
        f"<h2>{html.escape(name)}</h2><p>{html.escape(caption)}</p>"
        + figure.to_html(full_html=False, include_plotlyjs=index == 0, config={"displayModeBar": False})
        for index, (name, caption, figure) in enumerate(figures_of(recorded, learnt))
    ]
    waves = "Grey dotted lines: new intents or wording begin to arrive. " if recorded.wave_began else ""
    tables = [f"<h2>{html.escape(heading)}</h2>{_table(rows)}" for heading, rows in table(summary)]
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Perennial: {html.escape(said)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(said)}</h1><p class=told>{html.escape(told)}</p>"
        f"<p>{html.escape(title)}. {waves}Blue lines: a new version takes over.</p>"
        f"{''.join(plots)}{_cycles(cycle_times(recorded.events, recorded.answered))}{''.join(tables)}</html>"
    )
    write_atomically(path, page)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


def _cycles(cycles: Sequence[CycleTimes]) -> str:
    """Each cycle with its reason, its end, and the seconds of its steps."""
    if not cycles:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("version", "why", "end", "steps", "answered anew"))
    rows = []
    for cycle in cycles:
        steps = ", ".join(f"{STEP_NAMES.get(name, name)} {seconds:.1f} s" for name, seconds in cycle.steps)
        anew = "-" if cycle.answered_anew_s is None else f"{cycle.answered_anew_s:.0f} s after the drift was confirmed"
        cells = (str(cycle.version), cycle.reason, cycle.outcome.replace("_", " "), steps, anew)
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    return f"<h2>The cycles</h2><table><tr>{heads}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
