"""How the service is: `/healthz` in parts, and whether it lives and serves for whoever restarts or routes by that."""

from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from perennial.ops.api.auth import ACTOR

__all__ = ["HealthControl", "add_health"]


class HealthControl(Protocol):
    """What the paths of this module need of the running loop."""

    def health(self) -> dict[str, Any]:
        """Whether each part did its work lately; answers at once, whatever hangs."""
        ...

    def ready(self) -> dict[str, Any]:
        """Whether each model is answered, and control operations can be taken."""
        ...


def add_health(api: FastAPI, control: HealthControl) -> None:
    """Add the three paths. None of them asks for a token, and only who has one is told more than names."""

    @api.get("/healthz")
    def healthz(request: Request) -> Response:
        health = control.health()
        told = health if request.scope[ACTOR] else _names_of(health)
        return JSONResponse(told, status_code=200 if health["healthy"] else 503)

    @api.get("/healthz/live")
    async def live() -> dict[str, Any]:  # in no thread: those may all be waiting for something
        return {"live": True}

    @api.get("/healthz/ready")
    def ready(request: Request) -> Response:
        seen = control.ready()
        told = seen if request.scope[ACTOR] else {"ready": seen["ready"]}
        return JSONResponse(told, status_code=200 if seen["ready"] else 503)


def _names_of(health: Mapping[str, Any]) -> dict[str, Any]:
    """What a stranger may know: that the process lives, and which of its parts are well; no error, path or address."""
    parts = {name: part["healthy"] for name, part in health["parts"].items()}
    parts |= {name: health[name]["healthy"] for name in ("triton", "scheduler")}
    parts |= {f"model:{name}": model["healthy"] for name, model in health["models"].items()}
    return {"live": True, "healthy": health["healthy"], "unhealthy": health["unhealthy"], "parts": parts}
