"""Traces of cycles for an OpenTelemetry collector: each is told when its cycle closes, out of the journal."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from perennial.continual.errors import ConfigurationError, PerennialError
from perennial.ops.ledger import CycleRow, JournalRow, Ledger, Phase
from perennial.ops.store.event_feed import EventFeed

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["CycleTraces", "StepSpan", "step_spans"]

logger = logging.getLogger(__name__)
_LOOK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpan:
    """One step of a cycle, from the first time that it was begun; `outcome` is empty where it only waited."""

    step: str
    begins: datetime
    ends: datetime
    tries: int
    outcome: str


def step_spans(journal: Sequence[JournalRow], closed_at: datetime) -> tuple[StepSpan, ...]:
    """Return the steps of a journal, in the order in which they began.

    A step without an outcome of its own, such as a share that is only watched, ends when the next one begins.
    """
    spans: list[StepSpan] = []
    begun: list[JournalRow] = []  # intents of the step under way: more than one where a process was killed

    def end(at: datetime, outcome: str) -> None:
        first = begun[0]
        spans.append(StepSpan(step=first.step, begins=first.at, ends=at, tries=len(begun), outcome=outcome))
        begun.clear()

    for row in journal:
        if row.phase is Phase.OUTCOME:
            if begun and begun[0].step == row.step:
                end(row.at, str((row.payload or {}).get("event") or "done"))
            continue
        if begun and begun[0].step != row.step:
            end(row.at, "")
        begun.append(row)
    if begun:
        end(closed_at, "")
    return tuple(spans)


class CycleTraces:
    """Follows what the loop tells, and sends a trace of each cycle that closes; a collector that is away loses some."""

    def __init__(self, ledger: Ledger, feed: EventFeed, url: str, *, every_s: float = _LOOK_S) -> None:
        self._ledger, self._feed, self._every_s = ledger, feed, every_s
        self._provider = _provider(url)
        self._seen = feed.last
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self, *, within_s: float) -> None:
        """Send what is known, and stop; a collector that is away is not waited for any longer."""
        self._stop.set()
        if self._thread.ident is not None:  # a start that failed earlier never began it
            self._thread.join(within_s)
        threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True).start()

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()
        self._look()
        self._provider.force_flush(timeout_millis=1_000)

    def _look(self) -> None:
        for event in self._feed.since(self._seen):
            self._seen = event.number
            if event.name == "cycle.closed":
                try:
                    self._tell(event.facts["cycle"])
                except PerennialError as exc:
                    logger.warning("traces.cycle_left_out", extra={"model": event.model, "error": str(exc)})

    def _tell(self, cycle_id: int) -> None:
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        row, journal = self._ledger.cycle(cycle_id), self._ledger.journal_of(cycle_id)
        closed_at = row.closed_at or row.saved_at
        tracer = self._provider.get_tracer("perennial")
        root = tracer.start_span("cycle", start_time=_ns(row.opened_at), attributes=_attributes(row))
        context = set_span_in_context(root)
        for span in step_spans(journal, closed_at):
            facts: dict[str, str | int] = {"perennial.outcome": span.outcome, "perennial.tries": span.tries}
            step = tracer.start_span(span.step, context=context, start_time=_ns(span.begins), attributes=facts)
            if span.outcome.endswith(("Failed", "Refused")):
                step.set_status(Status(StatusCode.ERROR, row.note or span.outcome))
            step.end(end_time=_ns(span.ends))
        root.end(end_time=_ns(closed_at))


def _attributes(row: CycleRow) -> dict[str, str | int]:
    told: dict[str, str | int | None] = {"model": row.model, "cycle": row.id, "reason": row.reason}
    told |= {"version": row.payload.get("challenger"), "outcome": row.outcome, "note": row.note}
    return {f"perennial.{name}": value for name, value in told.items() if value is not None}


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1_000


def _provider(url: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"traces.url is set, and {exc.name} is not installed; pip install 'perennial-serving[traces]'"
        ) from exc
    provider = TracerProvider(resource=Resource({"service.name": "perennial"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=5)))
    return provider
