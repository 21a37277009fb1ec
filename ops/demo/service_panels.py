"""The own panels of a demonstration of customer service, and its own figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from perennial.continual.intervals import wilson
from perennial.continual.learning.replies import Action
from perennial.ops.demo.paced import Sent
from perennial.ops.demo.panels import LINE, TWIN, Panel, rolling
from perennial.ops.demo.quality import Quality, mean_of

__all__ = ["ServiceStory", "service_panels"]

_LIBRARY, _GREY, _GOLD, _PURPLE, _BLUE = "#5b9e86", "#8a8a8a", "#c9a227", "#7a5ea8", "#2f5fa8"
_ACTIONS = ((Action.SEND, "sent", LINE), (Action.SUGGEST, "suggested", _GOLD), (Action.HAND_OVER, "handed over", TWIN))
_VERDICTS = {
    "accepted": LINE,
    "solved": _LIBRARY,
    "edited": _GOLD,
    "own": _BLUE,
    "handed_over": _PURPLE,
    "unsolved": TWIN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStory:
    """What happened around the answers; entry i of the last three is about question i.

    `found_3` and `frozen_3`: whether the right reply was among three, of the loop and of its frozen twin.
    `same_library`: whether version 1 with the library of that moment would have had it first.
    """

    told: tuple[tuple[datetime, str], ...]  # when the question of a verdict was asked, and the verdict
    sending: tuple[tuple[datetime, float, bool], ...]
    approved: tuple[tuple[datetime, str, int], ...]
    precision: float
    found_3: tuple[float, ...]
    frozen_3: tuple[float, ...]
    same_library: tuple[float, ...]

    def figures(self, sent: Sequence[Sent], later: Sequence[Sent]) -> Mapping[str, Any]:
        """R@3, what was sent by itself, verdicts, and what version 1 would reach with the same library."""
        first = len(sent) - len(later)
        by_itself = [each for each in sent if not each.error and each.answer.action == Action.SEND]
        right = sum(each.answer.replies[:1] == (each.asking.truth.right,) for each in by_itself)
        share = wilson(right, len(by_itself)) if by_itself else None
        new = [each for each in later if not each.error and each.asking.truth.first_time]
        return {
            "recall_3_after": mean_of(self.found_3[first:]),
            "recall_3_after_frozen": mean_of(self.frozen_3[first:]),
            "quality_after_first_version_with_the_library_of_the_moment": mean_of(self.same_library[first:]),
            "quality_after_of_questions_asked_for_the_first_time": mean_of(
                [float(each.answer.replies[:1] == (each.asking.truth.right,)) for each in new]
            ),
            "sent_by_itself": len(by_itself),
            "sent_precision": None if share is None else share.mean,
            "sent_precision_interval": None if share is None else [share.low, share.high],
            "verdicts": dict(Counter(verdict for _, verdict in self.told)),
            "replies_approved": len(self.approved),
        }


def service_panels(story: ServiceStory, quality: Quality) -> tuple[Panel, ...]:
    """Replies found beside the twins, what was done with them, verdicts, and the bound of sending."""
    return _of_replies(story, quality), _of_actions(quality), _of_verdicts(story, quality), _of_sending(story, quality)


def _of_replies(story: ServiceStory, quality: Quality) -> Panel:
    figure = quality.plot("share of the last 200 answers")
    lines = (
        ("among three, never retrained", story.frozen_3, TWIN, "dash"),
        ("first, first version with the library of the moment", story.same_library, _LIBRARY, "dot"),
        ("first, Perennial", quality.scores, LINE, "solid"),
        ("among three, Perennial", story.found_3, LINE, "dash"),
    )
    for name, values, colour, dash in lines:
        figure.add_scatter(
            x=[each.number for each in quality.sent][20::5],
            y=rolling(values)[20::5],
            name=name,
            line={"color": colour, "dash": dash},
        )
    caption = (
        "R@1 and R@3: the right reply, as it is right at that moment, is first, or among three. The dotted line has "
        "everything that people approved since, and lacks only what was retrained."
    )
    return Panel(heading="Right replies", caption=caption, figure=figure)


def _of_actions(quality: Quality) -> Panel:
    figure = quality.plot("share of the last 200 answers")
    for action, name, colour in _ACTIONS:
        done = [float(not each.error and each.answer.action == action) for each in quality.sent]
        figure.add_scatter(
            x=[each.number for each in quality.sent][20::5],
            y=rolling(done)[20::5],
            name=name,
            line={"color": colour, "width": 0.5},
            stackgroup="one",
        )
    figure.update_yaxes(range=[0, 1], tickformat=".0%")
    caption = "What the answers said to do: send the reply, suggest it to an agent, or hand the message over."
    return Panel(heading="Sent, suggested, handed over", caption=caption, figure=figure)


def _of_verdicts(story: ServiceStory, quality: Quality) -> Panel:
    figure = quality.plot("verdicts so far")
    numbers = _numbers([at for at, _ in story.told], quality.sent)
    for verdict, colour in _VERDICTS.items():
        told = np.cumsum([kind == verdict for _, kind in story.told])
        figure.add_scatter(
            x=numbers[::5],
            y=told[::5].tolist(),
            name=verdict.replace("_", " "),
            line={"color": colour, "width": 0.5},
            stackgroup="one",
        )
    caption = (
        f"What agents and customers said of the answers. The operator approved {len(story.approved)} replies that "
        "agents had written or edited."
    )
    return Panel(heading="Verdicts", caption=caption, figure=figure)


def _of_sending(story: ServiceStory, quality: Quality) -> Panel:
    figure = quality.plot("precision")
    numbers = _numbers([at for at, _, _ in story.sending], quality.sent)
    figure.add_scatter(
        x=numbers, y=[lowest for _, lowest, _ in story.sending], name="surely reached (95%)", line={"color": LINE}
    )
    on = [place for place, (_, _, sends) in enumerate(story.sending) if sends]
    figure.add_scatter(
        x=[numbers[place] for place in on],
        y=[story.sending[place][1] for place in on],
        mode="markers",
        marker={"color": _BLUE, "size": 5},
        name="replies are sent",
    )
    figure.add_hline(y=story.precision, line_color=_GREY, line_dash="dash", annotation_text="asked for")
    figure.update_yaxes(range=[0, 1.02])
    caption = (
        "Replies are sent by themselves only while the lower bound of their measured precision is above what the "
        "operator asks for. It falls when the world changes, and sending ends until new verdicts have shown enough."
    )
    return Panel(heading="The bound of sending", caption=caption, figure=figure)


def _numbers(moments: Sequence[datetime], sent: Sequence[Sent]) -> list[int]:
    """The number of the last question before each of the moments."""
    times = np.sort(np.array([each.sent_at.timestamp() for each in sent]))
    found: list[int] = np.searchsorted(times, [at.timestamp() for at in moments]).tolist()
    return found
