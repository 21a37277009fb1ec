"""MLServer in one process with adaptive batching: writes its two settings files, and starts it."""

import json
import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.serving_peers.our_engine import OurEngine

_PLACE = "SERVING_PEER_BUNDLE"


class Intent(MLModel):  # type: ignore[misc,unused-ignore]
    """The bundle's engine behind the KServe protocol."""

    async def load(self) -> bool:
        bundle, cache = json.loads(os.environ[_PLACE])
        self._engine = OurEngine(Path(bundle), Path(cache))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        texts = StringCodec.decode_input(payload.inputs[0])
        answers = self._engine.answer(texts)
        label = StringCodec.encode_output("LABEL", [label for label, _ in answers])
        return InferenceResponse(model_name=self.name, outputs=[label])


def _main() -> None:
    from benchmarks.serving_peers.placed import placed

    given = placed()
    folder = Path("mlserver").resolve()
    folder.mkdir(exist_ok=True)
    ports = {"http_port": given.port, "grpc_port": given.grpc_port, "metrics_port": given.port + 1}
    server = {**ports, "parallel_workers": 0, "host": "127.0.0.1", "debug": False}
    model = {
        "name": "intent",
        "implementation": "benchmarks.serving_peers.mlserver_engine.Intent",
        "max_batch_size": 64,
        "max_batch_time": 0.002,
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    os.environ[_PLACE] = json.dumps([str(given.bundle), str(given.cache)])
    command = str(Path(sys.executable).with_name("mlserver"))
    os.execv(command, [command, "start", str(folder)])


if __name__ == "__main__":
    _main()
