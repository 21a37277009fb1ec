"""How the service is: `/healthz` in parts, and whether it lives and serves for whoever restarts or routes by that."""

from typing import Any, Protocol

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

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
    """Add the three paths; none of them asks for a token."""

    @api.get("/healthz")
    def healthz() -> Response:
        health = control.health()
        return JSONResponse(health, status_code=200 if health["healthy"] else 503)

    @api.get("/healthz/live")
    async def live() -> dict[str, Any]:  # in no thread: those may all be waiting for something
        return {"live": True}

    @api.get("/healthz/ready")
    def ready() -> Response:
        told = control.ready()
        return JSONResponse(told, status_code=200 if told["ready"] else 503)
