"""Fairness and robustness of a version in plain sentences, for a reader who is no engineer."""

from collections.abc import Iterator

from perennial.continual.fairness import AttributeSlices, Gap
from perennial.continual.fairness.probes import ProbedGroup
from perennial.continual.fairness.thresholds import EqualThresholds
from perennial.continual.intervals import Interval
from perennial.continual.preparation import quoted
from perennial.continual.robustness import ChangedAnswers
from perennial.ops.making.probing import ProbedVersion
from perennial.ops.views.fairness import FairnessView, LimitView

__all__ = [
    "NOT_ANSWERED",
    "NOT_SERVED",
    "fairness_lines",
    "gap_told",
    "limit_told",
    "membership_told",
    "not_measured",
    "percent",
    "points",
    "probe_lines",
    "thresholds_told",
    "whom",
]

NOT_ANSWERED = "the version's answers to held-out rows were not kept, so no group of people is measured"
NOT_SERVED = (
    "The service does not answer by these thresholds. It would have to know each person's group with each request, and "
    "two people who write the same text would get different answers. Whether the law asks for that or forbids it is "
    "not told here."
)
_GROUPS = 20  # with most rows, in one line
_FIGURES = {
    "accuracy": "answered rightly",
    "selection_rate": "answered with",
    "false_positive_rate": "wrongly answered with",
    "false_negative_rate": "not answered with, though it was right:",
}


def fairness_lines(view: FairnessView | None) -> Iterator[str]:
    """Each attribute, its groups, its gaps and its limits, a sentence each."""
    if view is None:
        return
    if not view.answered:
        yield NOT_ANSWERED
    for name in view.without_rows:
        yield f"{name}: no held-out row says it, so nothing is measured; send it with labels (docs/fairness.md)"
    for found in view.attributes:
        yield whom(found)
        shown = found.largest(_GROUPS)
        groups = (f"{quoted(each.group)} {percent(each.accuracy)} of {each.rows:,}" for each in shown)
        more = f"; {left:,} further groups have fewer rows" if (left := len(found.groups) - len(shown)) else ""
        yield f"{found.attribute}, answered rightly: {'; '.join(groups)}{more}"
        yield from (f"{found.attribute}: {gap_told(gap)}" for gap in found.gaps)
        if not found.gaps:
            yield f"{found.attribute}: fewer than two groups have {view.least_rows} rows, so none are compared"
    yield from map(limit_told, view.limits)


def whom(found: AttributeSlices) -> str:
    """On how many rows an attribute's figures stand."""
    left = f"; {found.unknown:,} rows do not say it and are in no figure" if found.unknown else ""
    return f"{found.attribute}: {found.rows:,} held-out rows say it{left}"


def gap_told(gap: Gap) -> str:
    """One gap in words, with what its interval allows to be said."""
    of = "" if gap.label is None else f" {quoted(gap.label)}"
    sure = "more than chance explains" if gap.difference.low > 0.0 else "chance alone may explain it"
    return (
        f"widest gap in being {_FIGURES[gap.figure]}{of}: {quoted(gap.high_group)} above {quoted(gap.low_group)} by "
        f"{points(gap.difference)}; {sure} (of {gap.pairs:,} comparisons)"
    )


def limit_told(view: LimitView) -> str:
    """One limit of the settings and whether it is kept."""
    limit = view.limit
    of = f" of {quoted(limit.label)}" if limit.label else ""
    bound = f"at {'least' if limit.by_ratio else 'most'} {limit.bound:g}"
    measured = ""
    if view.figure is not None:
        value = view.figure.value
        measured = f": {value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"
    return f"limit on {limit.figure.replace('_', ' ')}{of} by {limit.attribute}, {bound}{measured}; {view.told}"


def probe_lines(probed: ProbedVersion | None) -> Iterator[str]:
    """What changed texts did to the answers, a sentence each."""
    if probed is None:
        return
    for change in probed.changes:
        yield _change_told(change)
    for group in probed.groups:
        yield _group_told(group)
    if probed.membership is not None:
        yield membership_told(probed.membership)
    yield from map(thresholds_told, probed.thresholds)


def _change_told(change: ChangedAnswers) -> str:
    return (
        f"{change.change} ({change.told}): accuracy {change.before:.3f} before and {change.after:.3f} after on "
        f"{change.rows:,} rows, {points(change.lost)} lost; {percent(change.same)} answered as before"
    )


def _group_told(group: ProbedGroup) -> str:
    if group.probe == "names":
        more = ""
        if group.beyond is not None and group.floor is not None:
            more = (
                f"; another name of the same group changes {100 * group.floor:.1f}%, beyond it {points(group.beyond)}"
            )
        return (
            f"names, {group.group} in place of {group.beside}: {percent(group.changed)} of {group.rows:,} answers "
            f"change{more}"
        )
    return (
        f"wording, {group.group}: {percent(group.changed)} of {group.rows:,} answers change, {points(group.lost)} lost"
    )


def membership_told(auc: Interval) -> str:
    """Whether answers give away which rows were learnt."""
    if auc.low <= 0.5:
        sure = "it tells nothing that chance does not explain"
    else:
        sure = "somebody who knows a row and its label can guess from it whether the row was learnt"
    return (
        f"membership: the right label of a learnt row is surer than that of another row in {100 * auc.mean:.1f}% of "
        f"pairs [{100 * auc.low:.1f}, {100 * auc.high:.1f}], where 50% tells nothing; {sure}"
    )


def thresholds_told(found: EqualThresholds) -> str:
    """What thresholds of each group's own would make of one rate, and what they would cost."""
    rate = found.figure.replace("_", " ")
    cuts = ", ".join(f"{each.threshold:.2f} for {quoted(each.group)}" for each in found.groups)
    return (
        f"thresholds of each group's own (by {found.attribute}, not served): the {rate} of {quoted(found.label)} would "
        f"lie {points(found.gap_then)} apart and not {points(found.gap_now)}; {100 * found.right_then:.1f}% of "
        f"{found.rows:,} rows would rightly get it or not and not {100 * found.right_now:.1f}%, {points(found.lost)} "
        f"lost; from a score of {cuts} on"
    )


def not_measured(view: FairnessView | None, probed: ProbedVersion | None) -> Iterator[str]:
    """What the figures say nothing of, so that nobody takes them for more."""
    if view is not None:
        yield (
            "People whose rows do not say the attribute, or say another value than these, are in no figure. Nothing "
            "tells whether they are treated alike."
        )
        yield (
            f"Groups of fewer than {view.least_rows} rows are shown and not compared. A gap that is not found there "
            "may still exist."
        )
        yield "Attributes were not crossed: a group by two attributes at once may fare worse than by either."
        yield (
            "Labels are taken for the truth. If people labelled one group's rows less fairly, the figures repeat that."
        )
        yield "Rows count as independent; several of one person make the intervals too narrow."
    if probed is None:
        yield "Names and wordings were not swapped, nor texts disturbed; `perennial model report --probe` does it."
    else:
        yield (
            "Probes use small lists of names and words. They show that answers turn with these; no change does not "
            "show that there is no bias."
        )
    yield "No figure here decides whether a difference is lawful; that depends on what the answers are used for."


def percent(share: Interval) -> str:
    """A share with its interval, in per cent."""
    return f"{100 * share.mean:.1f}% [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def points(difference: Interval) -> str:
    """A difference of shares with its interval, in points."""
    return f"{100 * difference.mean:.1f} points [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"
