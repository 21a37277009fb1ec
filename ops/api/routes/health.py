"""How the service is: `/healthz` in parts, and whether it lives and serves for whoever restarts or routes by that."""

from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI, Request, Response

from perennial.ops.safety.roles import CALLER, Role
from perennial.ops.views.health import HealthNames, HealthView, ReadyName, ReadyView, names_of

__all__ = ["Alive", "HealthControl", "add_health"]


class HealthControl(Protocol):
    """What the paths of this module need of the running loop."""

    def health(self) -> HealthView:
        """Whether each part did its work lately; answers at once, whatever hangs."""
        ...

    def ready(self) -> ReadyView:
        """Whether each model is answered, and control operations can be taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The process answers."""

    live: bool = True


def add_health(api: FastAPI, control: HealthControl) -> None:
    """Add the three paths. None of them asks for a token, and only who has one is told more than names."""

    @api.get("/healthz", response_model_exclude_none=True)
    def healthz(request: Request, response: Response) -> HealthView | HealthNames:
        """How each part is; 503 where one is not well. Without a role it says no more than names."""
        health = control.health()
        response.status_code = 200 if health.healthy else 503
        return health if _may_look(request) else names_of(health)

    @api.get("/healthz/live")
    async def live() -> Alive:  # in no thread: those may all be waiting for something
        """Whether the process answers at all."""
        return Alive()

    @api.get("/healthz/ready", response_model_exclude_none=True)
    def ready(request: Request, response: Response) -> ReadyView | ReadyName:
        """Whether every model that has a champion answers; 503 until then."""
        seen = control.ready()
        response.status_code = 200 if seen.ready else 503
        return seen if _may_look(request) else ReadyName(ready=seen.ready)


def _may_look(request: Request) -> bool:
    """Whether the caller may look at what belongs to all models together."""
    caller = request.scope[CALLER]
    return caller is not None and caller.may(Role.VIEWER)
