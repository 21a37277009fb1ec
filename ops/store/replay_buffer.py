"""A model's replay buffer out of the ledger, as the settings want it now."""

from typing import Protocol

from perennial.continual.records import Example, Split
from perennial.continual.replay import BufferState, ReplayBuffer, make_buffer, restore_buffer
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import Buffers, Examples, Routes
from perennial.ops.settings import LearningSettings
from perennial.ops.store.workspace import Workspace

__all__ = ["buffered_rows", "open_buffer"]


class BufferLedger(Buffers, Examples, Routes, Protocol):
    """Where a buffer is kept, and the rows that it is filled from."""


def open_buffer(ledger: BufferLedger, workspace: Workspace, model: str) -> ReplayBuffer[Example]:
    """The buffer as it was saved last, or an empty one; made anew when its kind or a budget was changed since.

    A buffer made anew is offered the rows of the old one and all training rows that the champion has learnt, so that
    a larger budget is filled at once. It is kept only when its caller saves it.
    """
    return _opened(ledger, workspace, model, ledger.load_buffer(model))


def buffered_rows(ledger: BufferLedger, workspace: Workspace, model: str) -> tuple[Example, ...]:
    """The rows of `open_buffer`; one that was saved as the settings want it is not rebuilt for them."""
    state = ledger.load_buffer(model)
    if state is not None and _fits(state, workspace.model(model).learning):
        return state.rows
    return _opened(ledger, workspace, model, state).rows()


def _opened(
    ledger: BufferLedger, workspace: Workspace, model: str, state: BufferState[Example] | None
) -> ReplayBuffer[Example]:
    learning, task = workspace.model(model).learning, task_named(workspace.model(model).task)
    if state is not None and _fits(state, learning):
        return restore_buffer(state, task=task)
    seed = workspace.settings.seed
    buffer = make_buffer(learning.replay_kind, learning.replay_rows, seed, learning.replay_bytes, task=task)
    if state is not None:
        for row in (*state.rows, *_learnt(ledger, model)):
            buffer.offer(row)
    return buffer


def _fits(state: BufferState[Example], learning: LearningSettings) -> bool:
    held = (state.kind.value, state.capacity, state.byte_budget)
    return held == (learning.replay_kind, learning.replay_rows, learning.replay_bytes)


def _learnt(ledger: BufferLedger, model: str) -> tuple[Example, ...]:
    route = ledger.route(model)
    if route is None:
        return ()
    fresh = {row.id for row in ledger.examples(model, split=Split.TRAIN, not_learnt_by=route.champion)}
    return tuple(row.example for row in ledger.examples(model, split=Split.TRAIN) if row.id not in fresh)
