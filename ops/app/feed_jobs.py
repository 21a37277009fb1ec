"""The feeds of a model as jobs: each asks the served model over the same door as everybody."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from perennial.continual.tasks.opinion import Headline
from perennial.ops.feeds.feed_state import FeedState
from perennial.ops.feeds.pump import FeedPump
from perennial.ops.parts import Parts
from perennial.ops.serving.client import PerennialClient

__all__ = ["FeedJobs"]


class FeedJobs:
    """One model's feeds, by name: what each pass does, and how often it comes."""

    def __init__(self, parts: Parts, model: str) -> None:
        self._parts, self._model, self._lock = parts, model, threading.Lock()
        self._client: PerennialClient | None = None
        state = FeedState(parts.workspace.feeds(model))
        self.passes: dict[str, tuple[Callable[[], str], float]] = {
            name: (FeedPump(name, settings, state, self._ask).run, settings.every_s)
            for name, settings in sorted(parts.workspace.model(model).feeds.items())
        }

    def _ask(self, headlines: Sequence[Headline], keys: Sequence[str]) -> Sequence[Any]:
        with self._lock:
            if self._client is None:
                self._client = PerennialClient(self._parts.controls[0].url, self._model, task="opinion")
        return self._client.predict(headlines, keys)
