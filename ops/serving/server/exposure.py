"""Whether the embedded server may listen where it is told to: inference asks nobody who they are."""

import socket
from ipaddress import IPv4Address

from perennial.continual.errors import ConfigurationError

__all__ = ["check_exposure", "is_local"]


def is_local(host: str) -> bool:
    """Whether only this machine reaches what listens on this IPv4 address or name."""
    return all(IPv4Address(address).is_loopback for address in _addresses(host))


def check_exposure(host: str, *, exposed: bool) -> None:
    """Return when the server may listen there; `exposed` says that somebody wants it open and knows the risk.

    Raises:
        ConfigurationError: others could reach it and nobody asked for that, or it is no IPv4 address or name.
    """
    if ":" in host:
        raise ConfigurationError(
            f"triton.host {host!r} is an IPv6 address, which the embedded Triton does not serve; "
            f"give an IPv4 address or a name that has one"
        )
    if not exposed and not is_local(host):
        raise ConfigurationError(
            f"triton.host {host!r} would let everybody who reaches this machine ask the models, without a password, "
            f"over the ports for gRPC, HTTP and metrics; keep 127.0.0.1 and put a proxy in front that asks who they "
            f"are, or accept the risk with triton.expose_unauthenticated_inference = true"
        )


def _addresses(host: str) -> set[str]:
    if not host:
        return {"0.0.0.0"}  # what sockets make of it
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, socket.AF_INET)}
    except (OSError, UnicodeError) as exc:
        raise ConfigurationError(
            f"triton.host {host!r} is no address of this machine ({exc}); give an IPv4 address, for example 127.0.0.1"
        ) from exc
