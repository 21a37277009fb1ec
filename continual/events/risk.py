"""How much an event is worth an analyst's time, learnt from what analysts said of earlier ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from perennial.continual.events.event import Event

__all__ = ["RiskFacts", "RiskModel", "facts_of"]

_STEPS = 25  # of Newton; a handful is enough


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskFacts:
    """What the score is made of, each about from 0 to 3.

    Args:
        tone_change: how far the event's tone is from the usual one, in standard errors of its headlines, over 2.
        volume: the surprise at its headlines over the limit of an event, less 1.
        novelty: 1 where nothing like it came before, 0 where just that did.
        sources: the logarithm of how many sources tell of it.
        bad_news: how much worse than usual its tone is.
    """

    tone_change: float
    volume: float
    novelty: float
    sources: float
    bad_news: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskModel:
    """A logistic score of the facts. `prior` weights stand for `strength` judgements until analysts say otherwise."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: {
            "tone_change": 0.8,
            "volume": 1.0,
            "novelty": 0.6,
            "sources": 0.8,
            "bad_news": 0.5,
        }
    )
    bias: float = -1.5
    strength: float = 4.0

    def score(self, facts: RiskFacts) -> float:
        """The chance that an analyst would confirm it.

        >>> calm = RiskFacts(tone_change=0, volume=0, novelty=0, sources=0, bad_news=0)
        >>> round(RiskModel().score(calm), 3)
        0.182
        """
        known = asdict(facts)
        logit = self.bias + sum(weight * known[name] for name, weight in self.weights.items())
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))

    def learnt(self, judged: Sequence[tuple[RiskFacts, bool]]) -> "RiskModel":
        """The model after analysts confirmed (True) or dismissed events: the likeliest weights near these.

        Order does not matter, and a judgement that is taken back is as if it had never been.
        """
        if not judged:
            return self
        names = sorted(self.weights)
        prior = np.array([self.bias, *(self.weights[name] for name in names)])
        rows = np.array([[1.0, *(asdict(facts)[name] for name in names)] for facts, _ in judged])
        right = np.array([float(confirmed) for _, confirmed in judged])
        weights = prior.copy()
        for _ in range(_STEPS):
            chance = 1.0 / (1.0 + np.exp(-np.clip(rows @ weights, -50.0, 50.0)))
            slope = rows.T @ (right - chance) - self.strength * (weights - prior)
            curve = (rows * (chance * (1.0 - chance))[:, None]).T @ rows + self.strength * np.eye(len(weights))
            weights = weights + np.linalg.solve(curve, slope)
        return RiskModel(
            weights=dict(zip(names, map(float, weights[1:]), strict=True)),
            bias=float(weights[0]),
            strength=self.strength,
        )


def facts_of(event: Event, *, limit: float) -> RiskFacts:
    """What an event's risk is told by; `limit` is the surprise from which headlines are an event."""
    tone = event.tone / max(1, event.originals)
    change = (tone - event.usual_tone) * math.sqrt(event.originals) / max(event.usual_spread, 0.1)
    return RiskFacts(
        tone_change=min(3.0, abs(change) / 2),
        volume=min(3.0, max(0.0, event.score / limit - 1.0)),
        novelty=event.novelty,
        sources=min(3.0, math.log(max(1, len(event.sources)))),
        bad_news=min(2.0, max(0.0, event.usual_tone - tone)),
    )
