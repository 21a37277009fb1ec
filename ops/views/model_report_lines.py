"""A model report in plain sentences: for a terminal, and for the top of a page."""

from collections.abc import Iterable, Iterator, Sequence

from perennial.continual.preparation import quoted
from perennial.continual.quality import RowFindings, SmallClass
from perennial.ops.views.model_report import ModelReport, OpenSetView, PrivacyView

__all__ = ["finding_lines", "of_no_class", "privacy_told", "report_lines"]

_LISTED = 5
_TEXT = 100  # characters of a text that is quoted
_ROUGH = 100  # held-out rows, below which a point of accuracy is one row


def finding_lines(findings: RowFindings) -> Iterator[str]:
    """What was found in the rows, a sentence each; nothing where there is nothing to see to."""
    if findings.scripts:
        shares = ", ".join(f"{100 * share:.0f}% {script}" for script, share in findings.scripts.items())
        counts = f"{findings.rows:,} rows, {findings.different:,} of them different, {findings.labels:,} labels"
        yield f"{counts}; letters: {shares}"
    if findings.too_small_count:
        yield (
            f"{_classes(findings.too_small_count)} too few rows to be learnt: {_counted(findings.too_small)}"
            f"{_more(findings.too_small_count)}; add rows, or begin with `perennial learn describe`"
        )
    for twins in findings.twins[:_LISTED]:
        yield (
            f"labels {quoted(twins.label)} ({_of_rows(twins.rows)}) and {quoted(twins.like)} "
            f"({_of_rows(twins.like_rows)}) look alike; if they are one class, give them one name"
        )
    if findings.contradiction_count:
        first = findings.contradictions[0]
        labels = " and ".join(quoted(label) for label in (first.kept, *first.dropped))
        yield (
            f"{_texts(findings.contradiction_count)} with more than one label, and the last one counts: "
            f"{quoted(first.text, most=_TEXT)} as {labels}"
        )
    if findings.leak_count:
        leak = findings.leaks[0]
        yield (
            f"{findings.leak_count:,} of {findings.held_out:,} held-out rows repeat a training row but for signs "
            f"and digits, so that the figures flatter: {quoted(leak.held_out, most=_TEXT)} and "
            f"{quoted(leak.train, most=_TEXT)}"
        )
    if findings.held_out < _ROUGH:
        yield f"only {findings.held_out} rows are held out for proof; figures on so few are rough"


def report_lines(report: ModelReport) -> Iterator[str]:
    """The verdict, the figures and what to look at, a sentence each."""
    yield report.verdict
    figures = report.answers
    if figures is not None:
        yield (
            f"held-out accuracy {100 * figures.accuracy:.1f}% [{100 * figures.low:.1f}, {100 * figures.high:.1f}] of "
            f"{figures.rows:,} rows, macro F1 {figures.macro_f1:.3f}, calibration error {figures.calibration_error:.3f}"
        )
        for baseline in report.baselines:
            yield f"baseline {baseline.name}: {100 * baseline.accuracy:.1f}%, macro F1 {baseline.macro_f1:.3f}"
        if figures.worst:
            worst = (f"{quoted(each.label)} {100 * each.recall:.0f}% of {each.rows}" for each in figures.worst)
            yield f"worst classes: {', '.join(worst)}"
        for pair in figures.confused:
            texts = "; ".join(quoted(text, most=_TEXT) for text in pair.examples)
            often = "once" if pair.rows == 1 else f"{pair.rows} times"
            yield f"{quoted(pair.label)} answered as {quoted(pair.answered)} {often}, e.g. {texts}"
    yield of_no_class(report.open_set)
    yield privacy_told(report.privacy)
    if report.unserved:
        yield (
            f"{_classes(len(report.unserved))} rows but no answer in this version: {_counted(report.unserved)}"
            f"{_more(len(report.unserved))}"
        )


def of_no_class(told: OpenSetView | None) -> str:
    """What `KNOWN` promises of the version, in a sentence."""
    if told is None:
        return "KNOWN is true for every text: nothing tells what is of none of the classes (docs/learning.md says why)"
    sentence = (
        f"KNOWN is false for at most {100 * told.false_refusals:.0f}% of the texts of its classes, by {told.rows:,} "
        "held-out rows"
    )
    if told.new_class_recall is None:
        return sentence
    return f"{sentence}; had their class been missing, it would be false for {100 * told.new_class_recall:.0f}% of them"


def privacy_told(view: PrivacyView | None) -> str:
    """What the answers may tell of a row that was learnt, in a sentence."""
    if view is None:
        return "privacy: it was learnt without noise, and nothing bounds what its answers tell of a row"
    limit = "" if view.budget is None else f" of a budget of {view.budget:g}"
    return (
        f"privacy: noise on {view.by} bounds what its answers tell of a row; it told of {view.told} with epsilon "
        f"{view.epsilon:g}, and all versions together have spent epsilon {view.epsilon_spent:.3g}{limit} at delta "
        f"{view.delta:g} (docs/privacy.md)"
    )


def _classes(count: int) -> str:
    return "1 class has" if count == 1 else f"{count:,} classes have"


def _counted(classes: Sequence[SmallClass]) -> str:
    return ", ".join(_each(classes[:_LISTED]))


def _each(classes: Iterable[SmallClass]) -> Iterator[str]:
    for each in classes:
        yield f"{quoted(each.label)} ({_of_rows(each.rows)})"


def _of_rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _texts(count: int) -> str:
    return "1 text comes" if count == 1 else f"{count:,} texts come"


def _more(count: int) -> str:
    return f" and {count - _LISTED:,} more" if count > _LISTED else ""
