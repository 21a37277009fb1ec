"""How the tokens of a text become one embedding: by their mean, the first one or the last, as the folder says."""

import json
import logging
from enum import StrEnum
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError

__all__ = ["Pooling", "pool", "pools_prompt", "read_pooling", "write_pooling"]

logger = logging.getLogger(__name__)

_FOLDER, _FLAG = "1_Pooling", "pooling_mode_"
_OWN = "pooling.json"  # ours: the files of a bundle lie at most one folder deep
_FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}  # what the older files call them


class Pooling(StrEnum):
    """Which tokens make the embedding, under the names that sentence-transformers gives them."""

    MEAN = "mean"
    CLS = "cls"
    LAST = "lasttoken"


def pool(hidden: Any, mask: Any, pooling: Pooling = Pooling.MEAN) -> Any:
    """One vector of length 1 a row out of the tokens that the mask keeps: (batch, tokens, d) -> (batch, d).

    A row without any token becomes zeros by mean and by last token. Tokens are padded on the right.
    """
    import torch
    from torch.nn.functional import normalize

    if pooling is Pooling.CLS:
        return normalize(hidden[:, 0], dim=-1)
    if pooling is Pooling.LAST:  # 1 at the last token, 0 elsewhere: a product, which every compiler knows
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (places == mask.sum(1, keepdim=True) - 1).unsqueeze(-1).to(hidden.dtype)  # (batch, tokens, 1)
        return normalize((hidden * last).sum(1), dim=-1)
    weight = mask.unsqueeze(-1).to(hidden.dtype)  # (batch, tokens, 1)
    mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
    return normalize(mean, dim=-1)


def read_pooling(folder: Path) -> Pooling:
    """What the folder's own files say, in our layout or sentence-transformers'; the mean where they say nothing.

    Raises:
        ConfigurationError: they ask for a pooling that isn't among those known, or cannot be read.
    """
    own = folder / _OWN
    place = own if own.is_file() else _pooling_folder(folder) / "config.json"
    if not place.is_file():
        return Pooling.MEAN
    document = _read(place)
    if not isinstance(document, dict):
        raise ConfigurationError(f"{place} is {type(document).__name__}; it must be an object with the pooling's name")
    named = document.get("pooling_mode")
    flags = sorted(_name(flag) for flag, value in document.items() if flag.startswith(_FLAG) and value is True)
    wanted = [named] if isinstance(named, str) else flags
    try:
        return Pooling(" and ".join(wanted) if wanted else Pooling.MEAN)
    except ValueError:
        known = ", ".join(Pooling)
        raise ConfigurationError(
            f"{place} asks for pooling by {' and '.join(wanted)}; known is one of {known}. "
            "Give an encoder that is pooled by one of them"
        ) from None


def pools_prompt(folder: Path) -> bool:
    """Whether the tokens of a prompt count in the embedding; they do unless the folder says otherwise."""
    place = _pooling_folder(folder) / "config.json"
    document = _read(place) if place.is_file() else {}
    return not isinstance(document, dict) or document.get("include_prompt") is not False


def write_pooling(folder: Path, pooling: Pooling) -> None:
    """Write what `read_pooling` reads; nothing for the mean, which needs no words."""
    if pooling is not Pooling.MEAN:
        (folder / _OWN).write_text(json.dumps({"pooling_mode": pooling.value}) + "\n", encoding="utf-8")


def _pooling_folder(folder: Path) -> Path:
    """The folder of the module that pools; modules that come after it are not used, and that is told."""
    listed = folder / "modules.json"
    modules = _read(listed) if listed.is_file() else []
    entries = [entry for entry in modules if isinstance(entry, dict)] if isinstance(modules, list) else []
    kinds = {str(entry.get("type", "")).rsplit(".", 1)[-1]: str(entry.get("path", "")) for entry in entries}
    if left := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
        logger.warning("encoder.modules_left_out", extra={"folder": str(folder), "modules": left})
    path = folder / kinds.get("Pooling", _FOLDER)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(f"{listed} names the pooling folder {path}, outside {folder}; keep it inside")
    return path


def _name(flag: str) -> str:
    bare = flag.removeprefix(_FLAG)
    plain = bare.removesuffix("_tokens").removesuffix("_token")
    return next((name for name, known in _FLAGS.items() if known == bare), plain)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not JSON ({error}); save the encoder again") from error
