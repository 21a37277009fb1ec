"""`make bench-console`: what the console costs, over a workspace with 100 versions and without a server.

It measures the time to the first page of a fresh process, the server's time for each page, the delay from a change to
its event at an open page, and the processor time of the control process with 20 open consoles while something changes
every two seconds: each console fetches the overview anew, as the browser's script does.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks import record
from benchmarks.scale_world import fill_traffic
from perennial.ops.serving.processes import processor_s
from tests.component.api_server import answering
from tests.component.console_workspace import fill_console

_BASE = "/console/models/intent"
_CHANGE_S = 2.0
_SERVER = """
import sys, time
from pathlib import Path
from benchmarks.console import serve
serve(Path(sys.argv[1]), *map(int, sys.argv[2:]))
"""


def serve(folder: Path, versions: int, requests: int, logged: int) -> None:
    """Fill a workspace and answer over it; tell the port, and make a change for each line that comes in."""
    with answering(folder) as site:
        fill_console(site.parts, versions=versions, windows=60, requests=requests)
        began = datetime.now(UTC) - timedelta(days=29)
        fill_traffic(site.parts.workspace.traffic("intent"), logged, began=began, dimension=32)
        print(site.port, flush=True)
        for line in sys.stdin:
            site.parts.ledger.audit("bench", line.strip(), "intent", {})


def main() -> None:
    """Measure, and write `benchmarks/out/console.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=100)
    parser.add_argument("--requests", type=int, default=5_000, help="rows of traffic that came just now")
    parser.add_argument("--logged", type=int, default=1_000_000, help="and so many of the 29 days before")
    parser.add_argument("--consoles", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement of cost")
    parser.add_argument("--repeats", type=int, default=9, help="of each page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-console-") as folder:
        sizes = (options.versions, options.requests, options.logged)
        command = [sys.executable, "-c", _SERVER, folder, *map(str, sizes)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            try:
                results = _measured(server, options)
            finally:
                server.terminate()
    for name, value in results.items():
        print(f"{name:<44}{value:>10}" if not isinstance(value, dict) else name)
        for page, figures in value.items() if isinstance(value, dict) else ():
            print(f"  {page:<42}{figures:>10} ms")
    print(record.write("console", results))


def _pages(versions: int) -> tuple[str, ...]:
    newest = f"{_BASE}/versions/{versions}"
    return (
        "/console", _BASE, newest, f"{newest}?beside={versions - 1}", f"{_BASE}/rollout", f"{_BASE}/drift",
        f"{_BASE}/labels", f"{_BASE}/data", f"{_BASE}/data/rows?label=card", "/console/jobs", "/console/audit",
        "/console/settings",
    )  # fmt: skip


def _measured(server: "subprocess.Popen[str]", options: argparse.Namespace) -> dict[str, Any]:
    assert server.stdout is not None
    assert server.stdin is not None
    client = httpx.Client(base_url=f"http://127.0.0.1:{int(server.stdout.readline())}", timeout=60)
    began = time.perf_counter()
    client.get("/console").raise_for_status()
    first_ms = 1e3 * (time.perf_counter() - began)
    pages = {path: _median_ms(client, path, options.repeats) for path in _pages(options.versions)}
    delays = [_delay_ms(client, server, f"change {number}") for number in range(10)]
    process = server.pid
    idle = _cores(process, options.seconds)
    open_ = _with_consoles(client, server, process, options, changes=False)
    busy = _with_consoles(client, server, process, options, changes=True)
    return {
        "versions": options.versions,
        "logged_requests": options.logged,
        "first_page_ms": round(first_ms, 1),
        "slowest_page_ms": max(pages.values()),
        "page_ms": pages,
        "live_delay_ms_median": round(statistics.median(delays), 1),
        "live_delay_ms_worst": round(max(delays), 1),
        "consoles": options.consoles,
        "cores_without_consoles": round(idle, 4),
        "cores_with_consoles": round(open_, 4),
        "cores_with_consoles_and_a_change_every_2_s": round(busy, 4),
    }


def _median_ms(client: httpx.Client, path: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        times.append(1e3 * (time.perf_counter() - began))
    return round(statistics.median(times), 1)


def _delay_ms(client: httpx.Client, server: "subprocess.Popen[str]", what: str) -> float:
    with client.stream("GET", "/console/live") as stream:
        lines = stream.iter_lines()
        _until(lines, "hello")
        time.sleep(0.7)  # the first look has been
        began = time.perf_counter()
        _change(server, what)
        _until(lines, "changed")
        return 1e3 * (time.perf_counter() - began)


def _with_consoles(
    client: httpx.Client,
    server: "subprocess.Popen[str]",
    process: int,
    options: argparse.Namespace,
    *,
    changes: bool,
) -> float:
    """Cores of the control process with so many open pages, each of which fetches itself anew when it is told."""
    over = threading.Event()
    consoles = [
        threading.Thread(target=_console, args=(str(client.base_url), over), daemon=True)
        for _ in range(options.consoles)
    ]
    for console in consoles:
        console.start()
    time.sleep(2.0)
    seconds: float = options.seconds
    used, until = processor_s([process]), time.perf_counter() + seconds
    while time.perf_counter() < until:
        if changes:
            _change(server, "change")
        time.sleep(_CHANGE_S)
    cores = (processor_s([process]) - used) / seconds
    over.set()
    _change(server, "the end")
    for console in consoles:
        console.join(10)
    return cores


def _console(url: str, over: threading.Event) -> None:
    with httpx.Client(base_url=url, timeout=60) as client, client.stream("GET", "/console/live") as stream:
        for line in stream.iter_lines():
            if over.is_set():
                return
            if line == "event: changed":
                with httpx.Client(base_url=url, timeout=60) as page:
                    page.get("/console").raise_for_status()


def _cores(process: int, seconds: float) -> float:
    used = processor_s([process])
    time.sleep(seconds)
    return (processor_s([process]) - used) / seconds


def _change(server: "subprocess.Popen[str]", what: str) -> None:
    assert server.stdin is not None
    server.stdin.write(f"{what}\n")
    server.stdin.flush()


def _until(lines: Iterator[str], event: str) -> None:
    for line in lines:
        if line == f"event: {event}":
            return
    raise AssertionError("the stream ended")


if __name__ == "__main__":
    main()
