"""Models that come and go while a service runs: its settings file is looked at again and again."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.ops.app.jobs import ModelJobs
from perennial.ops.app.notices import Notices
from perennial.ops.app.roster import ModelRoster
from perennial.ops.app.servers import Servers
from perennial.ops.app.service_health import ServiceHealth
from perennial.ops.commands.first_version import register
from perennial.ops.scheduling.scheduler import LoopScheduler
from perennial.ops.settings import Settings, load_settings
from perennial.ops.store.removals import is_removed, note_return

__all__ = ["ModelFollower"]

logger = logging.getLogger(__name__)
_LOOK_S = 2.0
STOP_S = 10.0  # for a look that is under way


class ModelFollower:
    """Gives each model what it needs to be served, watched and retrained, at the start and whenever one is named.

    Only the models follow the file; every other setting, those of known models among them, waits for the next start.
    """

    def __init__(
        self,
        roster: ModelRoster,
        servers: Servers,
        scheduler: LoopScheduler,
        jobs: ModelJobs,
        notices: Notices,
        health: ServiceHealth,
        read: Callable[[Path | None], Settings] = load_settings,
    ) -> None:
        self._roster, self._servers, self._scheduler, self._jobs = roster, servers, scheduler, jobs
        self._notices, self._health, self._read = notices, health, read
        self._config = roster.parts.config
        self._seen: tuple[int, int] | None = None  # the first look reads what changed since the start
        self._equipped = set[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="models", daemon=True)
        for model in roster.names:
            self._equip(model)
        for model in roster.unserved:
            self._keep_rows(model)

    def start(self) -> None:
        """Begin to look at the file."""
        self._thread.start()

    def leave(self) -> None:
        """Look no more; a look under way goes on."""
        self._stop.set()

    def stop(self, *, within_s: float = STOP_S) -> bool:
        """Look no more; returns whether a look under way ended in time."""
        self.leave()
        if self._thread.is_alive():
            self._thread.join(within_s)
        return not self._thread.is_alive()

    def look(self) -> None:
        """Take up the models that came, and let those go that were removed, where the file has changed.

        Raises:
            ConfigurationError: the file cannot be read; nothing was changed, and the next look tries again.
        """
        if (now := self._signature()) == self._seen or self._config is None or not self._config.is_file():
            return
        settings = self._read(self._config)
        changed = self._roster.follow(settings)
        for model in self._roster.names:
            if model in changed or model not in self._equipped:
                self._take_up(model)
        for model in set(self._roster.names) - {*settings.models, *settings.refused}:
            if settings.models and is_removed(self._roster.parts.ledger, model):
                self._let_go(model)
            elif settings.models:
                logger.warning("model.not_named", extra={"model": model, "until": "the next start"})
        self._seen = now

    def _take_up(self, model: str) -> None:
        register(self._roster.parts.ledger, self._roster.parts.workspace)
        self._servers.install(model)
        if (loop := self._roster.loops.get(model)) is not None:
            loop.start()
        self._equip(model)
        logger.info("model.taken_up", extra={"model": model})

    def _equip(self, model: str) -> None:
        note_return(self._roster.parts.ledger, model)
        self._notices.add(model)
        loop = self._roster.loops.get(model)
        if loop is not None:
            self._health.add(model, loop.traffic)
        rows = self._roster.rows_of(model)
        self._scheduler.add(self._jobs.of_broken(rows) if loop is None else self._jobs.of(loop))
        self._equipped.add(model)

    def _keep_rows(self, model: str) -> None:
        self._scheduler.add(self._jobs.of_unserved(self._roster.rows_of(model)))

    def _let_go(self, model: str) -> None:
        self._scheduler.remove(job for job in self._scheduler.facts() if job.endswith(f":{model.lower()}"))
        if (loop := self._roster.drop(model)) is not None:
            loop.stop()
        self._health.remove(model)
        self._equipped.discard(model)
        self._servers.let_go(model)
        self._keep_rows(model)
        logger.info("model.let_go", extra={"model": model})

    def _signature(self) -> tuple[int, int] | None:
        """What changes whenever the file does; None while there is none."""
        try:
            status = None if self._config is None else self._config.stat()
        except OSError:
            return None
        return None if status is None else (status.st_mtime_ns, status.st_size)

    def _look_on(self) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                self.look()
            except (PerennialError, OSError) as exc:
                logger.warning("settings.not_followed", extra={"error": str(exc)})
            except Exception:  # whatever a file or a model does, later ones are taken up
                logger.exception("settings.not_followed")
