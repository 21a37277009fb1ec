"""The secret of one start of the embedded server: who knows it may do more than infer.

It is made anew at each start, handed to the server's process as an environment variable, which its backends inherit,
and kept for the control process in `server.json`, which its owner alone may read.
"""

import json
import os
import secrets

__all__ = ["KEY", "PARAMETER", "VARIABLE", "is_secret", "knows_secret", "new_secret", "own_secret"]

VARIABLE = "PERENNIAL_SECRET"  # of the server's environment
KEY = "perennial-secret"  # under which Triton's restricted protocols expect it in a request's headers
PARAMETER = "perennial_secret"  # of an inference request: the router's to an engine, the control process's to a router


def new_secret() -> str:
    """A fresh secret of 256 bits, in characters that a command line and an HTTP header can hold."""
    return secrets.token_urlsafe(32)


def own_secret() -> str:
    """The secret that this process was started with; empty under a server that somebody else started without one."""
    return os.environ.get(VARIABLE, "")


def is_secret(value: object) -> bool:
    """Whether a request's parameter is this process's secret; never where there is none."""
    known = own_secret()
    return bool(known) and isinstance(value, str) and secrets.compare_digest(value.encode(), known.encode())


def knows_secret(parameters: str) -> bool:
    """Whether a request's parameters, JSON as Triton hands them to a backend, hold this process's secret."""
    return PARAMETER in parameters and is_secret(json.loads(parameters).get(PARAMETER))
