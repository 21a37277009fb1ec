"""Who is at the keyboard, for the audit log."""

import getpass

__all__ = ["actor"]


def actor() -> str:
    """The operating system's name for the user, or `operator`."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "operator"
