"""What drifted in a window, in words, and whether a retraining would be worth it; takes about a second."""

from dataclasses import dataclass

from perennial.continual.drift.explain import Explanation
from perennial.continual.errors import PerennialError
from perennial.ops.ledger import DriftReportRow, Ledger
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.watching.mixes import mix_history
from perennial.ops.watching.trigger import Trigger
from perennial.ops.watching.windows import explained

__all__ = ["WindowExplained", "window_explained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowExplained:
    """The explanation of a window, or why there is none; the mix of its answers, and the worth of a retraining."""

    explanation: Explanation | None
    missing: str
    mix: str
    learning: str | None


def window_explained(
    ledger: Ledger, workspace: Workspace, traffic: TrafficLog, model: str, row: DriftReportRow
) -> WindowExplained:
    """Return what is known of a window; requests that were pruned or erased are said to be missing."""
    explanation, missing = None, ""
    try:
        explanation = explained(ledger, workspace, traffic, row)
    except PerennialError as exc:
        missing = str(exc)
    opening = Trigger(ledger, workspace, model).opening()
    return WindowExplained(
        explanation=explanation,
        missing=missing,
        mix=mix_history(ledger, row).sentence,
        learning=None if opening is None else opening.sentence,
    )
