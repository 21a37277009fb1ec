"""Rewrites as an engine's numbers, and its tokens as texts. No torch: this lives in Triton's stubs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perennial.continual.errors import NotFound
from perennial.continual.learning.generation.prompt import Prompt
from perennial.continual.tasks.generation import Rewrite
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.generation.part import TOKENIZER_FILE, GenerationPart
from perennial.exporters.generation.signature import APPROVED, GREETED, MANNER, PROMPT, STEPS, TOKENS, WRITTEN
from perennial.exporters.signature import Array

__all__ = ["Codec", "numbers", "text_of"]

_LEAST_ROOM, _SPARE = 8, 32  # tokens
_LONGER = 2  # times the reply's own tokens


class Codec:
    """A bundle's tokenizer and prompt."""

    def __init__(self, folder: Path, part: GenerationPart) -> None:
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
            self.prompt = Prompt.read(folder)
        except Exception as exc:  # tokenizers raises bare Exception
            raise NotFound(f"version folder {folder} cannot be read ({exc}); restore it or route elsewhere") from exc
        self.part = part
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, rewrites: Sequence[Rewrite], *, most: int = 512) -> Inputs:
        """One row each; one that is too long for the decoder has no prompt, and nothing is written."""
        prompts = [self.ids(self.prompt.ask(rewrite)) for rewrite in rewrites]
        steps = [self._steps(rewrite, len(prompt), most) for rewrite, prompt in zip(rewrites, prompts, strict=True)]
        asked = [prompt if room else [] for prompt, room in zip(prompts, steps, strict=True)]
        guided = self.part.guided
        return {
            PROMPT: numbers(asked),
            WRITTEN: numbers([[] for _ in rewrites]),
            APPROVED: numbers([list(rewrite.approved.encode()) if guided else [] for rewrite in rewrites]),
            GREETED: numbers([list(rewrite.name.encode()) for rewrite in rewrites]),
            MANNER: numbers([list(rewrite.tone.encode()) for rewrite in rewrites]),
            STEPS: np.array(steps, dtype=np.int64).reshape(-1, 1),
        }

    def ids(self, text: str) -> list[int]:
        """A text's tokens; those that steer a chat are read as such."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def texts(self, outputs: Outputs) -> list[str]:
        """What was written, of each row."""
        return [self.text(row[row > 0] - 1) for row in outputs[TOKENS]]

    def text(self, ids: Array) -> str:
        """What tokens say."""
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)).strip()

    def _steps(self, rewrite: Rewrite, asked: int, most: int) -> int:
        own = len(self.tokenizer.encode(rewrite.approved, add_special_tokens=False).ids)
        room = min(most, _LONGER * own + _SPARE, self.part.positions - asked)
        return room if room >= own + _LEAST_ROOM else 0


def numbers(rows: Sequence[Sequence[int]]) -> Array:
    """Ragged rows as an engine takes them: each number and one, padded with 0."""
    made = np.zeros((len(rows), max(1, *map(len, rows)) if rows else 1), dtype=np.int64)
    for place, row in enumerate(rows):
        made[place, : len(row)] = np.asarray(row, dtype=np.int64) + 1
    return made


def text_of(row: Array) -> str:
    """The text of a row of bytes.

    >>> text_of(numbers([list("Jo".encode())])[0])
    'Jo'
    """
    return bytes((row[row > 0] - 1).astype(np.uint8).tolist()).decode(errors="replace")
