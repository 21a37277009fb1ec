"""What self-contained pages of reports are made of; every text of a user is escaped."""

import html
from collections.abc import Iterable, Sequence

from perennial.ops.safety.printable import printable

__all__ = ["STYLE", "safe", "table"]

_SHORT = 24
STYLE = """:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:32px auto;padding:0 16px;overflow-wrap:anywhere;
background:light-dark(#fff,#16191c);color:light-dark(#222,#dfe3e6)}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:28px 0 4px}h3{font-size:15px;margin:20px 0 2px}
p{margin:6px 0 14px}li{margin:4px 0}
.wide{overflow-x:auto;margin:8px 0 24px}table{border-collapse:collapse;overflow-wrap:normal}
th{text-align:left;color:light-dark(#555,#a9b1b7);font-weight:600;vertical-align:bottom}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid light-dark(#e4e4e4,#343a40)}td{vertical-align:top}
td.n{font-variant-numeric:tabular-nums;text-align:right}td.short{white-space:nowrap}
td:not(.short,.n){min-width:9em}
.verdict{font-size:18px;border-left:4px solid light-dark(#1f6f54,#4fb28c);padding-left:12px}"""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, which is moved aside where the window is narrow; numbers stand on the right, with three decimals."""
    head = "".join(f"<th>{safe(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide" tabindex=0><table><tr>{head}</tr>{body}</table></div>'


def safe(text: str) -> str:
    """A text as a page may hold it."""
    return html.escape(printable(text)).replace("\n", "<br>")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f'<td class="n">{value:.3f}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    text = str(value)
    kind = ' class="short"' if len(text) <= _SHORT else ""  # a share with its interval stays in one line
    return f"<td dir=auto{kind}>{safe(text)}</td>"  # a text of Arabic reads from the right
