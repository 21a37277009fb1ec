"""`perennial.continual.speech.child SPEC`: the process that unpacks and understands what strangers send.

It reads a line of JSON, `{"bytes": ..., "language": ...}`, and so many bytes behind it; it answers with a line of
JSON. Whatever a file does to what unpacks it, this process alone is ended.
"""

import json
import os
import sys
from dataclasses import asdict
from typing import IO, Any

from perennial.continual.errors import PerennialError
from perennial.continual.speech.heard import RecogniserSpec
from perennial.continual.speech.recogniser import Recogniser
from perennial.continual.speech.sound import sound_of

__all__ = ["main"]


def main() -> None:
    """Load the recogniser, say whether that went well, and answer until nobody asks any more."""
    said, asked = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        recogniser = Recogniser.load(RecogniserSpec(**json.loads(sys.argv[1])))
    except PerennialError as exc:
        _say(said, _told(exc))
        return
    _say(said, {"languages": recogniser.languages})
    while head := asked.readline():
        order = json.loads(head)
        sent = asked.read(order["bytes"])
        if len(sent) < order["bytes"]:
            return
        try:
            heard = recogniser.hear(sound_of(sent), language=order["language"])
        except PerennialError as exc:
            _say(said, _told(exc))
            continue
        _say(said, asdict(heard))


def _told(error: PerennialError) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": str(error)}


def _say(said: IO[bytes], what: dict[str, Any]) -> None:
    said.write(json.dumps(what).encode() + b"\n")
    said.flush()


if __name__ == "__main__":
    main()
