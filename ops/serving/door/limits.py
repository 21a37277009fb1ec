"""What the front door is told when it starts."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["DoorLimits", "DoorSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """How much a client may ask for, and for how long. A bound that is passed is answered, never waited out."""

    body_bytes: int = 64 * 2**20
    buffered_bytes: int = 512 * 2**20  # bodies of all requests together
    header_bytes: int = 16_384
    connections: int = 1_024
    header_s: float = 10.0  # from the first byte of a request to the last one of its headers
    body_idle_s: float = 10.0  # between two bytes of a body, and of an answer that the client takes
    body_s: float = 120.0  # for a whole body
    keep_alive_s: float = 75.0  # between two requests
    answer_s: float = 300.0  # for Triton's answer
    together_rows: int = 64  # texts of a question that several clients' are put together to; below 2 none are


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """Where the front door listens, and whom it lets in. A port of 0 is not opened."""

    host: str
    http_port: int
    metrics_port: int
    record: Path  # the server's record: where Triton's own ports are, and the secret
    local: bool = True  # nobody but this machine reaches it
    hosts: tuple[str, ...] = ()  # further names by which clients may call it
    origins: tuple[str, ...] = ()  # of pages whose requests are let through
    routes: Path | None = None  # a file a model; nobody's requests are put together where nothing tells the route
    traces: bool = False  # the name of a caller's trace is passed on
    limits: DoorLimits = DoorLimits()

    @property
    def fingerprint(self) -> str:
        """Equal for settings that mean the same: a running door with the same may be adopted."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """For the command line of the process."""
        routes = None if self.routes is None else str(self.routes.resolve())
        return json.dumps({**asdict(self), "record": str(self.record.resolve()), "routes": routes}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "DoorSettings":
        """What `to_json` gave."""
        fields = json.loads(text)
        return cls(
            **{
                **fields,
                "record": Path(fields["record"]),
                "routes": None if fields["routes"] is None else Path(fields["routes"]),
                "hosts": tuple(fields["hosts"]),
                "origins": tuple(fields["origins"]),
                "limits": DoorLimits(**fields["limits"]),
            }
        )
