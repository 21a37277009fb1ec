"""An engine inside Triton: one verified bundle, batches in, logits and embeddings out."""

import json
import os
import sys

sys.path[:0] = [path for path in os.environ.get("PERENNIAL_PYTHONPATH", "").split(os.pathsep) if path not in sys.path]

from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402

from exporters.runtime import load_engine  # noqa: E402
from ops.triton.stub_log import log_through_triton  # noqa: E402


class TritonPythonModel:
    """One engine process."""

    def initialize(self, args: dict[str, str]) -> None:
        """Verify and load the version's bundle; a bundle that is refused makes the load fail with the reason."""
        log_through_triton(pb_utils.Logger)
        parameters = {k: v["string_value"] for k, v in json.loads(args["model_config"])["parameters"].items()}
        cache = parameters.get("cache_dir")
        self._engine = load_engine(
            Path(args["model_repository"]) / args["model_version"],
            threads=int(parameters.get("threads", "0")),
            cache_dir=Path(cache) if cache else None,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests as one batch, padded to the longest row, and hand each its rows."""
        ids = [pb_utils.get_input_tensor_by_name(r, "input_ids").as_numpy() for r in requests]
        masks = [pb_utils.get_input_tensor_by_name(r, "attention_mask").as_numpy() for r in requests]
        longest = max(rows.shape[1] for rows in ids)
        try:
            logits, embeddings = self._engine.infer(_padded(ids, longest), _padded(masks, longest))
        except Exception as exc:  # a stub that raises leaks shared memory in Triton
            error = pb_utils.TritonError(f"engine failed: {type(exc).__name__}: {exc}", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=error) for _ in requests]
        responses, start = [], 0
        for request, rows in zip(requests, ids, strict=True):
            end = start + len(rows)
            wanted = set(request.requested_output_names())
            tensors = (("logits", logits[start:end]), ("embedding", embeddings[start:end]))
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in tensors if name in wanted
                    ]
                )
            )
            start = end
        return responses


def _padded(parts: list[Any], longest: int) -> Any:
    """Rows of all parts, zeros on the right."""
    whole = np.zeros((sum(len(part) for part in parts), longest), dtype=np.int64)
    start = 0
    for part in parts:
        whole[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return whole
