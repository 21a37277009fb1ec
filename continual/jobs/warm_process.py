"""`... perennial.continual.jobs.warm_process SOCKET NICENESS MODULES...`: loads them, then forks a job for each order.

It says when all is loaded. An order is one message with three descriptors: the job's stdout, its stderr, and a socket
for its status; with a fourth one, its stdin, where the order says so. There the job says `pid N`, and begins when it is
told `go`: whoever has given it up and closed the other end has it never begin. At last `end N` tells the exit code: the
job says so when all its work is done, as the system takes a while to take its memory back, and this process for one
that something ended.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from perennial.continual.jobs.priority import give_way, lower_priority, lower_this_thread

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_ORDER_BYTES = 1 << 20
_DYING_S = 0.1


def main(arguments: Sequence[str]) -> int:
    """Serve orders until the other end of the socket is closed and all that was begun has ended."""
    orders = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(orders.fileno(), False)
    niceness = int(arguments[1])
    give_way(niceness)  # this session does nothing but load, and each job has one of its own
    loading = threading.Thread(target=_load, args=(niceness, arguments[2:]), daemon=True)
    loading.start()  # a thread has a priority of its own, and it cannot be raised again
    loading.join()
    gc.freeze()  # what is loaded stays shared with the jobs
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the end of a job interrupts the wait below
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    orders.send(b"+")
    waiting = select.poll()
    waiting.register(orders, select.POLLIN)
    waiting.register(woken, select.POLLIN)
    ordered = True
    jobs: dict[int, socket.socket] = {}  # process -> status
    while ordered or jobs:
        for ready, _ in waiting.poll():
            if ready == woken.fileno():
                woken.recv(_ORDER_BYTES)
                _tell_ends(jobs)
                continue
            message, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 4)
            if message:
                _begin(message, descriptors, jobs, (orders, woken, wake))
            else:
                waiting.unregister(orders)
                ordered = False
    return 0


def _load(niceness: int, modules: Sequence[str]) -> None:
    lower_this_thread(niceness)
    for name in modules:
        with suppress(ImportError):  # a runtime that is not installed here
            importlib.import_module(name)


def _begin(
    message: bytes, descriptors: Sequence[int], jobs: dict[int, socket.socket], own: Sequence[socket.socket]
) -> None:
    """Fork a job; where that fails its status is closed, which has it begun cold, and the others go on."""
    parent, pid = os.getpid(), None
    try:
        order = json.loads(message)
        told = descriptors[3 : 3 + order["stdin"]]
        out, errors, status = descriptors[: len(descriptors) - order["stdin"]]  # fewer came where no more may be open
        pid = os.fork()
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"a job begins cold, as no process could be forked for it: {exc}\n")
    if pid == 0:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for held in (*own, *jobs.values()):
                held.close()
            with socket.socket(fileno=status) as owner:
                os.set_inheritable(owner.fileno(), False)  # what the job starts does not answer for it
                code = _job(parent, order, (told[0] if told else None, out, errors), owner)
                _say_end(parent, owner, code)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # nothing that was loaded for others is ended here
    if pid is not None:
        jobs[pid] = socket.socket(fileno=status)
        descriptors = (out, errors, *told)
    for held_here in descriptors:
        os.close(held_here)


def _say_end(parent: int, owner: socket.socket, code: int) -> None:
    """Say it once nothing more is written; the end of the standard output comes first.

    One whose warm process has died was ended with it, and counts as killed.
    """
    os.close(1)
    if code:  # it may have been ended with the warm process, whose threads die one after the other
        time.sleep(_DYING_S)
    if os.getppid() == parent:
        with suppress(OSError):  # nobody waits for it any more
            owner.send(f"end {code & 0xFF}".encode())


def _job(parent: int, order: Mapping[str, Any], streams: Sequence[int | None], owner: socket.socket) -> int:
    """Become the job: a session, a priority and an environment of its own, as if it had been started cold."""
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 143
    told = b""
    with suppress(OSError):
        owner.send(f"pid {os.getpid()}".encode())
        told = owner.recv(8)
    if told != b"go":  # it was given up
        return 1
    for number, stream in enumerate(streams):
        if stream is not None:
            os.dup2(stream, number)
            os.close(stream)
    os.environ.clear()
    os.environ.update(order["environment"])
    lower_priority(int(order["niceness"]))
    module = order["module"]
    sys.argv = [module, *order["arguments"]]
    sys.modules.pop(module, None)  # it is run as the program
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code: Any = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
    if code is None or isinstance(code, int):
        sys.stderr.flush()
        return int(code or 0)
    sys.stderr.write(f"{code}\n")
    sys.stderr.flush()
    return 1


def _tell_ends(jobs: dict[int, socket.socket]) -> None:
    for pid in list(jobs):
        ended, how = os.waitpid(pid, os.WNOHANG)
        if ended:
            with jobs.pop(pid) as status, suppress(OSError):  # nobody waits for it any more
                status.send(f"end {os.waitstatus_to_exitcode(how)}".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
