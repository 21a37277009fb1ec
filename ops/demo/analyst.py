"""An analyst who reads every alert: confirms those about a story that matters, and dismisses the others."""

from collections.abc import Callable
from typing import Any

import httpx

from perennial.ops.demo.looking import Looking

__all__ = ["Analyst"]

_LOOK_S = 1.0


class Analyst(Looking):
    """Reads alerts by the control API and posts a verdict on each.

    Args:
        url: of the control API.
        model: whose alerts they are.
        matters: whether headlines with these texts are worth an alert.
    """

    def __init__(self, url: str, model: str, matters: Callable[[list[str]], bool]) -> None:
        super().__init__(url, name="analyst", every_s=_LOOK_S)
        self._path, self._matters = f"/v1/models/{model}/alerts", matters

    def look(self, http: httpx.Client) -> None:
        """Judge what is open."""
        try:
            for alert in http.get(self._path, params={"state": "open"}).raise_for_status().json():
                self._judge(http, alert)
        except httpx.HTTPError:
            return  # looked at again in a moment

    def _judge(self, http: httpx.Client, alert: dict[str, Any]) -> None:
        verdict = "confirmed" if self._matters([one["text"] for one in alert["evidence"]]) else "dismissed"
        http.post(f"{self._path}/{alert['number']}", json={"verdict": verdict}).raise_for_status()
