"""What a rollout will be able to see with the labels and the traffic of the last day, told before it begins."""

import logging
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Protocol

from perennial.continual.errors import PerennialError
from perennial.continual.rollout import CanaryChoice, Power, RolloutRules
from perennial.ops.ledger.ports import State
from perennial.ops.store.state import ROLLOUT, RolloutPower
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["foreseen"]

logger = logging.getLogger(__name__)
_DISAGREEMENT = 0.06  # of two versions one after the other, as long as none were compared
_COMPARED = 200
_DAY_HOURS = 24
_MOST_REQUESTS = 10_000  # of a day that are counted; more are enough for any canary


class ForesightLedger(State, Protocol):
    """Where the labels of the last day and the last comparison are kept."""

    def feedback_count(self, model: str, *, since: datetime | None = None) -> int:
        """How many rows of feedback came since then."""
        ...


def foreseen(ledger: ForesightLedger, workspace: Workspace, model: str) -> tuple[RolloutPower, tuple[float, ...]]:
    """The power of a rollout that would begin now, of no cycle yet, and the shares that its canary has."""
    settings, day_ago = workspace.model(model).cycle, datetime.now(UTC) - timedelta(hours=_DAY_HOURS)
    figures = ROLLOUT.read(ledger, model)
    compared = 0 if figures is None else figures.compared or 0
    power = Power.of(
        labels_per_hour=ledger.feedback_count(model, since=day_ago) / _DAY_HOURS,
        disagreement=_DISAGREEMENT
        if figures is None or compared < _COMPARED or not figures.disagreed
        else figures.disagreed / compared,
        rules=RolloutRules(margin_points=settings.margin_points, error_rate=settings.rollout_error_rate),
    )
    shares, why = settings.canary_shares, ""
    if not settings.canary_is_named:
        choice = _chosen(workspace, model, power, day_ago)
        shares, why = choice.shares, choice.sentence
    elif settings.canary == "off":
        shares = ()
    sentence = f"{power.sentence}; {why}" if why else power.sentence
    return RolloutPower(cycle=0, sentence=sentence, canary=why, **asdict(power)), shares


def _chosen(workspace: Workspace, model: str, power: Power, day_ago: datetime) -> CanaryChoice:
    """The canary that the traffic lets something be told by; a log that cannot be read keeps no cycle from opening."""
    settings = workspace.model(model).cycle
    try:
        asked = traffic_of(workspace, model).read(since=day_ago, columns=["at"], last=_MOST_REQUESTS).num_rows
    except PerennialError as exc:
        logger.warning("rollout.traffic_unread", extra={"model": model, "reason": str(exc)})
        return CanaryChoice.none(f"the traffic log cannot be read ({exc})")
    return CanaryChoice.by_traffic(
        labels_per_hour=power.labels_per_hour,
        requests_per_hour=asked / _DAY_HOURS,
        limit_s=settings.canary_limit_s,
        probation_s=settings.probation_s,
    )
