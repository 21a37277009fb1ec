"""A model with traffic and labels but no server: rows are written into a real log, labels into a real ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.records import Origin, Route
from perennial.ops.ledger import FeedbackRow, Ledger, VersionRow, VersionState, version_card
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.writer import TrafficWriter

TOPICS = {
    "lost_card": ("lost", "card", "blocked", "stolen", "replace"),
    "top_up": ("top", "up", "balance", "reach", "today"),
    "mortgage": ("interest", "mortgage", "house", "lender", "deposit"),
}
FILLER = ("i", "my", "the", "how", "can", "please", "it", "does")
KNOWN = ("lost_card", "top_up")


@dataclass(kw_only=True)
class AnsweredRequest:
    """One answered request, and what it was really about."""

    prediction_id: str
    truth: str
    answer: str


@dataclass(kw_only=True)
class Town:
    """Version 1 is champion and knows two topics; its answers are right but for a share of `errors`."""

    folder: Path
    ledger: Ledger
    policy: dict[str, Any] = field(default_factory=lambda: {"kind": "drift", "limits": {"min_labels": 10}})
    drift: dict[str, Any] = field(default_factory=dict)
    cycle: dict[str, Any] = field(default_factory=dict)
    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    requests: list[AnsweredRequest] = field(default_factory=list)
    version: int = 1  # that answers from now on

    def __post_init__(self) -> None:
        defaults = {"window_rows": 100, "reference_rows": 200, "cooldown_requests": 100, "report_every_windows": 1000}
        model = {"policy": self.policy, "drift": defaults | self.drift, "cycle": self.cycle}
        settings = Settings(
            state=self.folder / "state", repository=self.folder / "repository", models={"intent": model}
        )
        self.workspace = Workspace(settings)
        self.ledger.register_model("intent", model)
        self.ledger.add_version(
            VersionRow(model="intent", version=1, state=VersionState.CHAMPION, card=version_card(labels=KNOWN))
        )
        route = Route(model="intent", epoch=1, champion=1, resident=(1,))
        self.ledger.set_route(route, expected_epoch=0, actor="operator", reason="first version")
        self.traffic = TrafficLog(self.workspace.traffic("intent"))
        self._writer = TrafficWriter(self.workspace.traffic("intent"), "town", dimension=8)
        self._rng = np.random.default_rng(1)
        self._callers: Sequence[str] = ()
        self._retried = 0.0

    def ask(
        self,
        rows: int,
        *,
        new: float = 0.0,
        errors: float = 0.05,
        batch: int = 7,
        callers: Sequence[str] = (),
        retried: float = 0.0,
    ) -> list[AnsweredRequest]:
        """Answer so many requests, a share `new` of them about what nobody knows; a batch shares one microsecond.

        `callers` are drawn from, nobody is named without; a share `retried` repeats the request before, caller and all.
        """
        self._callers, self._retried = callers, retried
        requests: list[AnsweredRequest] = []
        for start in range(0, rows, batch):
            size = min(batch, rows - start)
            self.now += timedelta(seconds=size)
            requests += self._batch(size, new, errors)
        self.requests += requests
        return requests

    def label(
        self, requests: Sequence[AnsweredRequest], *, origin: Origin = Origin.FEEDBACK, wrong: bool = False
    ) -> None:
        """Send the true labels, or wrong ones."""
        other = dict(zip(TOPICS, [*list(TOPICS)[1:], "lost_card"], strict=True))
        rows = [
            FeedbackRow(
                prediction_id=a.prediction_id,
                label=other[a.truth] if wrong else a.truth,
                at=self.now + timedelta(seconds=1),
                origin=origin,
            )
            for a in requests
        ]
        self.ledger.add_feedback("intent", rows)

    def close(self) -> None:
        self._writer.close()

    def _batch(self, size: int, new: float, errors: float) -> list[AnsweredRequest]:
        rng = self._rng
        truths = ["mortgage" if rng.random() < new else str(rng.choice(KNOWN)) for _ in range(size)]
        texts = [" ".join(rng.permutation([*rng.choice(FILLER, 4), *rng.choice(TOPICS[t], 3)])) for t in truths]
        answers = [t if t in KNOWN and rng.random() >= errors else str(rng.choice(KNOWN)) for t in truths]
        confidence = np.where(np.isin(truths, KNOWN), rng.beta(30, 2, size), rng.beta(6, 6, size))
        embedding = np.stack([np.eye(8)[list(TOPICS).index(t)] for t in truths]) + 0.15 * rng.normal(size=(size, 8))
        keys = [str(self._rng.choice(self._callers)) if self._callers else None for _ in range(size)]
        for row in range(1, size):
            if rng.random() < self._retried:
                keys[row], truths[row], texts[row], answers[row] = (
                    keys[row - 1],
                    truths[row - 1],
                    texts[row - 1],
                    answers[row - 1],
                )
                confidence[row], embedding[row] = confidence[row - 1], embedding[row - 1]
        stamp = int(self.now.timestamp() * 1000)
        ids = [f"{stamp:012x}{len(self.requests) + i:08x}{rng.integers(2**40):012x}" for i in range(size)]
        self._writer.append(
            {
                "prediction_id": ids,
                "at": [self.now] * size,
                "text": texts,
                "key": keys,
                "prediction": answers,
                "confidence": confidence,
                "margin": confidence / 2,
                "entropy": -np.log(confidence),
                "version": [self.version] * size,
                "arm": ["champion"] * size,
                "tokens": [7] * size,
                "known": [None] * size,
                "latency_ms": [1.0] * size,
                "redacted": [False] * size,
                "embedding": embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
            }
        )
        return [
            AnsweredRequest(prediction_id=i, truth=t, answer=a) for i, t, a in zip(ids, truths, answers, strict=True)
        ]
