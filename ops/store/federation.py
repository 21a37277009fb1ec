"""What a model keeps of its exchanges with other sites: their sums, and the keys of rounds that are not over."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.federation.others import Others, Shared
from perennial.continual.learning.trained import OTHERS_FILE
from perennial.continual.preparation import admit_name
from perennial.ops.store.workspace import Workspace

__all__ = ["Federation", "OpenRound"]

_PRIVATE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """A round that this model takes part in: its private key, and the version whose sums were announced."""

    site: str
    private: str
    version: int


class Federation:
    """One model's."""

    def __init__(self, workspace: Workspace, model: str) -> None:
        self._folder = workspace.state / "federation" / admit_name(model)

    @property
    def others(self) -> Path | None:
        """The sums of other sites that the next version counts; None where it learns alone."""
        path = self._folder / OTHERS_FILE
        return path if path.is_file() else None

    @property
    def shared(self) -> Shared | None:
        """Where those come from.

        Raises:
            DataError: the file cannot be read.
        """
        return None if self.others is None else Others.about(self.others)

    def keep_others(self, others: Others) -> None:
        """Let the next version count these, and no others that were there."""
        others.write(self._folder / OTHERS_FILE)

    def drop_others(self) -> None:
        """Let the next version learn alone."""
        (self._folder / OTHERS_FILE).unlink(missing_ok=True)

    def open_round(self, public_keys: Iterable[str]) -> OpenRound | None:
        """What is kept of the round in which one of these keys was announced; None where this model takes no part.

        Raises:
            DataError: the file is damaged.
        """
        for key in public_keys:
            path = self._of(key)
            try:
                return OpenRound(**json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError) as error:
                raise DataError(f"{path} is damaged ({error}); delete it, and begin a new round") from error
        return None

    def keep_round(self, public_key: str, held: OpenRound) -> None:
        """Keep it, readable by this user alone."""
        write_atomically(self._of(public_key), json.dumps(asdict(held)), mode=_PRIVATE)

    def end_round(self, public_key: str) -> None:
        """Forget the key: from now on nobody can take the masks off what was sent."""
        self._of(public_key).unlink(missing_ok=True)

    def _of(self, public_key: str) -> Path:
        return self._folder / "rounds" / f"{admit_name(public_key, field='public key')}.json"
