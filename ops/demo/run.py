"""The demonstration from its first training to its last page."""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import PerennialError
from perennial.continual.records import Example
from perennial.ops.commands.first_version import first_version
from perennial.ops.demo.data import FIRST_DATED, DemoData, dated_data, dated_file, folder_data, generated_data
from perennial.ops.demo.measure import Learnt, Recorded, ask_triton, examine, moments, summarise
from perennial.ops.demo.nightly import nightly_refits
from perennial.ops.demo.options import DemoOptions, write_settings
from perennial.ops.demo.recipes import Progress
from perennial.ops.demo.report import write_report
from perennial.ops.demo.served import ServedLoop, emptied, end_on_sigterm
from perennial.ops.demo.world import Answered, Labeller, Source, Stream
from perennial.ops.ledger import Ledger
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.settings import Settings, load_settings
from perennial.ops.store.workspace import Workspace

__all__ = ["Demo", "run_demo"]

logger = logging.getLogger(__name__)
_MODEL = "intent"


def run_demo(options: DemoOptions, progress: Progress) -> dict[str, Any]:
    """Run it and return the summary; `summary.json` and `report.html` lie in `options.out`.

    Raises:
        DataError: the data or the output folder cannot be used.
        DependencyUnreachable: the server did not come up.
        PerennialError: a wave was never answered by a new version in its time.
    """
    started = time.perf_counter()
    data = _data_of(options)
    emptied(options.out)
    settings = load_settings(write_settings(options))
    workspace = Workspace(settings)
    progress("training", {"rows": len(data.seed), "intents": len(data.first_intents)})
    now = datetime.now(UTC)
    with Ledger.open(settings.ledger_address) as ledger:
        seed = [Example(text=text, label=label, at=now) for text, label in data.seed]
        first_version(ledger, workspace, _MODEL, seed, lambda step: progress("training.step", step))
    demo = Demo(options, data, settings, progress)
    end_on_sigterm()
    try:
        demo.start()
        demo.live()
        return demo.finish(started)
    finally:
        demo.stop()


def _data_of(options: DemoOptions) -> DemoData:
    if options.data is None:
        return generated_data(options.seed, waves=options.waves, share=options.wave_share)
    if (dated := dated_file(options.data)) is not None:
        return dated_data(dated, first=FIRST_DATED)
    return folder_data(
        options.data,
        options.seed,
        first=options.first_intents,
        waves=options.waves,
        share=options.wave_share,
    )


def _twin(first: BundledVersion, answered: Sequence[Answered]) -> list[str]:
    """What the first version says to every request; where it answered itself, its answer is known."""
    known = {a.text: a.answer for a in answered if a.version == 1}
    rest = list(dict.fromkeys(a.text for a in answered if a.text not in known))
    known |= dict(zip(rest, (answer.kept for answer in first.answers(rest)), strict=True))
    return [known[a.text] for a in answered]


class Demo:
    """A running demonstration: the loop in a process of its own, and the world around it."""

    def __init__(self, options: DemoOptions, data: DemoData, settings: Settings, progress: Progress) -> None:
        self._options, self._data, self._settings, self._progress = options, data, settings, progress
        self._workspace = Workspace(settings)
        self._loop = ServedLoop(options.out, settings, _MODEL, progress)
        self._source = Source(data, options.seed + 1)
        self._labeller = Labeller(
            self._loop.api, _MODEL, share=options.label_share, delay_s=options.label_delay_s, seed=options.seed + 2
        )
        self._stream = Stream(
            url=self._loop.grpc,
            model=_MODEL,
            source=self._source,
            rate=options.rate,
            clients=options.clients,
            on_answer=self._labeller.consider,
        )
        self._began: list[tuple[int, datetime, int]] = []  # request, time, champion
        self._killed = False

    def start(self) -> None:
        """Start the loop and wait until it answers."""
        self._loop.start()

    def live(self) -> None:
        """Let the world happen: a steady time, the waves, and a last while in which everything is known."""
        self._stream.start()
        self._labeller.start()
        self._until("steady", lambda: self._stream.asked >= self._options.steady_requests)
        for wave in range(1, len(self._data.waves) + 1):
            self._began.append((self._stream.asked, datetime.now(UTC), self._loop.champion()))
            self._source.wave = wave
            self._progress("wave", {"wave": wave, "intents": len(self._data.waves[wave - 1].intents)})
            began = self._began[-1][1]
            self._until(f"wave {wave}: noticing and learning", partial(self._loop.has_answer_to, began))
            version = self._loop.champion()
            self._until(f"wave {wave}: version {version} serves", partial(self._has_settled, version))
        self._source.settled = True
        self._until("settling", partial(self._is_sent, self._stream.asked))
        if self._options.finish_requests is None and not self._data.in_time_order:
            self._until("last retraining", partial(self._loop.has_learnt_since, datetime.now(UTC)))
        self._until("last cycle", self._loop.is_idle)

    def finish(self, started: float) -> dict[str, Any]:
        """Stop the stream, examine, and write the pages."""
        self._progress("examining", {})
        self._stream.stop()
        self._labeller.stop()
        self._loop.follow()
        answers = ask_triton(self._loop.grpc, _MODEL, self._data.test)
        health = self._loop.health()
        self.stop()
        answered = tuple(sorted(self._stream.since(0), key=lambda a: a.number))
        recorded = Recorded(
            answered=answered,
            events=tuple(self._loop.events),
            wave_began=tuple(number for number, _, _ in self._began),
            wave_began_at=tuple(at for _, at, _ in self._began),
            triton_restarts=int(health.get("triton", {}).get("restarts", 0)),
        )
        with Ledger.open(self._settings.ledger_address) as ledger:
            route = ledger.route(_MODEL)
            buffer = ledger.load_buffer(_MODEL)
            versions = [
                {"version": v.version, "state": v.state.value, "classes": len(v.labels), "lineage": dict(v.lineage)}
                for v in ledger.versions(_MODEL)
            ]
        last = 1 if route is None else route.champion
        champions = [champion for _, _, champion in self._began]
        bundles = {v: self._workspace.bundle(_MODEL, v) for v in {1, last, *champions}}
        exam = (
            examine(self._data, bundles, answers, champions, self._workspace.engines(_MODEL))
            if self._data.test
            else None
        )
        twin = _twin(BundledVersion.load(bundles[1], cache_dir=self._workspace.engines(_MODEL)), answered)
        nightly = nightly_refits(self._data.seed, answered)
        learnt = Learnt(
            perennial=tuple(a.answer == a.label for a in answered),
            never_retrained=tuple(answer == a.label for answer, a in zip(twin, answered, strict=True)),
            tfidf_nightly=nightly.right,
            nights=nightly.nights,
        )
        summary = summarise(
            recorded,
            exam,
            learnt,
            moments(recorded),
            replay_rows=0 if buffer is None else len(buffer.rows),
            wall_seconds=time.perf_counter() - started,
        )
        write_report(self._options.out / "report.html", recorded, learnt, summary, f"On {self._data.name}")
        summary["wall_seconds"] = time.perf_counter() - started
        summary["versions"] = versions
        write_atomically(self._options.out / "summary.json", json.dumps(summary, indent=1, default=str))
        return summary

    def stop(self) -> None:
        """End everything that was started; calling it again does nothing."""
        self._stream.stop()
        self._labeller.stop()
        self._loop.stop()

    def _until(self, what: str, done: Callable[[], bool]) -> None:
        self._loop.until(what, done, self._tick, timeout_s=self._options.wave_timeout_s)

    def _tick(self, what: str) -> None:
        self._maybe_kill()
        recent = self._stream.since(max(0, len(self._stream.answered) - 200))
        right = [a.answer == a.label for a in recent]
        self._progress(
            "tick",
            {
                "phase": what,
                "requests": self._stream.asked,
                "failed": self._stream.failed,
                "labels": self._labeller.delivered,
                "accuracy": sum(right) / len(right) if right else None,
                "version": recent[-1].version if recent else 0,
            },
        )
        if self._stream.asked > self._options.most_requests:
            raise PerennialError(
                f"{what!r} was not over after {self._stream.asked} requests; the loop's log is {self._loop.log}"
            )

    def _has_settled(self, version: int) -> bool:
        served = sum(1 for a in self._stream.since(0) if a.version == version)
        return served >= self._options.settle_requests

    def _is_sent(self, settled_at: int) -> bool:
        """Enough of the settled world has been seen."""
        if self._stream.asked >= self._options.most_requests * 0.9:
            return True
        enough = self._options.finish_requests
        return self._source.left() == 0 if enough is None else self._stream.asked >= settled_at + enough

    def _maybe_kill(self) -> None:
        at = self._options.kill_triton_at
        if at is None or self._killed or self._stream.asked < at:
            return
        pid = json.loads((self._workspace.state / "triton" / "server.json").read_text(encoding="utf-8"))["pid"]
        os.kill(int(pid), signal.SIGKILL)
        self._killed = True
        self._progress("killed", {"pid": pid, "request": self._stream.asked})
