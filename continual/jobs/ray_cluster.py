"""A Ray cluster on whose workers jobs can be done, and the command that has one done there."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version

from perennial.continual.errors import ConfigurationError

__all__ = ["RayCluster", "RayOrder", "own_release"]

_MODULE = "perennial.continual.jobs.ray_job"


def own_release() -> str:
    """The release of this package that is installed here."""
    try:
        return version("perennial-serving")
    except PackageNotFoundError:  # a checkout on the path
        return "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """A cluster whose workers see the same files by the same paths, and have the same version of this package.

    >>> RayCluster(address="10.0.0.5:6379").gpus
    0.0

    Raises:
        ConfigurationError: there is no address, or a number is below 0.
    """

    address: str  # HOST:PORT on a node of the cluster, ray://HOST:PORT from outside
    cpus: float = 1.0  # that a job keeps on its worker
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not self.address or self.cpus < 0 or self.gpus < 0:
            raise ConfigurationError(
                f"a Ray cluster at {self.address!r} whose jobs keep {self.cpus:g} processors and {self.gpus:g} GPUs: "
                "give an address such as HOST:6379, and numbers of at least 0"
            )

    def command(self, module: str, arguments: Iterable[str], *, niceness: int, named: Iterable[str]) -> list[str]:
        """The module and arguments that have a job done on a worker; `named` variables of the process go with it."""
        order = RayOrder(cluster=self, module=module, arguments=tuple(arguments), niceness=niceness, named=tuple(named))
        return [_MODULE, order.to_json()]


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOrder:
    """A job that a worker is to do.

    >>> order = RayOrder(cluster=RayCluster(address="auto"), module="m", arguments=("a",), niceness=0, named=())
    >>> RayOrder.from_json(order.to_json()) == order
    True
    """

    cluster: RayCluster
    module: str
    arguments: tuple[str, ...]
    niceness: int
    named: tuple[str, ...]  # variables of the environment
    release: str = field(default_factory=own_release)  # that the worker must have

    def to_json(self) -> str:
        """One argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "RayOrder":
        """The order that `to_json` wrote."""
        facts = json.loads(text)
        cluster = RayCluster(**facts.pop("cluster"))
        arguments, named = (tuple(facts.pop(name)) for name in ("arguments", "named"))
        return cls(cluster=cluster, arguments=arguments, named=named, **facts)
