"""Where the servers are, and how they are asked."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .control import headers_of
from .errors import BadInput
from .inference import CHANNEL_OPTIONS
from .retry import Attempts, Retry

__all__ = ["Places"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The addresses of Triton's gRPC and of the control API, the token for the latter, and the limits of a call.

    Attributes:
        grpc: host and port of Triton, or of a proxy before it.
        api: address of the control API.
        token: of the control API; none where it asks for none.
        tls: whether gRPC is spoken over TLS; the control API's address says it for itself.
        ca_file: the authority to trust, where it is not one of the system's.
        timeout_s: for a call with all of its attempts.
        retry: how often something is tried.
    """

    grpc: str = "127.0.0.1:8001"
    api: str = "http://127.0.0.1:8080"
    token: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: Path | None = None
    timeout_s: float = 30.0
    retry: Retry = field(default_factory=Retry)

    def __post_init__(self) -> None:
        if "://" in self.grpc:
            raise BadInput(f"grpc is {self.grpc!r}; give host:port alone, e.g. 127.0.0.1:8001, and tls=True for TLS")
        if not self.api.startswith(("http://", "https://")):
            raise BadInput(f"api is {self.api!r}; give an address such as http://127.0.0.1:8080")
        if self.timeout_s <= 0:
            raise BadInput(f"timeout_s is {self.timeout_s}; give a call some time")

    def attempts(self) -> Attempts:
        """The attempts of a call that begins now."""
        return Attempts(self.retry, self.timeout_s)

    def grpc_options(self) -> dict[str, Any]:
        """How a gRPC client is made."""
        authority = None if self.ca_file is None else str(self.ca_file)
        return {
            "url": self.grpc,
            "ssl": self.tls,
            "root_certificates": authority,
            "channel_args": list(CHANNEL_OPTIONS),
        }

    def http_options(self) -> dict[str, Any]:
        """How an HTTP client is made. Without TLS no list of authorities is read, which takes longer than a request."""
        trust: Any = self.api.startswith("https://")
        if trust and self.ca_file is not None:
            import ssl

            trust = ssl.create_default_context(cafile=str(self.ca_file))
        return {"base_url": self.api, "headers": headers_of(self.token), "verify": trust}
