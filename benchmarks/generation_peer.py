"""OpenVINO GenAI as a writer of tokens; run by the Python of an environment of its own.

    python generation_peer.py MODEL.gguf THREADS

Each line of standard input is `{"ids": [...], "steps": N}`. Each line of output is how many tokens were written; the
first line says that the model is ready. Nothing of Perennial is imported.
"""

import importlib
import json
import os
import sys
from typing import Any

import numpy as np

__all__ = ["main"]


def main(model: str, threads: int) -> int:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes elsewhere
    genai: Any = importlib.import_module("openvino_genai")
    openvino: Any = importlib.import_module("openvino")
    pipeline = genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads, PERFORMANCE_HINT="LATENCY")
    print("ready", file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        config = genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = asked["steps"], False, True
        made = pipeline.generate(openvino.Tensor(np.array([asked["ids"]], dtype=np.int64)), config)
        print(len(made.tokens[0]), file=answers)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
