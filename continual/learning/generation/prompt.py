"""How a decoder is asked for a rewrite: one text with places for the reply and the manners, and the ids that end it."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.tasks.generation import Rewrite

__all__ = ["PROMPT_FILE", "Prompt"]

PROMPT_FILE = "prompt.json"
_REPLY, _MANNERS = "\u2983reply\u2984", "\u2983manners\u2984"
_ASKED = (
    "Rewrite this reply to a customer. Keep its sentences, and every fact, number, link and name in it. "
    f"Add no other fact and no promise.{_MANNERS} Answer with the rewritten reply alone.\n\n{_REPLY}"
)
_WITHOUT_CHAT = f"{_ASKED}\n\nRewritten reply:\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The text, and the token ids after which nothing more is written.

    >>> Prompt.of(None, ends=(2,)).ask(Rewrite(approved="It costs $5.", tone="warm")).endswith("Rewritten reply:\\n")
    True
    """

    text: str
    ends: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, *, ends: tuple[int, ...]) -> "Prompt":
        """The prompt of a decoder whose tokenizer (of transformers) may know how a chat is written."""
        if tokenizer is None or not getattr(tokenizer, "chat_template", None):
            return cls(text=_WITHOUT_CHAT, ends=ends)
        chat = [{"role": "user", "content": _ASKED}]
        return cls(text=tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True), ends=ends)

    def ask(self, rewrite: Rewrite) -> str:
        """The text for one reply."""
        manners = ""
        if rewrite.tone:
            manners += f" Its tone is {rewrite.tone}."
        if rewrite.name:
            manners += f" Begin by greeting {rewrite.name}."
        told = {_MANNERS: manners, _REPLY: rewrite.approved}  # at once, so that no text can name another's place
        return re.sub(f"{_MANNERS}|{_REPLY}", lambda place: told[place[0]], self.text)

    def write(self, folder: Path) -> None:
        """Put `prompt.json` into the folder."""
        write_atomically(folder / PROMPT_FILE, json.dumps(asdict(self), ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Prompt":
        """What `write` left.

        Raises:
            DataError: there is none.
        """
        path = folder / PROMPT_FILE
        try:
            raw = json.loads(path.read_bytes())
            text, ends = str(raw["text"]), tuple(int(each) for each in raw["ends"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise DataError(f"{path} is no prompt ({error}); make the version again") from error
        if text.count(_REPLY) != 1:
            raise DataError(f"{path} has {text.count(_REPLY)} places for the reply; it must have one")
        return cls(text=text, ends=ends)
