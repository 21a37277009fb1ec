"""Where a server of the benchmark finds its bundle, and where it is to be found."""

import argparse
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "placed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The arguments of every server."""

    bundle: Path
    cache: Path
    port: int
    grpc_port: int  # 0 for a server without that protocol


def placed() -> Place:
    """Read them from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, default=0)
    given = parser.parse_args()
    return Place(bundle=given.bundle, cache=given.cache, port=given.port, grpc_port=given.grpc_port)
