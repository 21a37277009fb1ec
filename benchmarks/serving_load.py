"""Load on a server: by `wrk` where it is installed, else, and for gRPC, by an asyncio client of its own process."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "grpc_load", "http_load", "write_bodies"]

_ROOT = Path(__file__).parents[1]
_GRACE_S = 30.0
_SCRIPT = """
local bodies, place = {}, 0
function init(args)
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end
function request()
  place = place % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[place])
end
function done(summary, latency, requests)
  local wrong = summary.errors
  io.write(string.format('{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\\n',
    summary.requests - wrong.status, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a number of connections got, each of which sends its next request when the last one is answered.

    `requests` are those that were answered well; `errors` are refusals, broken connections and time-outs.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def requests_per_s(self) -> float:
        """Requests that were answered well, each second."""
        return self.requests / self.seconds


def write_bodies(path: Path, bodies: Sequence[str]) -> Path:
    """A body a line, which the load goes through again and again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(bodies) + "\n", encoding="utf-8")
    return path


def http_load(url: str, bodies: Path, *, connections: int, seconds: float) -> Load:
    """POST each of the bodies to the address."""
    if (wrk := shutil.which("wrk")) is None:
        return _asyncio_load("http", url, bodies, connections, seconds)
    script = bodies.with_suffix(".lua")
    script.write_text(_SCRIPT, encoding="utf-8")
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script), url]
    return _read(_ran([*command, "--", str(bodies)], seconds))


def grpc_load(address: str, bodies: Path, *, connections: int, seconds: float) -> Load:
    """Ask the model `intent` by the KServe protocol, as many questions at a time as there are connections."""
    return _asyncio_load("grpc", address, bodies, connections, seconds)


def _asyncio_load(kind: str, address: str, bodies: Path, connections: int, seconds: float) -> Load:
    command = [sys.executable, "-m", "benchmarks.serving_client", kind, address, str(bodies)]
    return _read(_ran([*command, str(connections), str(seconds)], seconds))


def _ran(command: Sequence[str], seconds: float) -> str:
    done = subprocess.run(
        command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=seconds + 2 * _GRACE_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def _read(output: str) -> Load:
    return Load(**json.loads(output.strip().splitlines()[-1]))
