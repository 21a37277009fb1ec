"""Stands in for the recogniser's process: it understands how long a recording is, and does as some of them say."""

import json
import os
import sys
import time


def main() -> None:
    """As `perennial.continual.speech.child` does."""
    spec = json.loads(sys.argv[1])
    if spec["name"] == "none":
        print(json.dumps({"error": "ConfigurationError", "message": "there is none"}), flush=True)
        return
    print(json.dumps({"languages": ["en"]}), flush=True)
    while head := sys.stdin.buffer.readline():
        order = json.loads(head)
        sent = sys.stdin.buffer.read(order["bytes"])
        if b"die" in sent:
            os.abort()
        if b"hang" in sent:
            time.sleep(600)
        if b"refuse" in sent:
            print(json.dumps({"error": "DataError", "message": "it is broken"}), flush=True)
            continue
        heard = {
            "text": f"{len(sent)} bytes by {os.getpid()}",
            "probability": 0.9,
            "language": order["language"] or "en",
        }
        print(json.dumps({**heard, "language_probability": None, "seconds": 1.0}), flush=True)


if __name__ == "__main__":
    main()
