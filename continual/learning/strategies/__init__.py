"""Ways of learning new classes without losing old ones, one file each."""

from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.strategies.cumulative import Cumulative
from perennial.continual.learning.strategies.derpp import DarkReplay
from perennial.continual.learning.strategies.ewc import ElasticWeights
from perennial.continual.learning.strategies.lwf import WithoutForgetting
from perennial.continual.learning.strategies.naive import Naive
from perennial.continual.learning.strategies.port import Batch, Strategy
from perennial.continual.learning.strategies.replay import Replay

__all__ = [
    "STRATEGIES",
    "Batch",
    "Cumulative",
    "DarkReplay",
    "ElasticWeights",
    "Naive",
    "Replay",
    "Strategy",
    "WithoutForgetting",
    "make_strategy",
]

STRATEGIES: dict[str, type[Strategy]] = {
    "cumulative": Cumulative,
    "der++": DarkReplay,
    "ewc": ElasticWeights,
    "lwf": WithoutForgetting,
    "naive": Naive,
    "replay": Replay,
}


def make_strategy(name: str, settings: dict[str, Any] | None = None) -> Strategy:
    """The named strategy with its settings.

    Raises:
        ConfigurationError: the name or a setting is not known.

    >>> make_strategy("der++", {"alpha": 0.1}).name
    'der++'
    """
    if name not in STRATEGIES:
        raise ConfigurationError(f"strategy {name!r} is not known; use one of {sorted(STRATEGIES)}")
    try:
        return STRATEGIES[name](**settings or {})
    except TypeError as error:
        raise ConfigurationError(f"strategy {name!r} with settings {settings}: {error}") from error
