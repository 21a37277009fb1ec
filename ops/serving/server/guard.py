"""Ends a process group when the process that started it is gone, however that died."""

import subprocess

__all__ = ["Guard"]

# A shell that waits for the end of its standard input, which comes with the end of the process that holds the pipe.
# PR_SET_PDEATHSIG would also fire when only the thread that started the group ends.
_SCRIPT = 'trap "" TERM INT HUP; read -r _; kill -TERM "$0" 2>/dev/null; sleep 2; kill -KILL -- "-$0" 2>/dev/null'


class Guard:
    """Watches over one group from now on."""

    def __init__(self, group: int) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, str(group)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The group has ended, or is to go on."""
        self._shell.kill()
        self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()
