"""Finding many short byte strings in files of any size: what was erased, in the forms in which programs write text."""

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np
from numpy.typing import NDArray

__all__ = ["Needles", "written_forms"]

_CHUNK = 4 * 2**20
_WINDOW = 4  # bytes of a needle that are looked for at once
_BUCKETS = 2**20
_FACTOR = np.uint32(2_654_435_761)


def written_forms(value: str) -> set[bytes]:
    r"""The bytes as which a program may have written a text.

    UTF-8, UTF-16 of both orders, JSON with and without ASCII escapes, and HTML.

    >>> sorted(written_forms("a\u00e9b\n"))[:2]
    [b'\x00a\x00\xe9\x00b\x00\n', b'a\x00\xe9\x00b\x00\n\x00']
    """
    spelt = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], html.escape(value)}
    return {form.encode("utf-8", "surrogatepass") for form in spelt} | {
        value.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")
    }


class _Group:
    """The forms that begin alike; the shortest comes first."""

    __slots__ = ("heads", "lengths", "shortest")

    def __init__(self, shortest: int) -> None:
        self.shortest = shortest
        self.heads: set[bytes] = set()  # the first bytes of each form, as many as the shortest has
        self.lengths: set[int] = set()

    def add(self, form: bytes) -> None:
        self.heads.add(form[: self.shortest])
        self.lengths.add(len(form))


class Needles:
    """Some values in all their forms, sought together; a pass costs about a second for 40 MB, however many they are.

    >>> import io
    >>> sorted(Needles(["lost card", "nothing"]).found_in(io.BytesIO(b'{"text": "lost card"}')))
    ['lost card']
    """

    def __init__(self, values: Iterable[str], *, whole_words: Iterable[str] = ()) -> None:
        self._whole = frozenset(whole_words)
        self._forms: dict[bytes, str] = {}
        for value in (*values, *self._whole):
            self._forms |= dict.fromkeys((form for form in written_forms(value) if len(form) >= _WINDOW), value)
        self._longest = max((len(form) for form in self._forms), default=_WINDOW)
        self._by_start: dict[bytes, _Group] = {}
        for form in sorted(self._forms, key=len):
            self._by_start.setdefault(form[:_WINDOW], _Group(len(form))).add(form)
        starts = np.frombuffer(b"".join(self._by_start), dtype="<u4")
        self._table = np.zeros(_BUCKETS, dtype=bool)
        self._table[_bucket(starts)] = True

    def found_in(self, stream: IO[bytes]) -> set[str]:
        """Which values the rest of a stream holds. Memory is bounded."""
        found: set[str] = set()
        kept = b""
        while piece := stream.read(_CHUNK):
            data = kept + piece
            found |= self.found_in_bytes(data)
            kept = data[-self._longest :]
        return found

    def found_in_bytes(self, data: bytes) -> set[str]:
        """Which values the bytes hold."""
        found: set[str] = set()
        if self._forms:
            for place in self._places(data):
                group = self._by_start.get(data[place : place + _WINDOW])
                if group is not None and data[place : place + group.shortest] in group.heads:
                    candidates = (data[place : place + length] for length in group.lengths)
                    found |= {self._forms[c] for c in candidates if c in self._forms and self._stands(data, place, c)}
        return found

    def found_in_texts(self, texts: Iterable[str | None]) -> set[str]:
        """Which values are among these, or inside them."""
        found: set[str] = set()
        for batch in _joined(texts):
            found |= self.found_in_bytes(batch)
        return found

    def _places(self, data: bytes) -> Sequence[int]:
        """Where a needle may begin."""
        places: list[NDArray[np.intp]] = []
        for shift in range(_WINDOW):
            count = (len(data) - shift) // _WINDOW
            if count > 0:
                words = np.frombuffer(data, dtype="<u4", count=count, offset=shift)
                places.append(np.flatnonzero(self._table[_bucket(words)]) * _WINDOW + shift)
        found: list[int] = np.concatenate(places).tolist() if places else []
        return found

    def _stands(self, data: bytes, place: int, form: bytes) -> bool:
        """Whether a value that only counts as a whole word is one here."""
        if self._forms[form] not in self._whole:
            return True
        around = data[max(0, place - 2) : place], data[place + len(form) : place + len(form) + 2]
        return _WORD_END.search(around[0]) is None and _WORD_START.match(around[1]) is None


_WORD_END = re.compile(rb"[0-9A-Za-z]\x00?\Z")
_WORD_START = re.compile(rb"\x00?[0-9A-Za-z]")


def _bucket(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    hashed: NDArray[np.uint32] = (words * _FACTOR) >> np.uint32(12)
    return hashed


def _joined(texts: Iterable[str | None]) -> Iterator[bytes]:
    pieces: list[bytes] = []
    size = 0
    for text in texts:
        if text:
            pieces.append(text.encode("utf-8", "surrogatepass"))
            size += len(pieces[-1])
        if size > _CHUNK:
            yield b"\0".join(pieces)
            pieces, size = [], 0
    yield b"\0".join(pieces)
