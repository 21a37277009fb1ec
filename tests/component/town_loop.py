"""The loop of a town: it can do all that needs no server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.ledger import Fence
from perennial.ops.parts import Parts
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.event_feed import EventFeed
from tests.component.town import Town

__all__ = ["town_loop"]


@contextmanager
def town_loop(town: Town, **more: Any) -> Iterator[ModelLoop]:
    """Give the loop of a town's model, whose Triton is away."""
    repository = ModelRepository(town.workspace.repository)
    control = TritonControl("127.0.0.1:1", timeout_s=0.1)
    reconciler = Reconciler(town.ledger, town.workspace, repository, (control,))
    fence = Fence(name="loop", epoch=town.ledger.acquire_lease("loop", "test"))
    parts = Parts(
        settings=town.workspace.settings,
        workspace=town.workspace,
        ledger=town.ledger,
        repository=repository,
        controls=(control,),
        reconciler=reconciler,
    )
    try:
        yield ModelLoop(parts, "intent", EventFeed(), control.infer_engine, lambda: fence, **more)
    finally:
        control.close()
