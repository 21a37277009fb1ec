"""A model report as one self-contained page; every text of a user is escaped."""

from collections.abc import Iterable, Sequence

from perennial.ops.views.fairness_page import fairness_sections
from perennial.ops.views.model_report import ModelReport
from perennial.ops.views.model_report_lines import finding_lines, of_no_class, privacy_told
from perennial.ops.views.page_parts import STYLE, safe, table

__all__ = ["model_report_page"]


def model_report_page(report: ModelReport) -> str:
    """The page."""
    title = f"{report.model}, version {report.version}"
    parts = [f"<h1>{safe(title)}</h1>", f'<p class="verdict">{safe(report.verdict)}</p>', *_figures(report)]
    items = "".join(f"<li>{safe(line)}</li>" for line in finding_lines(report.findings))
    parts.append(f"<h2>What the rows tell</h2><ul>{items}</ul>" if items else "")
    parts.append(f"<h2>What is of none of its classes</h2><p>{safe(of_no_class(report.open_set))}</p>")
    parts.append(f"<h2>What it may tell of a row</h2><p>{safe(privacy_told(report.privacy))}.</p>")
    if report.unserved:
        rows = ((each.label, each.rows) for each in report.unserved)
        parts.append(f"<h2>Classes that it does not answer with</h2>{table(('class', 'rows'), rows)}")
    parts += fairness_sections(report)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width'><title>{safe(title)}</title><style>{STYLE}</style>"
        f"{''.join(parts)}</html>"
    )


def _figures(report: ModelReport) -> Iterable[str]:
    figures = report.answers
    if figures is None:
        return
    interval = f"{figures.accuracy:.3f} [{figures.low:.3f}, {figures.high:.3f}]"
    rows: list[Sequence[object]] = [("this version", interval, figures.macro_f1, figures.calibration_error)]
    rows += [(each.name, each.accuracy, each.macro_f1, "") for each in report.baselines]
    yield f"<h2>On {figures.rows:,} held-out rows</h2>"
    yield table(("who answers", "accuracy [95%]", "macro F1", "calibration error"), rows)
    if figures.worst:
        yield "<h2>Worst classes</h2>"
        yield table(("class", "rows", "answered rightly"), ((w.label, w.rows, w.recall) for w in figures.worst))
    if figures.confused:
        yield "<h2>Most confused</h2>"
        pairs = ((pair.label, pair.answered, pair.rows, "\n".join(pair.examples)) for pair in figures.confused)
        yield table(("class", "answered as", "rows", "for example"), pairs)
