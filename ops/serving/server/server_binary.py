"""The server's binary as it is started: a copy that does not look for the option `classification` over gRPC.

Triton 2.51 divides by the size of one value when a client asks for the classes of a BYTES output, which is zero: a
request of sixty bytes ends the process. The front door refuses that option over HTTP; gRPC is Triton's own. In the copy
the option's name is bytes that are no UTF-8, which no message can hold; so it is overlooked, as unknown options are.
"""

import logging
from pathlib import Path

from perennial.continual.atomic_file import write_atomically

__all__ = ["overlooks_classification", "without_classification"]

logger = logging.getLogger(__name__)
_NAME = b"classification"
_NOBODYS = b"\xff" * len(_NAME)
# As the constant that is hashed, and as the number that the comparison of names has in its code.
_PLACES = (
    (b"\0" + _NAME + b"\0", b"\0" + _NOBODYS + b"\0"),
    (b"\x48\xba" + _NAME[:8] + b"\xeb", b"\x48\xba" + _NOBODYS[:8] + b"\xeb"),
)


def without_classification(binary: Path, folder: Path) -> Path:
    """The copy in `folder`, made where it is not there yet; the binary itself where it is another than 2.51's."""
    changed = binary.read_bytes()
    for sought, put in _PLACES:
        if changed.count(sought) != 1:
            logger.warning("triton.unknown_binary", extra={"path": str(binary)})
            return binary
        changed = changed.replace(sought, put)
    copy = folder / binary.name
    try:
        if not copy.is_file() or copy.read_bytes() != changed:
            write_atomically(copy, changed, mode=0o700, durable=False)  # one that runs keeps the old file
    except OSError as exc:  # a full disk must not keep the server from starting
        logger.warning("triton.binary_not_copied", extra={"reason": str(exc)})
        return binary
    return copy


def overlooks_classification(binary: Path) -> bool:
    """Whether a binary, such as `/proc/PID/exe`, is the changed copy.

    Raises:
        OSError: it cannot be read.
    """
    content = binary.read_bytes()
    return all(content.count(put) == 1 and sought not in content for sought, put in _PLACES)
