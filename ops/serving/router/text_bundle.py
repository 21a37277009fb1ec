"""The text side of the versions: what turns texts into tokens, and what the answers are called."""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perennial.continual.arrays import pad
from perennial.continual.errors import NotFound, PerennialError
from perennial.continual.learning.lexical import WordScores
from perennial.continual.learning.trained import HEAD_FILE

__all__ = ["TextBundle", "TextBundles", "Tokens"]

logger = logging.getLogger(__name__)

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_KEPT_BUNDLES = 8


class TextBundle:
    """The text side of a version: its tokenizer and its labels."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.labels: tuple[str, ...] = tuple(json.loads((folder / "labels.json").read_text(encoding="utf-8")))
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._words = WordScores.read(folder / HEAD_FILE)
        except Exception as exc:  # tokenizers raises bare Exception
            raise NotFound(f"version folder {folder} cannot be read ({exc}); restore it or route elsewhere") from exc

    def tokenise(self, texts: Sequence[str]) -> tuple[Tokens, Tokens]:
        """Token ids and mask (rows, longest), padded with zeros; a text without a token counts as one padding id."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        ids, mask = pad(rows, width=1)
        mask[:, 0] = 1
        return ids, mask

    def logits(self, texts: Sequence[str], of_engine: Floats) -> Floats:
        """The texts' logits, (rows, C): the engine's, and what the words add where the version reads them too."""
        if self._words is None or of_engine.shape != (len(texts), len(self.labels)):
            return of_engine
        return of_engine + self._words(texts)


class TextBundles:
    """The text sides of the versions in use, read once each; versions never change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, TextBundle] = {}
        self._lock = threading.Lock()

    def get(self, version: int) -> TextBundle:
        """One version's; read on first use.

        Raises:
            NotFound: its folder is not there or not readable.
        """
        if (held := self._held.get(version)) is not None:
            return held
        with self._lock:
            if version not in self._held:
                held = TextBundle(self._folder / str(version))
                while len(self._held) >= _KEPT_BUNDLES:
                    del self._held[next(iter(self._held))]
                self._held[version] = held
            return self._held[version]

    def prepare(self, versions: Sequence[int]) -> None:
        """Read these beforehand, in the background, so that no request waits for it."""
        if missing := [version for version in versions if version not in self._held]:
            threading.Thread(target=self._prepare, args=(missing,), name="bundles", daemon=True).start()

    def _prepare(self, versions: Sequence[int]) -> None:
        for version in versions:
            try:
                self.get(version)
            except PerennialError as exc:
                logger.warning("bundle.unreadable", extra={"version": version, "reason": str(exc)})
