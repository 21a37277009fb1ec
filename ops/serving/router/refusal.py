"""What a caller is told of an error: a status that says whose fault it is, and no path of the server's."""

import re

from perennial.continual.errors import DependencyUnreachable, InputError, NotFound, PerennialError

__all__ = ["STATUSES", "message_for", "status_of"]

STATUSES: tuple[tuple[type[PerennialError], str], ...] = (  # names of pb_utils.TritonError, the first that fits counts
    (InputError, "INVALID_ARG"),  # gRPC INVALID_ARGUMENT, HTTP 400
    (NotFound, "UNAVAILABLE"),  # no route or bundle yet: nothing that the caller could name otherwise
    (DependencyUnreachable, "UNAVAILABLE"),  # HTTP 503
)
_OTHERS = "INTERNAL"
_PATH = re.compile(r"(?<![\w.:/])(?:/[^\s/'\":;,()]+){2,}/?")


def status_of(error: Exception) -> str:
    """The name of the status.

    >>> status_of(InputError("no text"))
    'INVALID_ARG'
    """
    return next((status for kind, status in STATUSES if isinstance(error, kind)), _OTHERS)


def message_for(error: Exception) -> str:
    """The message for the caller.

    >>> message_for(NotFound("no route at /srv/models/intent.json; publish a version first"))
    'no route at (a path); publish a version first'
    """
    if not isinstance(error, PerennialError):
        return f"the router failed ({type(error).__name__}); its log says why"
    return _PATH.sub("(a path)", str(error))
