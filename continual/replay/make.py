"""A buffer by the name of its kind."""

from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.replay.class_balanced import ClassBalancedBuffer
from perennial.continual.replay.herding import HerdingBuffer
from perennial.continual.replay.port import BufferKind, BufferState, R, ReplayBuffer
from perennial.continual.replay.reservoir import ReservoirBuffer
from perennial.continual.replay.uncertainty import UncertaintyBuffer
from perennial.continual.task import AnyTask

__all__ = ["make_buffer", "restore_buffer"]

_Buffer = ClassBalancedBuffer[Any] | HerdingBuffer[Any] | ReservoirBuffer[Any] | UncertaintyBuffer[Any]
_KINDS: dict[BufferKind, type[_Buffer]] = {
    BufferKind.CLASS_BALANCED: ClassBalancedBuffer,
    BufferKind.HERDING: HerdingBuffer,
    BufferKind.RESERVOIR: ReservoirBuffer,
    BufferKind.UNCERTAINTY: UncertaintyBuffer,
}


def make_buffer(
    kind: BufferKind | str = BufferKind.CLASS_BALANCED,
    capacity: int = 770,
    seed: int = 0,
    byte_budget: int | None = None,
    *,
    task: AnyTask | None = None,
) -> ReplayBuffer[Any]:
    """Return an empty buffer for rows of a task.

    >>> make_buffer("reservoir", 10).name
    'reservoir'

    Raises:
        ConfigurationError: the kind is unknown, or a number is out of range.
    """
    return _KINDS[_known(kind)](capacity=capacity, seed=seed, byte_budget=byte_budget, task=task)


def restore_buffer(state: BufferState[R], *, task: AnyTask | None = None) -> ReplayBuffer[R]:
    """Return the buffer of a task's rows that `state` was taken from.

    Raises:
        DataError: the state is not whole.
    """
    return _KINDS[_known(state.kind)].restore(state, task=task)


def _known(kind: BufferKind | str) -> BufferKind:
    try:
        return BufferKind(kind)
    except ValueError as exc:
        raise ConfigurationError(f"replay buffer kind {kind!r} is unknown; use one of {sorted(BufferKind)}") from exc
