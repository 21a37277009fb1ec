"""What an encoder wants to read before every text, as its folder says, and how its tokenizer is made to say it."""

import json
import logging
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.pooling import pools_prompt

__all__ = ["add_prompt", "read_prompt", "write_prompt"]

logger = logging.getLogger(__name__)

_FILE = "config_sentence_transformers.json"
_NAME = "default"
_TRIED = ("a", "Card lost?", "two words", "23 été 银行", "(x)")  # texts on which both ways of saying it are compared
_LONGEST = 500  # characters
_BEFORE, _BEHIND = "[before]", "[behind]"  # what stands around a text, in the tokenizer's file alone


def read_prompt(folder: Path) -> str:
    """The words that sentence-transformers would put before every text; empty where the folder names none.

    Prompts that a caller would have to choose among are left out, as sentence-transformers leaves them out.

    Raises:
        ConfigurationError: the file cannot be read, or names a prompt that it lacks, or one that is not to be pooled.
    """
    path = folder / _FILE
    if not path.is_file():
        return ""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON ({error}); save the encoder again") from error
    prompts = document.get("prompts") if isinstance(document, dict) else None
    name = document.get("default_prompt_name") if isinstance(document, dict) else None
    if name is None:
        return ""
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    if not isinstance(prompt, str) or len(prompt) > _LONGEST:
        raise ConfigurationError(
            f"{path} names the prompt {str(name)[:60]!r}, which must be a text of at most {_LONGEST} characters among "
            f"its `prompts`; add it there, or set default_prompt_name to null"
        )
    if prompt and not pools_prompt(folder):
        raise ConfigurationError(
            f"{folder} pools the tokens of a text without those of its prompt {prompt[:60]!r} (include_prompt), which "
            "cannot be served; give an encoder that counts them, or set default_prompt_name to null"
        )
    return prompt


def write_prompt(folder: Path, prompt: str) -> None:
    """Write what `read_prompt` reads; nothing where there is no prompt."""
    if prompt:
        document = {"prompts": {_NAME: prompt}, "default_prompt_name": _NAME}
        (folder / _FILE).write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def add_prompt(tokenizer: Any, prompt: str) -> None:
    """Have the tokenizer itself put the prompt before every text, so that whoever reads its file does the same.

    The prompt's tokens become part of the frame, like `[CLS]`: they are never cut off, and are no words of the text.
    Where a tokenizer joins prompt and text otherwise, as one of bytes does, the prompt is put before the characters.
    """
    from tokenizers import normalizers

    if not prompt:
        return
    wanted = [tokenizer.encode(prompt + text).ids for text in _TRIED]
    before, frame = tokenizer.post_processor, _framed(tokenizer, prompt)
    if frame is not None:
        tokenizer.post_processor = frame
        if [tokenizer.encode(text).ids for text in _TRIED] == wanted:
            return
        tokenizer.post_processor = before
    first = normalizers.Prepend(prompt)
    tokenizer.normalizer = (
        first if tokenizer.normalizer is None else normalizers.Sequence([first, tokenizer.normalizer])
    )


def _framed(tokenizer: Any, prompt: str) -> Any:
    """A post-processor that frames a text as before, with the prompt's tokens ahead of it; None if it has no frame."""
    from tokenizers import processors

    text = tokenizer.encode(_TRIED[0], add_special_tokens=False).ids
    whole, plain = tokenizer.encode(prompt + _TRIED[0]), tokenizer.encode(_TRIED[0]).ids
    start = next((at for at in range(len(plain)) if plain[at : at + len(text)] == text), None)
    if start is None or not text:
        return None
    end = len(whole.ids) - (len(plain) - start - len(text))  # behind it stands what stands behind every text
    before = {"ids": list(whole.ids[: end - len(text)]), "tokens": list(whole.tokens[: end - len(text)])}
    behind = {"ids": list(whole.ids[end:]), "tokens": list(whole.tokens[end:])}
    if not before["ids"]:
        return None
    special = [{"id": _BEFORE} | before, *([{"id": _BEHIND} | behind] if behind["ids"] else [])]
    single = " ".join([_BEFORE, "$A", *([_BEHIND] if behind["ids"] else [])])
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=special)
