"""The panels of the recipe `opinion`: tone beside the twin's, events with phases and evidence, alerts, the budget."""

from collections.abc import Sequence
from typing import Any

from perennial.continual.events import Phase
from perennial.continual.events.plan import BAD, GOOD
from perennial.ops.demo.newsdesk import Newsdesk, SeenEvent
from perennial.ops.demo.panels import LINE, TWIN, Panel, rolling
from perennial.ops.demo.quality import Quality
from perennial.ops.store.alerts import Alert, AlertState
from perennial.ops.views.alerts import alert_view

__all__ = ["opinion_panels"]

_TRUTH, _BUDGET, _QUIET = "#8a8a8a", "#c9a227", "#b8b8b8"
_TONE = dict.fromkeys(GOOD, 1.0) | dict.fromkeys(BAD, -1.0)
_OF_TONE = 100  # headlines in a point
_EVIDENCE, _LONGEST = 3, 110
_MOST_EVENTS = 30  # in the plot and the table: the most surprising ones
_STATE = {AlertState.OPEN: "not judged", AlertState.CONFIRMED: "confirmed", AlertState.DISMISSED: "dismissed"}
_COLOUR = {AlertState.OPEN: _BUDGET, AlertState.CONFIRMED: LINE, AlertState.DISMISSED: TWIN}


def opinion_panels(desk: Newsdesk, quality: Quality, twin: Sequence[str]) -> list[Panel]:
    """All of them; what nobody can know of real headlines is left out."""
    shown = sorted(sorted(desk.events, key=lambda seen: -seen.row.event.score)[:_MOST_EVENTS], key=lambda e: e.opened)
    panels = [_tone(quality, twin)]
    if shown:
        panels += [_events(desk, shown, quality), _evidence(shown)]
    if desk.alerts:
        panels.append(_alerts(desk))
    if desk.knows_stories:
        panels.append(_budget(desk, quality))
    return panels


def _tone(quality: Quality, twin: Sequence[str]) -> Panel:
    figure = quality.plot(f"tone, last {_OF_TONE} headlines")
    figure.update_layout(yaxis={"rangemode": "normal", "zeroline": True})
    told = [each.asking.truth for each in quality.sent]
    given = ["" if each.error else each.answer.label for each in quality.sent]
    numbers = [each.number for each in quality.sent]
    step = slice(20, None, 5)
    for name, labels, colour in (
        ("as it is", told, _TRUTH),
        ("never retrained", twin, TWIN),
        ("Perennial", given, LINE),
    ):
        tone = rolling([_TONE.get(label.casefold(), 0.0) for label in labels], _OF_TONE)
        figure.add_scatter(x=numbers[step], y=tone[step], name=name, line_color=colour)
    caption = "Good news count 1, bad news -1. The grey line is what the headlines really said."
    return Panel(heading="Sentiment over time", caption=caption, figure=figure)


def _events(desk: Newsdesk, shown: Sequence[SeenEvent], quality: Quality) -> Panel:
    figure = quality.plot("")
    figure.update_layout(height=120 + 22 * len(shown), margin={"l": 210, "r": 20, "t": 40, "b": 40}, showlegend=True)
    figure.update_yaxes(autorange="reversed", rangemode="normal", type="category")
    names = [f"{event.words} ({event.row.event.name})" for event in shown]
    for event, name in zip(shown, names, strict=True):
        colour = _QUIET if event.alert is None else _COLOUR[event.alert.state]
        line = {"color": colour, "width": 5}
        figure.add_scatter(x=[event.opened, event.last], y=[name, name], mode="lines", line=line, showlegend=False)
        told = desk.told.get(event.story.name, ()) if event.story is not None else ()
        marks = {"color": _TRUTH, "size": 9, "symbol": "line-ns-open"}
        figure.add_scatter(x=list(told), y=[name] * len(told), mode="markers", marker=marks, showlegend=False)
    for heading, phase, symbol in (("new", Phase.NEW, "circle"), ("over", Phase.OVER, "x")):
        at = [
            (event.opened if phase is Phase.NEW else event.last, name)
            for event, name in zip(shown, names, strict=True)
            if phase is Phase.NEW or event.row.phase is phase
        ]
        marker = {"color": "#222", "size": 7, "symbol": symbol}
        x, y = [number for number, _ in at], [name for _, name in at]
        figure.add_scatter(x=x, y=y, mode="markers", marker=marker, name=heading)
    caption = (
        "Each line is an event: new at the dot, growing along the line, over after the cross. Green: an analyst "
        "confirmed its alert; red: dismissed; grey: it raised none. Small strokes: the headlines that told the story."
    )
    return Panel(heading="Events and their phases", caption=caption, figure=figure)


def _evidence(shown: Sequence[SeenEvent]) -> Panel:
    rows = []
    for seen in shown:
        event = seen.row.event
        latest = seen.row.headlines[::-1][:_EVIDENCE]
        told = " · ".join(f"{source or at.date().isoformat()}: {text[:_LONGEST]}" for at, source, text in latest)
        alert = "no alert" if seen.alert is None else f"alert {seen.alert.number}, {_STATE[seen.alert.state]}"
        told_by = f"{event.originals} + {event.items - event.originals} copies, {len(event.sources)} sources"
        rows.append((seen.words, seen.row.phase.value, told_by, f"{event.score:.1f}", alert, told))
    caption = f"The first {_EVIDENCE} headlines of each; a copy is no further voice."
    heads = ("event", "phase", "headlines", "surprise", "alert", "evidence")
    return Panel(heading="Events with their evidence", caption=caption, heads=heads, rows=tuple(rows))


def _alerts(desk: Newsdesk) -> Panel:
    rows = [_alert_row(alert) for alert in desk.alerts]
    caption = "The verdicts teach what is worth an alert: the risk of later events is scored by them."
    return Panel(
        heading="Alerts and verdicts",
        caption=caption,
        heads=("alert", "why", "verdict"),
        rows=tuple(rows),
    )


def _alert_row(alert: Alert) -> tuple[str, str, str]:
    return str(alert.number), alert_view(alert).hint, _STATE[alert.state]


def _budget(desk: Newsdesk, quality: Quality) -> Panel:
    figure = quality.plot("events that tell no story")
    last = max((each.number for each in quality.sent), default=1)
    allowed = desk.allowed_a_day * desk.days
    false = sorted(event.opened for event in desk.false())
    xs: list[int] = [0, *false, last]
    ys: list[Any] = [0, *range(1, len(false) + 1), len(false)]
    figure.add_scatter(x=[0, last], y=[0, allowed], name="allowed on average", line_color=_BUDGET)
    figure.add_scatter(x=xs, y=ys, name="used", line={"color": LINE, "shape": "hv"})
    caption = (
        f"{desk.allowed_a_day:g} false events a day are allowed, {allowed:.1f} in {desk.days:.1f} days of headlines; "
        f"{len(false)} were made. The limit of an event is calibrated to the budget by shuffled headlines."
    )
    return Panel(heading="The budget of false alarms", caption=caption, figure=figure)
