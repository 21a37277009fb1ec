"""Questions to an engine that several servers hold: each goes to the next server that is there."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from perennial.continual.errors import DependencyUnreachable, NotFound
from perennial.exporters.engine import Inputs, Outputs
from perennial.ops.serving.control import TritonControl

__all__ = ["ServersInTurn"]

_AWAY_S = 15.0  # a server that is away is asked nothing for so long
_LIVE_S = 1.0


class ServersInTurn:
    """Asks servers by turns, so that what is learnt of a version holds for all of them.

    A server that is away is passed over, and so is one that does not hold the version yet. One that is there and does
    not answer is not: the version is at fault then.
    """

    def __init__(self, controls: Sequence[TritonControl], clock: Callable[[], float] = time.monotonic) -> None:
        self._controls, self._clock = tuple(controls), clock
        self._turn = 0
        self._away: dict[str, float] = {}
        self._guard = threading.Lock()

    def infer_engine(self, model: str, version: int, inputs: Inputs) -> Outputs:
        """Return the next server's outputs; see `TritonControl.infer_engine`.

        Raises:
            DependencyUnreachable: every server is away, or one is there and does not answer this.
            NotFound: no server that is there holds the version.
        """
        failed: DependencyUnreachable | NotFound | None = None
        for control in self._in_turn():
            try:
                answer = control.infer_engine(model, version, inputs)
            except DependencyUnreachable as exc:
                if len(self._controls) == 1 or control.live(_LIVE_S):
                    raise
                failed = failed or exc
                self._away[control.url] = self._clock() + _AWAY_S
            except NotFound as exc:  # started anew a moment ago: the next pass brings the version back to it
                failed = failed or exc
            else:
                self._away.pop(control.url, None)
                return answer
        raise failed or DependencyUnreachable(f"no Triton is known to ask {model} version {version} of")

    def _in_turn(self) -> Iterator[TritonControl]:
        """The next server first; those that were away lately come last."""
        with self._guard:
            start, self._turn = self._turn, (self._turn + 1) % max(1, len(self._controls))
        turned = [*self._controls[start:], *self._controls[:start]]
        now = self._clock()
        yield from sorted(turned, key=lambda control: self._away.get(control.url, 0.0) > now)
