"""`... perennial.continual.jobs.warm_process SOCKET MODULES...`: loads the modules, then forks a job for each order.

It says when all is loaded. An order is one message with three descriptors: the job's stdout, its stderr, and where its
process id and then its exit code are written, a line each.
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
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_ORDER_BYTES = 1 << 20
_LOADING_NICENESS = 19


def main(arguments: Sequence[str]) -> int:
    """Serve orders until the other end of the socket is closed."""
    orders = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(orders.fileno(), False)
    loading = threading.Thread(target=_load, args=(arguments[1:],), daemon=True)
    loading.start()  # a thread has a priority of its own, and it cannot be raised again
    loading.join()
    gc.freeze()  # what is loaded stays shared with the jobs
    orders.send(b"+")
    waiting = select.poll()
    waiting.register(orders, select.POLLIN)
    jobs: dict[int, tuple[int, int]] = {}  # handle -> process, status
    while True:
        for ready, _ in waiting.poll():
            if ready in jobs:
                waiting.unregister(ready)
                _tell_end(ready, *jobs.pop(ready))
                continue
            message, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES, 3)
            if not message:
                return 0
            pid, status = _fork(orders, json.loads(message), descriptors, [held for _, held in jobs.values()])
            handle = os.pidfd_open(pid)
            jobs[handle] = pid, status
            waiting.register(handle, select.POLLIN)


def _load(modules: Sequence[str]) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADING_NICENESS)
    for name in modules:
        with suppress(ImportError):  # a runtime that is not installed here
            importlib.import_module(name)


def _fork(
    orders: socket.socket, order: Mapping[str, Any], descriptors: Sequence[int], others: Sequence[int]
) -> tuple[int, int]:
    out, errors, status = descriptors
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            for held in (orders.detach(), *others):
                os.close(held)
            code = _job(parent, order, out, errors, status)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)  # nothing that was loaded for others is ended here
    os.close(out)
    os.close(errors)
    return pid, status


def _job(parent: int, order: Mapping[str, Any], out: int, errors: int, status: int) -> int:
    """Become the job: a session, a priority and an environment of its own, as if it had been started cold."""
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 143
    os.dup2(out, sys.stdout.fileno())
    os.dup2(errors, sys.stderr.fileno())
    os.write(status, f"{os.getpid()}\n".encode())
    for held in (out, errors, status):
        os.close(held)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.nice(max(0, int(order["niceness"]) - os.nice(0)))
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


def _tell_end(handle: int, pid: int, status: int) -> None:
    os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(status, f"{code}\n".encode())
    os.close(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
