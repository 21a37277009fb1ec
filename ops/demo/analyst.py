"""An analyst who reads every alert: confirms those about a story that matters, and dismisses the others."""

import threading
from collections.abc import Callable
from typing import Any

import httpx

__all__ = ["Analyst"]

_LOOK_S = 1.0


class Analyst:
    """Reads alerts by the control API and posts a verdict on each.

    Args:
        url: of the control API.
        model: whose alerts they are.
        matters: whether headlines with these texts are worth an alert.
    """

    def __init__(self, url: str, model: str, matters: Callable[[list[str]], bool]) -> None:
        self._url, self._path, self._matters = url, f"/v1/models/{model}/alerts", matters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="analyst", daemon=True)
        self.verdicts = 0

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End after the verdicts under way; calling it again does nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as http:
            while not self._stop.wait(_LOOK_S):
                try:
                    for alert in http.get(self._path, params={"state": "open"}).raise_for_status().json():
                        self._judge(http, alert)
                except httpx.HTTPError:
                    continue  # looked at again in a moment

    def _judge(self, http: httpx.Client, alert: dict[str, Any]) -> None:
        verdict = "confirmed" if self._matters([one["text"] for one in alert["evidence"]]) else "dismissed"
        http.post(f"{self._path}/{alert['number']}", json={"verdict": verdict}).raise_for_status()
        self.verdicts += 1
