"""The control API of a service, in a thread of its own."""

import logging
import threading
import time
from typing import TYPE_CHECKING

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.settings import ApiSettings

if TYPE_CHECKING:
    from perennial.ops.app.control import ServiceControl
    from perennial.ops.ledger import Ledger
    from perennial.ops.store.event_feed import EventFeed
    from perennial.ops.store.workspace import Workspace

__all__ = ["ApiThread", "load_api"]

logger = logging.getLogger(__name__)
_STARTED_S = 20.0
_STOPPED_S = 10.0


def load_api() -> None:
    """Do half a second of imports that nothing but the API waits for."""
    import perennial.ops.api.app
    import perennial.ops.api.server
    import perennial.ops.console.site  # noqa: F401


class ApiThread:
    """Answers HTTP until it is stopped."""

    def __init__(
        self,
        ledger: "Ledger",
        workspace: "Workspace",
        control: "ServiceControl",
        feed: "EventFeed",
        settings: ApiSettings,
    ) -> None:
        from perennial.ops.api.app import create_api
        from perennial.ops.api.server import make_server
        from perennial.ops.console.site import Console

        self._settings = settings
        self._console = Console(ledger, workspace, control, feed, settings)
        application = create_api(ledger, control, feed, settings, self._console)
        self._server = make_server(application, settings)
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)

    def start(self) -> None:
        """Return once it listens.

        Raises:
            DependencyUnreachable: the port cannot be had.
        """
        self._thread.start()
        deadline = time.monotonic() + _STARTED_S
        while not self._server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise DependencyUnreachable(
                    f"the control API could not listen on {self._settings.host}:{self._settings.port}; set api.port in "
                    f"perennial.toml to a free one"
                )
            time.sleep(0.01)

    def leave(self) -> None:
        """Take no more requests; those under way are answered, and open pages told to ask again later."""
        self._console.leave()
        self._server.should_exit = True

    def stop(self, *, within_s: float = _STOPPED_S) -> None:
        """Take no more requests, and give those under way so long."""
        self.leave()
        if self._thread.is_alive():
            self._thread.join(timeout=within_s)

    def _serve(self) -> None:
        try:
            self._server.run()
        except SystemExit:
            logger.error("api.not_started", extra={"port": self._settings.port})
