"""A model report as one self-contained page; every text of a user is escaped."""

import html
from collections.abc import Iterable, Sequence

from perennial.ops.safety.printable import printable
from perennial.ops.views.model_report import ModelReport
from perennial.ops.views.model_report_lines import finding_lines, of_no_class

__all__ = ["model_report_page"]

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:32px auto;padding:0 16px;color:#222}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 4px}p{margin:6px 0 14px}
table{border-collapse:collapse;margin:8px 0 24px}th{text-align:left;color:#555;font-weight:600}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid #e4e4e4;vertical-align:top}
td.n{font-variant-numeric:tabular-nums;text-align:right}
.verdict{font-size:18px;border-left:4px solid #1f6f54;padding-left:12px}"""


def model_report_page(report: ModelReport) -> str:
    """The page."""
    title = f"{report.model}, version {report.version}"
    parts = [f"<h1>{_safe(title)}</h1>", f'<p class="verdict">{_safe(report.verdict)}</p>', *_figures(report)]
    items = "".join(f"<li>{_safe(line)}</li>" for line in finding_lines(report.findings))
    parts.append(f"<h2>What the rows tell</h2><ul>{items}</ul>" if items else "")
    parts.append(f"<h2>What is of none of its classes</h2><p>{_safe(of_no_class(report.open_set))}</p>")
    if report.unserved:
        rows = ((each.label, each.rows) for each in report.unserved)
        parts.append(f"<h2>Classes that it does not answer with</h2>{_table(('class', 'rows'), rows)}")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_safe(title)}</title><style>{_STYLE}</style>"
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
    yield _table(("who answers", "accuracy [95%]", "macro F1", "calibration error"), rows)
    if figures.worst:
        yield "<h2>Worst classes</h2>"
        yield _table(("class", "rows", "answered rightly"), ((w.label, w.rows, w.recall) for w in figures.worst))
    if figures.confused:
        yield "<h2>Most confused</h2>"
        pairs = ((pair.label, pair.answered, pair.rows, "\n".join(pair.examples)) for pair in figures.confused)
        yield _table(("class", "answered as", "rows", "for example"), pairs)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{_safe(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.3f}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td dir=auto>{_safe(str(value))}</td>"  # a text of Arabic reads from the right


def _safe(text: str) -> str:
    return html.escape(printable(text)).replace("\n", "<br>")
