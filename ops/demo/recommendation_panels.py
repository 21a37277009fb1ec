"""The panels of the recipe `recommendation`: what was wanted and shown, of new items too, and the last lists."""

from collections.abc import Mapping, Sequence
from typing import Any

from perennial.ops.demo.paced import Sent
from perennial.ops.demo.panels import LINE, TWIN, Panel, rolling
from perennial.ops.demo.quality import Quality

__all__ = ["recommendation_panels"]

_LAST = 200  # lists in a point
_WANTED = "#c9a227"
_BECAUSE = "because of "  # before an item's id
_LISTS, _PLACES, _LONGEST = 6, 5, 44  # in the table: lists, places of each, characters of an item


def recommendation_panels(
    quality: Quality, twin: Sequence[Sequence[str]], new: frozenset[str], texts: Mapping[str, str]
) -> list[Panel]:
    """All of them; `twin` are the lists of the first version, `new` the items that came later."""
    shown = [() if each.error else tuple(each.answer.items) for each in quality.sent]
    panels = [_hits(quality, shown, twin), _coverage(quality, shown, twin)]
    if new:
        panels.append(_new(quality, shown, twin, new))
    return [*panels, _lists(quality, twin, new, texts)]


def _hits(quality: Quality, shown: Sequence[Sequence[str]], twin: Sequence[Sequence[str]]) -> Panel:
    figure = quality.plot(f"share of the last {_LAST} lists")
    for name, lists, colour in (("never retrained", twin, TWIN), ("Perennial", shown, LINE)):
        held = [float(bool(set(items) & _wanted(each))) for items, each in zip(lists, quality.sent, strict=True)]
        _line(figure, quality, name, held, colour)
    caption = "Whether a list held anything of what its user liked next, at any of its places."
    return Panel(heading="Lists that held what was wanted", caption=caption, figure=figure)


def _coverage(quality: Quality, shown: Sequence[Sequence[str]], twin: Sequence[Sequence[str]]) -> Panel:
    figure = quality.plot(f"different items in the last {_LAST} lists")
    step = range(20, len(quality.sent), 20)
    for name, lists, colour in (("never retrained", twin, TWIN), ("Perennial", shown, LINE)):
        counts = [len({item for items in lists[max(0, end - _LAST) : end] for item in items}) for end in step]
        figure.add_scatter(x=[quality.sent[end].number for end in step], y=counts, name=name, line_color=colour)
    caption = "How much of the catalogue is shown: a list of the same few items for everybody would lie at ten."
    return Panel(heading="Different items shown", caption=caption, figure=figure)


def _new(quality: Quality, shown: Sequence[Sequence[str]], twin: Sequence[Sequence[str]], new: frozenset[str]) -> Panel:
    figure = quality.plot(f"share of new items, last {_LAST} lists")
    wanted = [_share(_wanted(each), new) for each in quality.sent]
    for name, values, colour in (
        ("in what was wanted", wanted, _WANTED),
        ("in lists, never retrained", [_share(items, new) for items in twin], TWIN),
        ("in lists, Perennial", [_share(items, new) for items in shown], LINE),
    ):
        _line(figure, quality, name, values, colour)
    caption = f"{len(new)} items came after the first version had learnt. Lists have them once a version knows them."
    return Panel(heading="New items", caption=caption, figure=figure)


def _lists(quality: Quality, twin: Sequence[Sequence[str]], new: frozenset[str], texts: Mapping[str, str]) -> Panel:
    """The last lists of different users that held something wanted, else simply the last ones."""
    places = [place for place, each in enumerate(quality.sent) if not each.error]
    good = [place for place in places if set(quality.sent[place].answer.items) & _wanted(quality.sent[place])]
    last: dict[str, int] = {}
    for place in reversed(good or places):
        last.setdefault(quality.sent[place].asking.key, place)
    rows = []
    for user, place in list(last.items())[:_LISTS]:
        each = quality.sent[place]
        wanted = _wanted(each)
        items = list(zip(each.answer.items, each.answer.reasons, strict=True))[:_PLACES]
        told = " · ".join(_place(item, wanted, new, texts) + f" ({_said(reason, texts)})" for item, reason in items)
        before = " · ".join(_place(item, wanted, new, texts) for item in twin[place][:_PLACES])
        rows.append((user, str(each.version), told, before))
    caption = "An asterisk: the user liked it next. A plus: it is new. In brackets: the reason that the answer gave."
    heads = ("user", "version", f"the first {_PLACES} of the list", "of the first version's")
    return Panel(heading="The last lists", caption=caption, heads=heads, rows=tuple(rows))


def _line(figure: Any, quality: Quality, name: str, values: Sequence[float], colour: str) -> None:
    numbers = [each.number for each in quality.sent]
    figure.add_scatter(x=numbers[20::5], y=rolling(values, _LAST)[20::5], name=name, line_color=colour)


def _wanted(sent: Sent) -> frozenset[str]:
    return frozenset(sent.asking.truth.items)


def _share(items: Sequence[str] | frozenset[str], new: frozenset[str]) -> float:
    return sum(item in new for item in items) / len(items) if items else 0.0


def _place(item: str, wanted: frozenset[str], new: frozenset[str], texts: Mapping[str, str]) -> str:
    return f"{_cut(texts.get(item) or item)}{'*' * (item in wanted)}{'+' * (item in new)}"


def _said(reason: str, texts: Mapping[str, str]) -> str:
    """The reason with the text of the item that it names, and not its id."""
    words, because, item = reason.partition(_BECAUSE)
    return _cut(f"{words}{because}{texts.get(item) or item}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
