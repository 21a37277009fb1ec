"""The report on a ranking in plain sentences, and as one self-contained page."""

import html
from collections.abc import Iterator

from perennial.continual.intervals import Interval
from perennial.ops.safety.printable import printable
from perennial.ops.views.ranking_report import LogPanel, RankingReport

__all__ = ["ranking_report_lines", "ranking_report_page"]

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:32px auto;padding:0 16px;color:#222}
h1{font-size:26px;margin:0 0 4px}p{margin:6px 0 14px}
.verdict{font-size:18px;border-left:4px solid #1f6f54;padding-left:12px}"""


def ranking_report_lines(report: RankingReport) -> Iterator[str]:
    """The verdict and the figures, a sentence each."""
    yield report.verdict
    if (proof := report.proof) is not None:
        yield (
            f"NDCG@10 {_shown(proof.ndcg_10)}, hit rate@10 {_shown(proof.hit_rate_10)}; the most liked items: "
            f"{proof.popular_ndcg_10:.3f} and {proof.popular_hit_rate_10:.3f}; ahead of them by {_shown(proof.ahead)}"
        )
        if proof.cold_ndcg_10 is not None:
            yield (
                f"on {proof.cold_rows:,} rows what was liked was new, known by its text alone: "
                f"NDCG@10 {proof.cold_ndcg_10:.3f}, hit rate@10 {proof.cold_hit_rate_10:.3f}"
            )
        for one in proof.segments:
            yield f"segment {one.segment!r}: NDCG@10 {one.ndcg_10:.3f} on {one.rows:,} rows"
    yield f"the catalogue has {report.items:,} items, {report.cold_items:,} of which nobody had liked"
    if (shown := report.exposure) is not None:
        yield (
            f"its lists show {100 * shown.coverage:.0f}% of the catalogue (Gini {shown.gini:.2f}); "
            f"{100 * shown.popular_share:.0f}% of their places go to the most liked hundredth, "
            f"{100 * shown.unknown_share:.0f}% to items that nobody had liked"
        )
    if report.log is not None:
        yield from _log_lines(report.log)


def ranking_report_page(report: RankingReport) -> str:
    """The page; every text of a user is escaped."""
    title = _safe(f"{report.model}, version {report.version}")
    verdict, *lines = map(_safe, ranking_report_lines(report))
    items = "".join(f"<li>{line}</li>" for line in lines)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f'<h1>{title}</h1><p class="verdict">{verdict}</p><ul>{items}</ul></html>'
    )


def _log_lines(log: LogPanel) -> Iterator[str]:
    yield (
        f"in {log.rows:,} logged lists the first item was liked in {100 * log.earned:.1f}%; "
        f"this version would have put the same item first in {100 * log.agreed:.0f}%"
    )
    if log.off_policy is None and log.lent:
        yield (
            f"what it would have earned cannot be told: {log.judged:,} of these lists are later than all that it "
            f"learnt and old enough for their feedback"
        )
        return
    if log.off_policy is None:
        yield "no place was lent, so the log tells nothing of other choices (params: exploration.share above 0)"
        return
    found = log.off_policy
    yield (
        f"had it answered the {log.judged:,} lists whose outcome it had not learnt, the first item would have been "
        f"liked in (inverse propensity) "
        f"{_shown(found.inverse_propensity)}, (self-normalised) {found.self_normalised:.3f}, (doubly robust) "
        f"{_shown(found.doubly_robust)}; the rows weigh as much as {found.effective_rows:.0f}, and {log.lent:,} first "
        f"places were lent. Choices that the log could not hold count as 0 in the first"
    )


def _shown(interval: Interval) -> str:
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _safe(text: str) -> str:
    return html.escape(printable(text))
