"""BentoML with adaptive batching: starts its own server on the service below."""

import json
import os
import sys
from pathlib import Path

import bentoml

from benchmarks.serving_peers.our_engine import OurEngine

_PLACE = "SERVING_PEER_BUNDLE"


@bentoml.service(workers=1, traffic={"timeout": 60})  # type: ignore[untyped-decorator,unused-ignore]
class Intent:
    """The bundle's engine."""

    def __init__(self) -> None:
        bundle, cache = json.loads(os.environ[_PLACE])
        self._engine = OurEngine(Path(bundle), Path(cache))

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=2_000)  # type: ignore[untyped-decorator,unused-ignore]
    def predict(self, texts: list[str]) -> list[str]:
        return [label for label, _ in self._engine.answer(texts)]


if __name__ == "__main__":
    from benchmarks.serving_peers.placed import placed

    given = placed()
    os.environ[_PLACE] = json.dumps([str(given.bundle), str(given.cache)])
    command = str(Path(sys.executable).with_name("bentoml"))
    service = "benchmarks.serving_peers.bentoml_engine:Intent"
    os.execv(command, [command, "serve", service, "--port", str(given.port), "--host", "127.0.0.1"])
