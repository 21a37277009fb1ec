"""Whether a canary can tell anything with the traffic and the labels that come, decided before a rollout begins."""

from dataclasses import dataclass

__all__ = ["CanaryChoice"]

_SHARES = (0.05, 0.25)
_LEAST_LABELS = 30  # within the canary's limit: with so many, a loss of 20 points is turned away in 19 of 20 cases
_LEAST_REQUESTS = 20  # on the challenger's side within the limit, so that failures and slow answers show


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryChoice:
    """The shares of a canary, none where it could tell nothing within its limit, and why, in words.

    >>> CanaryChoice.by_traffic(labels_per_hour=40, requests_per_hour=2_000, limit_s=3_600, probation_s=604_800).shares
    (0.05, 0.25)
    >>> CanaryChoice.by_traffic(labels_per_hour=2, requests_per_hour=2_000, limit_s=3_600, probation_s=604_800).sentence
    'no canary: about 2 labels come within its limit of 1 h, and it needs 30 to tell anything; probation watches alone'
    """

    shares: tuple[float, ...]
    sentence: str

    @classmethod
    def by_traffic(
        cls, *, labels_per_hour: float, requests_per_hour: float, limit_s: float, probation_s: float
    ) -> "CanaryChoice":
        """What the rates of the last day say. Who wants a probation shorter than a canary's limit wants no canary."""
        hours = limit_s / 3_600
        labels, requests = labels_per_hour * hours, requests_per_hour * hours * _SHARES[0]
        if probation_s < limit_s:
            return cls.none(f"its limit of {hours:.3g} h is longer than the probation of {probation_s:.3g} s")
        if labels < _LEAST_LABELS:
            return cls.none(
                f"about {labels:.0f} labels come within its limit of {hours:.3g} h, and it needs {_LEAST_LABELS} to "
                "tell anything"
            )
        if requests < _LEAST_REQUESTS:
            return cls.none(
                f"about {requests:.0f} requests would be its own within {hours:.3g} h, and it needs {_LEAST_REQUESTS} "
                "for failures and slow answers to show"
            )
        shares = " and ".join(f"{share:.0%}" for share in _SHARES)
        return cls(
            shares=_SHARES,
            sentence=f"a canary at {shares}: about {labels:.0f} labels come within its limit of {hours:.3g} h",
        )

    @classmethod
    def none(cls, why: str) -> "CanaryChoice":
        """No canary, and why."""
        return cls(shares=(), sentence=f"no canary: {why}; probation watches alone")
