"""What self-contained pages of reports are made of; every text of a user is escaped."""

import html
from collections.abc import Iterable, Sequence

from perennial.ops.safety.printable import printable

__all__ = ["STYLE", "safe", "table"]

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:32px auto;padding:0 16px;color:#222}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 4px}h3{font-size:15px;margin:20px 0 2px}
p{margin:6px 0 14px}li{margin:4px 0}
table{border-collapse:collapse;margin:8px 0 24px}th{text-align:left;color:#555;font-weight:600}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid #e4e4e4;vertical-align:top}
td.n{font-variant-numeric:tabular-nums;text-align:right}
.verdict{font-size:18px;border-left:4px solid #1f6f54;padding-left:12px}"""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers stand on the right, with three decimals."""
    head = "".join(f"<th>{safe(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def safe(text: str) -> str:
    """A text as a page may hold it."""
    return html.escape(printable(text)).replace("\n", "<br>")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.3f}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td dir=auto>{safe(str(value))}</td>"  # a text of Arabic reads from the right
