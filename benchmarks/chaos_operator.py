"""The operator of the chaos benchmark: opens cycles, approves, aborts and rolls back, and keeps what was promised."""

import time
from collections import Counter
from typing import Any

import httpx

from benchmarks.chaos_world import MODEL
from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.ledger import Ledger

__all__ = ["Operator"]

_EVERY_S = 0.1
_WAYS = ("", "RollBackCommand", "", "Abort")  # by turns, where no kill asks for one
_STATES = {"training": "Abort", "approval": "Approve", "probation": "RollBackCommand"}


class Operator:
    """Acts by the control API as a person would; each cycle ends in the way whose points need most kills yet."""

    def __init__(self, ledger: Ledger, api: str) -> None:
        self._ledger = ledger
        self._http = httpx.Client(base_url=f"{api}/v1/models/{MODEL}", timeout=10, headers={REQUEST_HEADER: "1"})
        self._next = 0.0
        self._asked: set[tuple[int, str]] = set()  # cycle and command
        self._way: tuple[int, str] = (0, "")  # cycle and the command that shall end it
        self.promised: list[dict[str, Any]] = []  # what each acknowledged command was answered with

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def act(self, wanted: Counter[tuple[str, str, str]]) -> str:
        """Do what is to be done now; the name of the command that was just acknowledged, empty without one."""
        if time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + _EVERY_S
        cycle = self._ledger.active_cycle(MODEL)
        if cycle is None:
            self._post("/retrain")
            return ""
        command = _STATES.get(cycle.state, "")
        if not command or (cycle.id, command) in self._asked:
            return ""
        if command != "Approve" and self._end_of(cycle.id, wanted) != command:
            return ""
        if command == "Approve" and _left(wanted, "RequestApproval", "intent"):
            return ""  # whoever is to be killed while the approval is waited for is killed first
        promise = self._post(*_REQUESTS[command])
        if promise is None:
            return ""
        self._asked.add((cycle.id, command))
        self.promised.append(promise)
        return command

    def _end_of(self, cycle: int, wanted: Counter[tuple[str, str, str]]) -> str:
        """How this cycle shall end: aborted, rolled back, or (empty) with a champion that held."""
        if self._way[0] != cycle:
            left = {
                "Abort": _left(wanted, "AbortChallenger") + _left(wanted, "Abort"),
                "RollBackCommand": _left(wanted, "RollBack") + _left(wanted, "RollBackCommand"),
                "": max(_left(wanted, "StartProbation", "outcome"), _left(wanted, "ReleaseOld")),
            }
            chosen = max(left, key=lambda way: left[way]) if any(left.values()) else _WAYS[cycle % len(_WAYS)]
            self._way = (cycle, chosen)
        return self._way[1]

    def _post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
        try:
            response = self._http.post(path, json=body)
        except httpx.HTTPError:
            return None
        answer = response.json() if response.is_success else None
        return answer if isinstance(answer, dict) else None


_REQUESTS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "Approve": ("/commands/approve", None),
    "Abort": ("/commands/abort", None),
    "RollBackCommand": ("/rollback", {"reason": "chaos"}),
}


def _left(wanted: Counter[tuple[str, str, str]], step: str, phase: str = "") -> int:
    """The most kills that any one process still needs at a step: cycles that it takes, about."""
    return max((n for point, n in wanted.items() if point[0] == step and phase in {"", point[1]}), default=0)
