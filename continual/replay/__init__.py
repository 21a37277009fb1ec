"""Replay buffers: bounded memories of rows with their targets, one rule a file, one battery of laws for all."""

from perennial.continual.replay.class_balanced import ClassBalancedBuffer
from perennial.continual.replay.herding import HerdingBuffer
from perennial.continual.replay.make import make_buffer, restore_buffer
from perennial.continual.replay.port import BufferKind, BufferState, Offered, OfferOutcome, ReplayBuffer, row_bytes
from perennial.continual.replay.reservoir import ReservoirBuffer
from perennial.continual.replay.uncertainty import UncertaintyBuffer

__all__ = [
    "BufferKind",
    "BufferState",
    "ClassBalancedBuffer",
    "HerdingBuffer",
    "OfferOutcome",
    "Offered",
    "ReplayBuffer",
    "ReservoirBuffer",
    "UncertaintyBuffer",
    "make_buffer",
    "restore_buffer",
    "row_bytes",
]
