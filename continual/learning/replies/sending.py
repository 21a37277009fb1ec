"""Whether a reply may be sent by itself: only while its measured precision keeps the operator's bound."""

from dataclasses import dataclass
from enum import StrEnum

from perennial.continual.errors import ConfigurationError

__all__ = ["Action", "Sending", "SendingRule", "lowest_precision"]


class Action(StrEnum):
    """What to do with an answer."""

    SEND = "send"
    SUGGEST = "suggest"
    HAND_OVER = "hand_over"


def lowest_precision(right: int, judged: int, *, confidence: float = 0.95) -> float:
    """What the share of right answers surely reaches, by answers that were judged; 0 without any.

    Source: Clopper and Pearson, Biometrika 26, 1934.

    >>> round(lowest_precision(59, 59), 3), lowest_precision(0, 0)
    (0.95, 0.0)
    """
    from scipy.stats import beta

    return 0.0 if right == 0 else float(beta.ppf(1 - confidence, right, judged - right + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingRule:
    """What the operator states. `precision` 0 never sends.

    `sure` is how probable a reply must be to be sent, `suggest` to be shown. The `last` judged answers are counted.
    """

    precision: float = 0.0
    sure: float = 0.9
    confidence: float = 0.95
    last: int = 500
    suggest: float = 0.05
    personal: bool = True

    def __post_init__(self) -> None:
        for name in ("precision", "sure", "confidence", "suggest"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must lie in [0, 1), e.g. 0.95")
        if self.last < 1:
            raise ConfigurationError(f"last is {self.last}; count at least one answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """Whether answers are sent now, and why.

    >>> Sending.of(SendingRule(precision=0.9), right=28, judged=28).on
    False
    >>> Sending.of(SendingRule(precision=0.9), right=29, judged=29).on
    True
    """

    rule: SendingRule
    right: int
    judged: int
    lowest: float

    @classmethod
    def of(cls, rule: SendingRule, *, right: int, judged: int) -> "Sending":
        """By the last answers that would have been sent and that somebody judged."""
        lowest = lowest_precision(right, judged, confidence=rule.confidence)
        return cls(rule=rule, right=right, judged=judged, lowest=lowest)

    @property
    def on(self) -> bool:
        """Whether the bound is stated and met."""
        return 0.0 < self.rule.precision <= self.lowest

    @property
    def reason(self) -> str:
        """In words."""
        if not self.rule.precision:
            return "no precision is stated; `perennial reply sending --precision 0.95` states one"
        share = f"{self.right} of the last {self.judged} judged answers that would have been sent were right"
        return f"{share}: precision is at least {self.lowest:.3f}, and {self.rule.precision} is asked for"

    def action(self, sure: float, *, known: bool, whole: bool) -> Action:
        """What to do with an answer whose best reply is so sure; `whole`: no variable of it is missing.

        A message of no known intent is never answered by itself, and gets a suggestion only where that is sure.
        """
        if sure < (self.rule.suggest if known else self.rule.sure):
            return Action.HAND_OVER
        if self.on and known and whole and sure >= self.rule.sure:
            return Action.SEND
        return Action.SUGGEST
