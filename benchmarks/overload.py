"""More callers than can be served: who is answered, who is refused, and whether anything breaks.

Callers send requests of 64 long texts, each with a deadline, one after the other: 1, 4, 16, 64, then 256 of them. A
refused caller waits as long as it was told; in a last step 256 callers do not. Then the file system of the traffic log
fills up under load and is given space again. Writes `benchmarks/out/overload.json`; the exit code is 1 when a
condition is not met. The full disk is a tmpfs, which only root may mount.
"""

import argparse
import asyncio
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.grpc import aio as triton_aio
from tritonclient.utils import InferenceServerException

from benchmarks import record
from benchmarks.swap_serving import Serving
from benchmarks.swap_world import MODEL, make_workspace
from perennial.exporters.contract import PREDICTION_ID
from perennial.exporters.signature import BYTES
from perennial.exporters.text_classification.signature import LABEL, SCORES, TEXT
from perennial.ops.demo.grammar import FIRST_INTENTS, RequestGrammar
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog

_ROWS = 64  # texts of a request
_CHARACTERS = 1_000  # of a text
_MARGIN = 0.1  # texts of which the version is less sure alone are not asked: another batch could turn the answer round
_HINT = re.compile(r"retry after (\d+(?:\.\d+)?) s")
_LATE_S = 0.25  # what the way to the client and its own event loop may add on a busy machine
_GRACE_S = 10.0  # so long after its deadline the client waits still, to see whether something comes late
_NAMES = (LABEL, PREDICTION_ID)


@dataclass
class Step:
    """What became of the requests of one step."""

    callers: int
    seconds: float
    honour: bool
    answered: int = 0
    refused: int = 0
    without_hint: int = 0
    wrong: int = 0
    late: int = 0
    failed: int = 0
    waits_s: list[float] = field(default_factory=list)
    ids: list[tuple[float, str]] = field(default_factory=list)  # when it came, prediction id
    errors: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, Any]:
        """The figures for the record."""
        waits = sorted(self.waits_s) or [0.0]
        return {
            "callers": self.callers,
            "seconds": round(self.seconds, 1),
            "honour_hint": self.honour,
            "answered": self.answered,
            "answered_per_s": round(self.answered / self.seconds, 3),
            "refused": self.refused,
            "refused_without_hint": self.without_hint,
            "wrong": self.wrong,
            "late": self.late,
            "failed": self.failed,
            "wait_s_median": round(waits[len(waits) // 2], 3),
            "wait_s_longest": round(waits[-1], 3),
            "errors": dict(self.errors.most_common(3)),
        }


@dataclass(frozen=True)
class World:
    """Whom to ask, what, and what is right."""

    url: str
    texts: list[bytes]
    right: dict[bytes, bytes]
    deadline_s: float


def _tensor(texts: list[bytes]) -> InferInput:
    tensor = InferInput(TEXT, [len(texts), 1], BYTES)
    tensor.set_data_from_numpy(np.array(texts, dtype=object).reshape(-1, 1))
    return tensor


def _long_texts(count: int) -> list[bytes]:
    drawn = iter(RequestGrammar(5).draw_many(FIRST_INTENTS, 60 * count))
    texts = []
    for _ in range(count):
        text = next(drawn).text
        while len(text) < _CHARACTERS:
            text += ", " + text
        texts.append(text[:_CHARACTERS].encode())
    return texts


def _alone(url: str, wanted: int) -> dict[bytes, bytes]:
    """What each text gets alone, of those whose answer is clear."""
    right: dict[bytes, bytes] = {}
    outputs = [InferRequestedOutput(name) for name in (LABEL, SCORES)]
    with InferenceServerClient(url) as client:
        for text in _long_texts(3 * wanted):
            reply = client.infer(MODEL, [_tensor([text])], outputs=outputs, client_timeout=60)
            scores = np.sort(reply.as_numpy(SCORES)[0])
            if scores[-1] - scores[-2] > _MARGIN:
                right[text] = reply.as_numpy(LABEL)[0, 0]
            if len(right) == wanted:
                break
    return right


async def _caller(world: World, client: Any, step: Step, end: float, chance: random.Random) -> None:
    outputs = [InferRequestedOutput(name) for name in _NAMES]
    while (began := time.monotonic()) < end:
        texts = chance.choices(world.texts, k=_ROWS)
        try:
            reply = await client.infer(
                MODEL,
                [_tensor(texts)],
                outputs=outputs,
                timeout=int(1e6 * world.deadline_s),
                client_timeout=world.deadline_s + _GRACE_S,
            )
        except InferenceServerException as exc:
            await asyncio.sleep(_refused(step, exc, chance))
            continue
        took = time.monotonic() - began
        step.waits_s.append(took)
        step.answered += 1
        step.late += took > world.deadline_s + _LATE_S
        step.wrong += any(
            label != world.right[text] for text, label in zip(texts, reply.as_numpy(LABEL)[:, 0], strict=True)
        )
        step.ids += [(time.monotonic(), number.decode()) for number in reply.as_numpy(PREDICTION_ID)[:, 0]]


def _refused(step: Step, error: InferenceServerException, chance: random.Random) -> float:
    """Count a request that got no answer; returns how long its caller waits now."""
    message = str(error.message())
    if error.status() != "StatusCode.UNAVAILABLE" or "connect" in message:
        step.failed += 1
        step.errors[f"{error.status()}: {message[:120]}"] += 1
        return 1.0
    step.refused += 1
    if (hint := _HINT.search(message)) is None:
        step.without_hint += 1
        step.errors[message[:120]] += 1
        return 1.0
    return float(hint[1]) * chance.uniform(0.75, 1.25) if step.honour else 0.0


async def _run(world: World, step: Step) -> Step:
    chance = random.Random(step.callers)
    options = [("grpc.use_local_subchannel_pool", 1)]
    clients = [triton_aio.InferenceServerClient(world.url, channel_args=options) for _ in range(min(32, step.callers))]
    began = time.monotonic()
    try:
        work = (
            _caller(world, clients[n % len(clients)], step, began + step.seconds, random.Random(chance.random()))
            for n in range(step.callers)
        )
        await asyncio.gather(*work)
    finally:
        for client in clients:
            await client.close()
    step.seconds = time.monotonic() - began  # with the answers to the last requests
    return step


def _measure(world: World, callers: int, seconds: float, *, honour: bool = True) -> Step:
    step = asyncio.run(_run(world, Step(callers, seconds, honour)))
    print(f"{callers:4d} callers: {step.figures()}", file=sys.stderr)
    return step


def _restarts(serving: Serving) -> int:
    return int(httpx.get(f"{serving.api}/healthz", timeout=30).json()["triton"]["restarts"])


def _full_disk(world: World, serving: Serving, folder: Path, seconds: float) -> dict[str, Any]:
    """Load while the log's file system has no space, and while it has some again."""
    before = serving.memory_mb()
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        free = int(_free_mb(folder) * 2**20)
        file.write(bytes(max(0, free - 2**19)))
    full = _measure(world, 16, seconds)
    during, left = serving.memory_mb(), _free_mb(folder)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=512m", str(folder)], check=True)
    space_at = time.monotonic()
    after = _measure(world, 16, seconds / 2)
    answered = {number: at for step in (full, after) for at, number in step.ids}
    logged: Counter[str] = Counter()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        rows = TrafficLog(folder).read(columns=["prediction_id"]).to_pylist()
        logged = Counter(row["prediction_id"] for row in rows)
        if all(number in logged for number in answered):
            break
        time.sleep(0.5)
    missing = [number for number in answered if number not in logged]
    return {
        "answered_requests": full.answered + after.answered,
        "failed": full.failed + after.failed,
        "wrong": full.wrong + after.wrong,
        "late": full.late + after.late,
        "free_mb_while_full": round(left, 3),
        "missing_from_log": sum(answered[number] >= space_at for number in missing),
        "missing_of_the_full_time": sum(answered[number] < space_at for number in missing),
        "doubled_in_log": sum(logged[number] > 1 for number in answered),
        "memory_mb_before": round(before["stubs"], 1),
        "memory_mb_peak": round(max(during["stubs"], serving.memory_mb()["stubs"]), 1),
    }


def _free_mb(folder: Path) -> float:
    import shutil

    return shutil.disk_usage(folder).free / 2**20


def _judge(results: dict[str, Any]) -> list[str]:
    """The conditions that are not met."""
    steps, disk = results["steps"], results["full_disk"]
    wrong = [
        f"{name} {step[name]} at {step['callers']} callers"
        for step in steps
        for name in ("wrong", "late", "failed", "refused_without_hint")
        if step[name]
    ]
    if results["restarts"]:
        wrong.append(f"restarts {results['restarts']}")
    if results["share_of_peak"] < 0.9:
        wrong.append(f"answered per second at the most callers is {results['share_of_peak']:.2f} of the peak (0.9)")
    wrong += [
        f"full disk: {name} {disk[name]}" for name in ("failed", "missing_from_log", "doubled_in_log") if disk[name]
    ]
    if disk["memory_mb_peak"] > disk["memory_mb_before"] + 300:
        wrong.append(f"full disk: memory rose from {disk['memory_mb_before']} to {disk['memory_mb_peak']} MB")
    return wrong


def main() -> None:
    """Run it and write `benchmarks/out/overload.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=30.0, help="of a step; the last one takes four times as long")
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds that a request has")
    parser.add_argument("--rows", type=int, default=600, help="training rows of the version")
    parser.add_argument("--folder", type=Path, default=record.OUT / "overload", help="workspace; its versions are kept")
    chosen = parser.parse_args()
    config = make_workspace(chosen.folder.resolve(), rows=chosen.rows)
    serving = Serving(config)
    traffic = Workspace(serving.settings).traffic(MODEL)
    traffic.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "none", str(traffic)], check=True)
    try:
        serving.start()
        url = f"{serving.settings.triton.host}:{serving.settings.triton.grpc_port}"
        right = _alone(url, _ROWS)
        world = World(url, list(right), right, chosen.deadline)
        _measure(world, 2, 5.0)  # warm
        restarts = _restarts(serving)
        *few, most = sorted(chosen.callers)
        steps = [_measure(world, callers, chosen.seconds) for callers in few]
        steps.append(_measure(world, most, 4 * chosen.seconds))
        rude = _measure(world, most, chosen.seconds, honour=False)
        results: dict[str, Any] = {
            "rows_of_a_request": _ROWS,
            "characters_of_a_text": _CHARACTERS,
            "deadline_s": chosen.deadline,
            "steps": [step.figures() for step in (*steps, rude)],
            "full_disk": _full_disk(world, serving, traffic, chosen.seconds),
            "restarts": _restarts(serving) - restarts,
        }
    finally:
        serving.stop()
        serving.end_triton()
        subprocess.run(["umount", "--lazy", str(traffic)], check=True)
    rates = [step.answered / step.seconds for step in steps]
    results["share_of_peak"] = round(rates[-1] / max(rates), 3)
    results["wrong_conditions"] = _judge(results)
    path = record.write("overload", results)
    for step in results["steps"]:
        print(step)
    print(results["full_disk"])
    print(f"restarts {results['restarts']}, share of the peak at {most} callers {results['share_of_peak']}; {path}")
    for reason in results["wrong_conditions"]:
        print(f"NOT MET: {reason}")
    sys.exit(1 if results["wrong_conditions"] else 0)


if __name__ == "__main__":
    main()
