"""The operator of a demonstration's desk: approves what agents propose, and looks at whether replies are sent."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from perennial.ops.demo.desk import Asked
from perennial.ops.demo.looking import Looking
from perennial.ops.store.private_file import copied

__all__ = ["Operator"]

logger = logging.getLogger(__name__)
_LOOK_S, _LOOKS_A_COPY = 1.0, 3


class Operator(Looking):
    """Looks at the library each second, and keeps a copy of it every third time.

    Args:
        api: of the control plane.
        model: whose library it is.
        library: the file of it.
        copies: the folder of its copies.
    """

    def __init__(self, *, api: str, model: str, library: Path, copies: Path) -> None:
        super().__init__(f"{api}/v1/models/{model}", name="operator", every_s=_LOOK_S)
        self._library, self._copies, self._looks = library, copies, 0
        self._known: Mapping[str, Mapping[str, Any]] = {}  # the replies that are approved, by their ids
        self.sending: list[tuple[datetime, float, bool]] = []  # when, surely reached precision, whether it is on
        self.approved: list[tuple[datetime, str, int]] = []  # when, the reply, its version
        self.copied: list[tuple[datetime, Path]] = []

    def start(self) -> None:
        """Begin to look."""
        self._copies.mkdir(parents=True, exist_ok=True)
        super().start()

    def reply_of(self, asked: Asked) -> tuple[str, bool] | None:
        """The id of the library's reply to a message, and whether its text is right now; None where it has none."""
        known = list(self._known.values())
        for reply in known:
            if reply["text"] == asked.right:
                return str(reply["id"]), True
        for reply in known:
            if reply["text"] in asked.before:
                return str(reply["id"]), False
        return None

    def look(self, http: httpx.Client) -> None:
        """Approve, see whether replies are sent, and keep a copy now and then."""
        try:
            self._approve(http)
        except (httpx.HTTPError, ValueError) as exc:
            logger.debug("demo.look_failed", extra={"error": str(exc)})  # the next look sees it all
        self._looks += 1
        if self._looks % _LOOKS_A_COPY == 0:
            target = self._copies / f"{self._looks:05}.db"
            copied(self._library, target)
            self.copied.append((datetime.now(UTC), target))

    def _approve(self, http: httpx.Client) -> None:
        """What is proposed; then see what is approved, and what is sent."""
        for reply in http.get("/replies", params={"state": "proposed"}).raise_for_status().json():
            http.post(f"/replies/{reply['id']}/approve", headers={"X-Perennial-Request": "1"}).raise_for_status()
            self.approved.append((datetime.now(UTC), str(reply["id"]), int(reply["version"])))
        rows = http.get("/replies", params={"state": "approved"}).raise_for_status().json()
        self._known = {str(row["id"]): row for row in rows}
        sending = http.get("/sending").raise_for_status().json()
        self.sending.append((datetime.now(UTC), float(sending["lowest"]), bool(sending["on"])))
