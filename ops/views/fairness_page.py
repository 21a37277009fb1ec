"""The part of a version's page that a lawyer reads: whom it answers worse, what disturbs it, what nobody measured."""

from collections.abc import Iterable, Iterator

from perennial.continual.fairness import AttributeSlices
from perennial.continual.intervals import Interval
from perennial.ops.making.probing import ProbedVersion
from perennial.ops.views.fairness_lines import (
    NOT_ANSWERED,
    NOT_SERVED,
    gap_told,
    limit_told,
    membership_told,
    not_measured,
    percent,
    points,
    whom,
)
from perennial.ops.views.model_report import ModelReport
from perennial.ops.views.page_parts import safe, table

__all__ = ["fairness_sections"]

_CLASSES = 12  # with most rows, of each attribute
_GROUPS = 50  # likewise
_MEANING = (
    "Each share stands with an interval in brackets. If the same were measured on other rows of the same kind, 95 of "
    "100 such intervals would hold the true share. Groups differ more than chance explains where the interval of their "
    "gap lies above 0. The widest of many gaps is wide by chance, so its interval is widened for their number."
)


def fairness_sections(report: ModelReport) -> Iterator[str]:
    """The sections; nothing where neither an attribute is declared nor anything was probed."""
    view, probed = report.fairness, report.probed
    if view is None and probed is None:
        return
    yield "<h2>Whom it answers worse</h2>"
    if view is not None and not view.answered:
        yield f"<p>{safe(NOT_ANSWERED.capitalize())}.</p>"
    elif view is not None:
        yield f"<p>{safe(_asked(report))}</p><p>{safe(_MEANING)}</p>"
        for found in view.attributes:
            yield from _attribute(found)
        for name in view.without_rows:
            yield f"<p>{safe(f'{name}: no held-out row says it, so nothing is measured.')}</p>"
        if view.limits:
            yield f"<h3>Limits of the settings</h3>{_list(map(limit_told, view.limits))}"
    if probed is not None:
        yield from _probes(probed)
    yield f"<h3>What was not measured</h3>{_list(not_measured(view, probed))}"


def _asked(report: ModelReport) -> str:
    rows = 0 if report.answers is None else report.answers.rows
    return (
        f"Measured on {rows:,} rows with a known right answer, which version {report.version} had not learnt when it "
        "answered them. The model is never told the attribute: it answers from the text alone."
    )


def _attribute(found: AttributeSlices) -> Iterator[str]:
    yield f"<h3>By {safe(found.attribute)}</h3><p>{safe(whom(found))}.</p>"
    yield table(
        ("group", "rows", "answered rightly", ""),
        (
            (each.group, each.rows, percent(each.accuracy), "" if each.compared else "too few rows to compare")
            for each in found.largest(_GROUPS)
        ),
    )
    if (left := len(found.groups) - _GROUPS) > 0:
        yield f"<p>{left:,} further groups with fewer rows are in the JSON report.</p>"
    yield _list(map(gap_told, found.gaps))
    rows = {rate.label: 0 for rate in found.rates}
    for rate in found.rates:
        rows[rate.label] += rate.rows
    shown = sorted(rows, key=lambda label: (-rows[label], label))[:_CLASSES]
    left = len(rows) - len(shown)
    yield table(
        ("class", "group", "rows", "answered with it", "wrongly answered with it", "missed"),
        (
            (
                rate.label,
                rate.group,
                rate.rows,
                percent(rate.selection_rate),
                _or_none(rate.false_positive_rate),
                _or_none(rate.false_negative_rate),
            )
            for label in shown
            for rate in found.rates
            if rate.label == label
        ),
    )
    if left > 0:
        yield f"<p>{left:,} further classes with fewer rows are in the JSON report.</p>"


def _probes(probed: ProbedVersion) -> Iterator[str]:
    yield "<h3>When somebody else seems to write</h3>"
    yield (
        f"<p>The same {probed.rows:,} held-out texts were asked again with another name, or in the wording of "
        "another group. An answer that changes turned with the person and not with the matter. Names disturb any "
        "model a little: the column before the last tells what another name of the same group changes.</p>"
    )
    yield table(
        ("probe", "group", "rows", "answers that change", "by another name of the same group", "beyond that"),
        (
            (
                group.probe,
                f"{group.group} (beside {group.beside})",
                group.rows,
                percent(group.changed),
                "" if group.floor is None else f"{100 * group.floor:.1f}%",
                "" if group.beyond is None else points(group.beyond),
            )
            for group in probed.groups
        ),
    )
    if probed.thresholds:
        yield from _thresholds(probed)
    if probed.membership is not None:
        yield f"<h3>Whether it tells what it has learnt</h3><p>{safe(membership_told(probed.membership))}.</p>"
    yield "<h3>When texts are disturbed</h3>"
    yield table(
        ("change", "rows", "accuracy before", "after", "lost", "answered as before"),
        (
            (each.told, each.rows, each.before, each.after, points(each.lost), percent(each.same))
            for each in probed.changes
        ),
    )


def _thresholds(probed: ProbedVersion) -> Iterator[str]:
    yield "<h3>What a threshold of each group's own would give</h3>"
    yield (
        "<p>People of a group would get the class from a score of their group's own on, chosen so that the rate is "
        f"equal and most rows are right. {safe(NOT_SERVED)} What is told of it was measured on rows by which the "
        "thresholds were not chosen.</p>"
    )
    yield table(
        ("rate", "group", "rows", "threshold", "rate now", "with thresholds"),
        (
            (
                f"{each.figure.replace('_', ' ')} of {each.label} by {each.attribute}",
                group.group,
                group.rows,
                group.threshold,
                f"{100 * group.now:.1f}%",
                f"{100 * group.then:.1f}%",
            )
            for each in probed.thresholds
            for group in each.groups
        ),
    )
    yield table(
        ("rate", "groups apart now", "with thresholds", "rightly decided now", "with thresholds", "lost"),
        (
            (
                f"{each.figure.replace('_', ' ')} of {each.label} by {each.attribute}",
                points(each.gap_now),
                points(each.gap_then),
                f"{100 * each.right_now:.1f}%",
                f"{100 * each.right_then:.1f}%",
                points(each.lost),
            )
            for each in probed.thresholds
        ),
    )


def _or_none(share: Interval | None) -> str:
    return "" if share is None else percent(share)


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""
