"""The `perennial serve` of a workspace, as other commands on the machine find and ask it."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DependencyUnreachable
from perennial.ops.safety.tokens import hashed, new_token
from perennial.ops.serving.processes import is_running, start_ticks
from perennial.ops.settings import ApiSettings
from perennial.ops.views.health import HealthView, read_health

__all__ = ["RunningServe", "address_of"]

_FILE = "serve.json"
_TIMEOUT_S = 10.0
_EVERYWHERE = {"": "127.0.0.1", "0": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


def address_of(settings: ApiSettings) -> str:
    """Where this machine reaches the control API of these settings."""
    host = _EVERYWHERE.get(settings.host, f"[{settings.host}]" if ":" in settings.host else settings.host)
    return f"http://{host}:{settings.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServe:
    """One start of `serve`: its process, its control API, and a viewer's token that only its user can read."""

    pid: int
    ticks: int
    url: str
    token: str = field(repr=False)

    @classmethod
    def here(cls, settings: ApiSettings) -> "RunningServe":
        """This process, with a token of its own."""
        pid = os.getpid()
        return cls(pid=pid, ticks=start_ticks(pid) or 0, url=address_of(settings), token=new_token())

    @classmethod
    def of(cls, state: Path) -> "RunningServe | None":
        """The process that serves from this state folder and has opened its API; None while there is none."""
        try:
            fields = json.loads((state / _FILE).read_text(encoding="utf-8"))
            serve = cls(
                pid=int(fields["pid"]), ticks=int(fields["ticks"]), url=str(fields["url"]), token=str(fields["token"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return serve if is_running(serve.pid, serve.ticks) else None

    def keep(self, state: Path) -> None:
        """Let other commands of this user find it."""
        write_atomically(state / _FILE, json.dumps(asdict(self)), mode=0o600, durable=False)

    @staticmethod
    def forget(state: Path) -> None:
        """It ends."""
        (state / _FILE).unlink(missing_ok=True)

    def lets_itself_in(self, settings: ApiSettings) -> ApiSettings:
        """The settings of an API that takes this token too; where none is asked for, they stay as they are."""
        if not (settings.tokens or settings.accounts):
            return settings
        return settings.model_copy(update={"tokens": {**settings.tokens, hashed(self.token): "viewer"}})

    def health(self) -> HealthView:
        """What its `/healthz` tells.

        Raises:
            DependencyUnreachable: the process runs, and its API does not answer.
        """
        import httpx

        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            document = httpx.get(f"{self.url}/healthz", headers=headers, timeout=_TIMEOUT_S, trust_env=False).json()
        except (httpx.HTTPError, ValueError) as exc:
            raise DependencyUnreachable(
                f"`perennial serve` runs (process {self.pid}), and its control API at {self.url} does not answer "
                f"({type(exc).__name__}); see its log"
            ) from exc
        try:
            return read_health(document)
        except (KeyError, TypeError, AttributeError) as exc:
            raise DependencyUnreachable(
                f"what answers at {self.url} is not `perennial serve` of this release; see api.port"
            ) from exc
