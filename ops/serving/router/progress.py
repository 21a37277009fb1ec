"""What a router process says of itself to a probe."""

import json
from dataclasses import asdict, dataclass

from perennial.continual.errors import DataError

__all__ = ["Progress"]

_OTHERS_TURNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How one router process gets on.

    `stalled_s` is how long nothing has come out although callers, or a probe, wait. `error` is why a probe got no
    answer from `engine`, the model that the router asks; empty where it got one, or answers are on their way.
    `substituted` tells that another version answers in the champion's place.
    """

    process: int
    engine: str = ""
    error: str = ""
    substituted: bool = False
    waiting: int = 0
    at_work: int = 0
    answered: int = 0
    refused: int = 0
    expired: int = 0
    stalled_s: float = 0.0
    rows_lost: int = 0
    rows_waiting: int = 0

    def is_stalled(self, *, engine_still_s: float, limit_s: float) -> bool:
        """Whether the router gets on no more: nothing comes out of it, nor of its engine, which others may keep busy.

        An engine takes batches in turn, so that no router waits for several times the limit behind others: one that
        does hangs itself, whatever comes out of the engine.
        """
        return self.stalled_s > (limit_s if engine_still_s > limit_s else _OTHERS_TURNS * limit_s)

    def to_json(self) -> str:
        """As `read` takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Progress":
        """The record out of a probe's answer.

        Raises:
            DataError: it is none, because another version of the router answered, say.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as exc:
            raise DataError(f"the router's progress {text[:60]!r} cannot be read ({exc}); restart the server") from exc
