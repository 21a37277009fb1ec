"""What the worlds of recipes have in common: the served loop that they live around, and the post of their feedback."""

from perennial.ops.demo.paced import FeedbackPost
from perennial.ops.demo.served import ServedLoop
from perennial.ops.serving.bundled import BundledVersion

__all__ = ["AroundLoop"]


class AroundLoop:
    """The part of a `perennial.ops.demo.lived.World` that posts its feedback to the loop.

    Args:
        path: of the route that takes the feedback, e.g. `/v1/signals`.
        many: the field of its body that holds the rows.
        delay_s: from an answer to its feedback.
    """

    def __init__(self, path: str, *, many: str, delay_s: float) -> None:
        self._path, self._many, self._delay_s = path, many, delay_s
        self._loop: ServedLoop
        self._post: FeedbackPost
        self._model = ""

    def enter(self, loop: ServedLoop, model: str) -> None:
        """See `World`."""
        self._loop, self._model = loop, model
        self._post = FeedbackPost(loop.api, self._path, model, many=self._many, delay_s=self._delay_s)
        self._post.start()

    def leave(self) -> None:
        """See `World`."""
        self._post.stop()

    def delivered(self) -> int:
        """See `World`."""
        return self._post.delivered

    def first_version(self) -> BundledVersion:
        """Version 1, opened here: the twin that never learns again."""
        workspace = self._loop.workspace
        return BundledVersion.load(workspace.bundle(self._model, 1), cache_dir=workspace.engines(self._model))
