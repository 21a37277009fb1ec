"""Embeddings that were paid for once: on disk, by text and encoder, so that a killed or repeated job goes on."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import write_atomically
from perennial.continual.learning.encoder import Embedder, Progress

__all__ = ["EmbeddingCache", "cache_files", "texts_held"]

_KEY_BYTES = 16
_PIECE_BYTES = 16 * 2**20


class EmbeddingCache:
    """An append-only file of (hash of text, embedding) records for one encoder.

    Texts themselves are not in it. A record torn by a kill is cut off when the file is next opened or written; writers
    take a lock for each append, so jobs may share it. 1.6 kB a text at d = 384.

    >>> import tempfile, numpy as np
    >>> cache = EmbeddingCache(Path(tempfile.mkdtemp()), encoder="sha256:1", max_length=32, dimension=2)
    >>> cache.embed(["a", "b", "a"], lambda texts: np.ones((len(texts), 2), np.float32)).shape, len(cache)
    ((3, 2), 2)
    """

    def __init__(self, folder: Path, *, encoder: str, max_length: int, dimension: int) -> None:
        identity = hashlib.blake2b(f"{encoder}/{max_length}/{dimension}".encode(), digest_size=12).hexdigest()
        self.path = folder / f"{identity}.embeddings"
        self.dimension = dimension
        self._record = np.dtype([("key", f"V{_KEY_BYTES}"), ("x", "<f4", (dimension,))])
        folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[bytes, NDArray[np.float32]] = {}
        self._read()

    def __len__(self) -> int:
        return len(self._rows)

    def embed(
        self,
        texts: Sequence[str],
        embedder: Embedder,
        *,
        chunk: int = 256,
        progress: Progress | None = None,
        between: Callable[[], None] | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings (texts, d) in order; only texts not seen before go to `embedder`, `chunk` at a time.

        `between` is called after each chunk has reached the disk; what it raises ends the work without loss.
        """
        missing = [text for text in dict.fromkeys(texts) if _key(text) not in self._rows]
        missing.sort(key=len)  # texts of like length share a batch
        for start in range(0, len(missing), chunk):
            part = missing[start : start + chunk]
            self._append(part, embedder(part))
            if progress is not None:
                progress(min(start + chunk, len(missing)), len(missing))
            if between is not None:
                between()
        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        return np.stack([self._rows[_key(text)] for text in texts])

    def holds(self, text: str) -> bool:
        """Whether a text's embedding is there."""
        return _key(text) in self._rows

    def remember(self, texts: Sequence[str], embeddings: NDArray[np.float16] | NDArray[np.float32]) -> int:
        """Keep embeddings that another run of the same encoder made; texts known already stay as they are.

        Returns how many were new. `embeddings` is (texts, d).
        """
        new = {text: place for place, text in enumerate(texts) if _key(text) not in self._rows}
        if new:
            self._append(list(new), np.asarray(embeddings, dtype=np.float32)[list(new.values())])
        return len(new)

    def erase(self, texts: Iterable[str]) -> int:
        """Forgets texts, in the file too, and returns how many were in it."""
        gone = {_key(text) for text in texts} & self._rows.keys()
        if gone:
            for key in gone:
                del self._rows[key]
            write_atomically(self.path, self._records(self._rows.items()))
        return len(gone)

    def _read(self) -> None:
        if not self.path.exists():
            return
        size = self._record.itemsize
        with self.path.open("rb+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            content = stream.read()
            whole = len(content) - len(content) % size
            if whole != len(content):
                stream.truncate(whole)
        records = np.frombuffer(content[:whole], dtype=self._record)
        self._rows.update(zip((bytes(key) for key in records["key"]), records["x"], strict=True))

    def _append(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        rows = [(_key(text), row.astype(np.float32)) for text, row in zip(texts, embeddings, strict=True)]
        with self.path.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            end = stream.seek(0, os.SEEK_END)
            stream.truncate(end - end % self._record.itemsize)
            stream.write(self._records(rows))
            stream.flush()
        self._rows.update(rows)

    def _records(self, rows: Iterable[tuple[bytes, NDArray[np.float32]]]) -> bytes:
        return b"".join(key + row.astype("<f4").tobytes() for key, row in rows)


def cache_files(folder: Path) -> tuple[Path, ...]:
    """Every cache below a folder, whoever filled it; what a killed rewriting left behind is among them."""
    return tuple(sorted(path for path in folder.rglob("*.embeddings*") if path.is_file()))


def texts_held(path: Path, texts: Iterable[str]) -> set[str]:
    """Which of the texts a cache file has records of, of whatever encoder and dimension; it is only read.

    Raises:
        OSError: it cannot be read.
    """
    by_key = {_key(text): text for text in texts}
    heads = np.unique(np.frombuffer(b"".join(key[:4] for key in by_key), dtype="<u4"))
    known_texts: set[str] = set()
    kept = b""
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            content = kept + piece
            words = np.frombuffer(content, dtype="<u4", count=len(content) // 4)  # records are made of whole words
            for place in (np.flatnonzero(np.isin(words, heads)) * 4).tolist():
                key = content[place : place + _KEY_BYTES]
                if key in by_key:
                    known_texts.add(by_key[key])
            kept = content[max(0, len(words) * 4 - _KEY_BYTES) :]
    return known_texts


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
