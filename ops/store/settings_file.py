"""`perennial.toml` as a text: begun, and given another model's section, with everything else left as it is written."""

import errno
import fcntl
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from perennial.continual.atomic_file import write_atomically, written_whole
from perennial.continual.errors import ConfigurationError, Refused
from perennial.continual.tasks import DEFAULT_TASK
from perennial.continual.text_file import SavedText

__all__ = ["add_model", "begin_settings", "name_from", "named_models", "remove_model"]

_HEAD = """# Settings of this workspace; every value can also be given as PERENNIAL_SECTION__NAME.
# state = "var"
# repository = "model_repository"

[triton]
grpc_port = 8001
http_port = 8000
metrics_port = 8002
# http = false                  # gRPC alone
# http_hosts = ["models.example"]   # names by which clients may call the HTTP port beside localhost
# http_body_bytes = 67108864    # most bytes of a request over HTTP

[api]
port = 8080
# hosts = ["models.example"]    # names that callers may use beside localhost, e.g. a proxy's

# [api.tokens]                  # `perennial token new --role operator` prints a token, and the line for here
"""
_MODEL = """{task}
[models.{model}.learning]
encoder = "auto"   # packaged:minilm or packaged:e5, as the rows want it; or any Hugging Face name or folder
replay_rows = 770

[models.{model}.policy]
kind = "any"
policies = [{{ kind = "drift" }}, {{ kind = "gain" }}, {{ kind = "feedback_count", at_least = 1000 }}]
limits = {{ cooldown_s = 600.0, min_feedback = 100, budget_per_day = 24 }}
"""
_TASK = """
[models.{model}]
task = "{task}"
"""
_PACKED = {".gz", ".zst", ".zip"}
_TABLE = re.compile(r"^[ \t]*\[+[^\]\n]*\]+[ \t]*(#.*)?\r?$", re.MULTILINE)


def begin_settings(path: Path) -> bool:
    """Write a commented file that names no model yet, and tell whether there was none: two may begin at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if path.exists():
            return False
        write_atomically(path, _HEAD)
        return True


def named_models(path: Path) -> tuple[str, ...]:
    """Return the models that the file itself names; none where there is no file.

    Raises:
        ConfigurationError: it is no TOML, or in no encoding of Unicode.
    """
    return tuple(_models(path, _read(path).text))


def add_model(path: Path, name: str, *, task: str = DEFAULT_TASK, section: str = "") -> bool:
    """Add a model's section at the end, and tell whether there was none yet; the usual task is not named.

    `section` is used in place of the usual one. It is appended in one piece: a running `perennial serve` sees the file
    as it was, or with all of the section.

    Raises:
        ConfigurationError: the file cannot be read, or names its models in a way that nothing can be added to.
    """
    with _alone(path):
        saved = _read(path)
        text = saved.text
        if name in _models(path, text):
            return False
        section = ("" if text.endswith("\n") or not text else "\n") + (section or _section(name, task))
        try:
            tomllib.loads(text + section)
        except tomllib.TOMLDecodeError as exc:
            raise ConfigurationError(
                f"{path} cannot be given [models.{name}] at its end, because it names its models in one line; add the "
                f"section by hand"
            ) from exc
        _append(path, saved.more(section))
        return True


def remove_model(path: Path, name: str) -> bool:
    """Take a model's sections out, and tell whether there were any. The file stays its owner's, with the same rights.

    Raises:
        ConfigurationError: the file cannot be read, names the model in a way that nothing can be taken out of, or is
            another user's.
        Refused: it is the last one.
    """
    with _alone(path):
        saved = _read(path)
        text = saved.text
        before = tomllib.loads(text) if _models(path, text) else {}
        if name not in before.get("models", {}):
            return False
        if len(before["models"]) == 1:
            raise Refused(f"{name} is the only model; name another first with `perennial init NAME`")
        kept = _without(text, name)
        before["models"].pop(name)
        try:
            after = tomllib.loads(kept)
        except tomllib.TOMLDecodeError:
            after = {}
        if after != before:
            raise ConfigurationError(
                f"[models.{name}] cannot be taken out of {path} without other lines; remove it by hand"
            )
        _rewrite(path, saved.whole(kept))
        return True


def name_from(data: Path) -> str:
    """Return a model's name made from the name of its data file.

    >>> name_from(Path("data/Customer requests.csv")), name_from(Path("rows.jsonl.gz"))
    ('customer_requests', 'rows')
    """
    named = data.with_suffix("") if data.suffix.lower() in _PACKED else data
    return re.sub(r"[^a-z0-9_-]+", "_", named.stem.lower()).strip("_-")


def _section(name: str, task: str) -> str:
    if task == DEFAULT_TASK:
        return _MODEL.format(model=name, task="")
    lines = _MODEL.format(model=name, task=_TASK.format(model=name, task=task)).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("encoder"))


def _without(text: str, name: str) -> str:
    """The text without the tables whose name begins with that of the model."""
    mine = re.compile(rf"^[ \t]*\[+[ \t]*models[ \t]*\.[ \t]*[\"']?{re.escape(name)}[\"']?[ \t]*[.\]]")
    starts = [match.start() for match in _TABLE.finditer(text)]
    cuts = [0, *starts, len(text)]
    return "".join(part for start, end in pairwise(cuts) if not mine.match(part := text[start:end]))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While the block runs, no other process of this machine changes the file that the path leads to."""
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _append(path: Path, section: bytes) -> None:
    """Add the bytes at the end, all or none of them: half a section would be no TOML, and nothing would start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    before, written = os.fstat(descriptor).st_size, 0
    try:
        written = os.write(descriptor, section)
        os.fsync(descriptor)
    finally:
        if written < len(section):
            os.ftruncate(descriptor, before)
        os.close(descriptor)
    if written < len(section):
        raise OSError(errno.ENOSPC, "no space for all of the section", str(path))


def _rewrite(path: Path, content: bytes) -> None:
    """Replace what the path leads to, through links, by a file of the same owner and rights."""
    target = path.resolve()
    old = target.stat()
    with written_whole(target, mode=stat.S_IMODE(old.st_mode)) as temporary:
        temporary.write_bytes(content)
        new = temporary.stat()
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            try:
                os.chown(temporary, old.st_uid, old.st_gid)
            except OSError as exc:
                raise ConfigurationError(
                    f"{target} is the file of user {old.st_uid} and group {old.st_gid}, and would become that of user "
                    f"{new.st_uid} and group {new.st_gid}; do this as its owner, or edit it by hand"
                ) from exc


def _read(path: Path) -> SavedText:
    """The text with its own ends of lines; none where there is no file."""
    try:
        return SavedText.of(path.read_bytes() if path.is_file() else b"")
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path} is not UTF-8 ({exc}); save it as UTF-8 and try again") from exc


def _models(path: Path, text: str) -> dict[str, object]:
    try:
        models = tomllib.loads(text).get("models", {})
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(f"{path} is not valid TOML; correct it and try again") from exc
    return models if isinstance(models, dict) else {}
