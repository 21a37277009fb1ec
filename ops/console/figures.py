"""How figures, times and texts stand on a page: aligned, rounded alike, and never able to act."""

from datetime import UTC, datetime
from urllib.parse import quote

from markupsafe import Markup

from perennial.continual.images.picture import image_file, is_image_name
from perennial.ops.console.words import CATALOGUES, said
from perennial.ops.safety.printable import printable
from perennial.ops.safety.roles import EVERY

__all__ = ["Figures"]

_NONE = "–"
_SHORT = 280  # characters of a text in a list


class Figures:
    """The figures of a page in one language, seen at one moment. `model` is the one that the page is of."""

    def __init__(self, language: str, now: datetime | None = None, *, model: str = EVERY) -> None:
        self.language, self.now, self.model = language, now or datetime.now(UTC), model

    def say(self, key: str, **values: object) -> str:
        """Return the words of a key."""
        return said(self.language, key, **values)

    def word(self, kind: str, value: object) -> str:
        """Return what a value of some kind is called, such as a state; the value itself where nothing names it."""
        return CATALOGUES[self.language].get(f"{kind}.{value}", str(value))

    def number(self, value: float | None, digits: int = 0) -> str:
        """Return a number with separators of thousands."""
        return _NONE if value is None or value != value else f"{value:,.{digits}f}"

    def percent(self, share: float | None, digits: int = 1) -> str:
        """Return a share of 1 as a percentage."""
        return _NONE if share is None or share != share else f"{100 * share:.{digits}f}%"

    def points(self, value: float | None) -> str:
        """Return percentage points with their sign."""
        return _NONE if value is None else f"{value:+.1f}".replace("-", "−")

    def figure(self, value: object) -> str:
        """Return whatever a card holds, numbers shortened."""
        if isinstance(value, bool):
            return self.say("yes" if value else "no")
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(value, float):
            whole = abs(value) < 1e15 and value == int(value)
            return f"{value:,.0f}" if whole else f"{value:.4g}"
        if value is None:
            return _NONE
        if isinstance(value, list | tuple):
            return ", ".join(self.figure(each) for each in value) or _NONE
        return self.text(str(value))

    def plain(self, value: object) -> str:
        """Return a setting as it is written."""
        if isinstance(value, bool):
            return self.figure(value)
        if value is None or value == "" or value == ():
            return _NONE
        return self.text(", ".join(map(str, value)) if isinstance(value, tuple) else str(value))

    def bound(self, low: float | None, high: float | None, digits: int = 1) -> str:
        """Return an interval of shares as percentages."""
        return "" if low is None or high is None else f"{100 * low:.{digits}f}–{100 * high:.{digits}f}"

    def milliseconds(self, value: float | None) -> str:
        """Return a duration given in milliseconds."""
        if value is None:
            return _NONE
        if value >= 10_000:
            return self.seconds(value / 1e3)
        return f"{value:,.1f} ms" if value < 10 else f"{value:,.0f} ms"

    def seconds(self, value: float | None) -> str:
        """Return a duration in the largest unit that it fills."""
        if value is None:
            return _NONE
        for size, unit in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
            if value >= 2 * size or (unit == "min" and value >= size):
                return f"{value / size:.0f} {self.say(f'unit.{unit}')}"
        return f"{value:.0f} {self.say('unit.s')}"

    def ago(self, at: datetime | str | None) -> Markup:
        """Return how long ago something was, or how long it is until then, with the time itself as its title."""
        moment = _moment(at)
        if moment is None:
            return Markup(_NONE)
        passed = (self.now - moment).total_seconds()
        key = "time.ago" if passed >= 0 else "time.in"
        told = self.say("time.now") if abs(passed) < 1 else self.say(key, time=self.seconds(abs(passed)))
        return Markup('<time datetime="{}" title="{}">{}</time>').format(moment.isoformat(), _clock(moment), told)

    def time(self, at: datetime | str | None) -> Markup:
        """Return a time in UTC, to the second."""
        moment = _moment(at)
        if moment is None:
            return Markup(_NONE)
        return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), _clock(moment))

    def text(self, text: str | None) -> str:
        """Return a text from outside with everything visible that would act."""
        return printable(text or "")

    def whole(self, text: str | None) -> Markup:
        """Return a text from outside in a box of its own direction, or the picture that it names."""
        if text and self.model != EVERY and is_image_name(text):
            source = f"/console/models/{quote(self.model)}/images/{image_file(text)}"
            return Markup('<img class="kept" src="{}" alt="{}">').format(source, self.say("image"))
        return Markup('<bdi class="quoted" dir="auto">{}</bdi>').format(printable(text or ""))

    def quoted(self, text: str | None) -> Markup:
        """Return the same for a list; what is long is cut until it is asked for."""
        shown = printable(text or "")
        if len(shown) <= _SHORT:
            return self.whole(text)
        more = self.say("text.more", count=f"{len(shown):,}")
        return Markup(
            '<details class="long"><summary><bdi class="quoted" dir="auto">{}…</bdi> '
            '<span class="more">{}</span></summary><bdi class="quoted" dir="auto">{}</bdi></details>'
        ).format(shown[:_SHORT], more, shown)


def _moment(at: datetime | str | None) -> datetime | None:
    if at is None or at == "":
        return None
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
