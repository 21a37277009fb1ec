"""What a router process sends back through Triton: answers, errors, and its progress."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from perennial.exporters.contract import PROGRESS
from perennial.ops.serving.port import ServingSide
from perennial.ops.serving.router.answers import Wanted, columns
from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.router.refusal import message_for, status_of
from perennial.ops.serving.router.returned import Returned
from perennial.ops.serving.router.router import Answered

__all__ = ["Responses"]

logger = logging.getLogger(__name__)


class Responses:
    """Makes responses and sends them. Safe to share between threads.

    Args:
        triton: the module `triton_python_backend_utils`.
        side: what the answers' tensors are made by.
    """

    def __init__(self, triton: Any, side: ServingSide) -> None:
        self._triton, self._side = triton, side
        self._wanted = Wanted(side.signature)
        self.returned: Returned | None = None  # what Triton's thread gives back while it answers a batch itself

    def send(self, request: Any, make: Callable[[], Any]) -> None:
        """Send what `make` gives, or why there is none; one response that cannot be sent keeps back no other."""
        try:
            try:
                response = make()
            except Exception as exc:  # no shared memory left, say
                logger.exception("response.not_made")
                response = self.error(exc)
            if (returned := self.returned) is not None and returned.takes(request, response):
                return
            request.get_response_sender().send(response, flags=self._triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:
            logger.exception("response.not_sent")

    def answers(self, request: Any, answers: Sequence[Answered]) -> Any:
        """The outputs that the request asks for."""
        arrays = columns(self._side, answers, self._wanted.of(request.requested_output_names()))
        return self._of([self._triton.Tensor(name, array) for name, array in arrays.items()])

    def progress(self, progress: Progress) -> Any:
        """What a probe reads."""
        document = np.array([[progress.to_json().encode()]], dtype=np.object_)
        return self._of([self._triton.Tensor(PROGRESS, document)])

    def error(self, error: Exception) -> Any:
        """Why there is no answer, with the status that its kind has."""
        status = getattr(self._triton.TritonError, status_of(error))
        told = self._triton.TritonError(message_for(error), status)
        return self._triton.InferenceResponse(output_tensors=[], error=told)

    def _of(self, tensors: Sequence[Any]) -> Any:
        return self._triton.InferenceResponse(output_tensors=list(tensors))
