"""What the operating system refused, in a sentence with the next step."""

import errno

__all__ = ["told"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})


def told(error: OSError) -> str:
    """The sentence.

    >>> told(OSError(errno.ENOSPC, "No space left on device", "/var/ledger.db"))
    '/var/ledger.db cannot grow (No space left on device); free some space and run the command again: it goes on'
    """
    place = "a file" if error.filename is None else str(error.filename)
    why = error.strerror or str(error) or type(error).__name__
    if error.errno in _FULL:
        return f"{place} cannot grow ({why}); free some space and run the command again: it goes on"
    if error.errno in _FORBIDDEN:
        return f"{place} is not this user's to use so ({why}); see the owner and the rights of it and of its folder"
    if error.errno in _TOO_MANY:
        return f"{place} cannot be opened ({why}); close other programs, or raise the limit with `ulimit -n`"
    return f"{place}: {why}; see to it and run the command again"
