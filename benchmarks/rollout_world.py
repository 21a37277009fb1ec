"""A rollout on a real traffic log and ledger by a simulated clock, for `make bench-rollout`: labels come hours late."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.rollout_table import Cell
from perennial.continual.labelling import Reason
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.text_classification.signature import EMBEDDING, INPUT_IDS, LOGITS
from perennial.ops.comparing.live_evidence import LiveEvidenceReader
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.settings import Settings
from perennial.ops.store.state import LABEL_QUEUE, QueueChoice
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog, TrafficWriter

__all__ = ["LiveWorld", "Read"]

_TRUTH, _WRONG = "yes", "no"
_KINDS = ("gain", "loss", "tie")  # a text says which version is wrong about it
_WORDS = ("[UNK]", *_KINDS)
_SHARE = 0.25
_UNLABELLED = 5  # requests for each one that gets a label
_BEGAN = timedelta(days=5)  # ago: labels cannot be given in the future


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """How often the reader's counts were looked at, and were those of the labels that had come."""

    looks: int
    equal: int
    hours: float


class LiveWorld:
    """One rollout after the other, each on a log of its own; what is asked is answered by the text."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._rng = root, np.random.default_rng(seed)
        self._ledger = Ledger.open(f"sqlite:///{root / 'ledger.db'}")
        self._rollouts = 0

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    def rollout(self, cell: Cell, late_h: float, labels_an_hour: float) -> Read:
        """Log requests for the cell's labels, let each label come so many hours later, and read after every hour."""
        self._rollouts += 1
        model = f"model{self._rollouts}"
        settings = Settings(state=self._root / "var", repository=self._root / "repository", models={model: {}})
        workspace = Workspace(settings)
        self._ledger.register_model(model, {})
        for version in (1, 2):
            _write_text_side(workspace.repository / workspace.engine_model(model) / str(version))
        began = datetime.now(UTC) - _BEGAN
        clock = _Clock(began)
        reader = LiveEvidenceReader(
            self._ledger,
            workspace,
            model,
            TrafficLog(workspace.traffic(model)),
            _ask,
            clock=lambda: clock.seconds,
            now=lambda: clock.now,
        )
        gain, loss = cell.chances
        kinds = self._rng.choice(_KINDS, p=[gain, loss, max(0.0, 1 - gain - loss)], size=cell.labels).tolist()
        asked_at = [began + timedelta(hours=(place + 1) / labels_an_hour) for place in range(cell.labels)]
        ids = self._log(workspace, model, kinds, asked_at)
        if cell.asked:
            chosen = [QueueChoice(prediction_id=name, reason=Reason.DISPUTED, probability=1.0) for name in ids]
            LABEL_QUEUE.keep(self._ledger, model, tuple(chosen))
        hours = int(np.ceil(cell.labels / labels_an_hour + late_h)) + 1
        given = looks = equal = 0
        for hour in range(1, hours + 1):
            clock.now = began + timedelta(hours=hour)
            come = [at + timedelta(hours=late_h) for at in asked_at]
            known = sum(at <= clock.now for at in come)
            rows = [FeedbackRow(prediction_id=ids[i], label=_TRUTH, at=come[i]) for i in range(given, known)]
            self._ledger.add_feedback(model, rows)
            given = known
            for _ in range(2 + len(rows) // 32):  # 32 texts a second are asked
                clock.seconds += 1.0
                evidence = reader.read(champion=1, challenger=2, since=began, latency_ratio=1.5)
            expected = tuple(kinds[:known].count(kind) for kind in _KINDS)
            found = (evidence.gains, evidence.losses, evidence.ties)
            disputed = (evidence.disputed_gains, evidence.disputed_losses, evidence.disputed_ties)
            looks += 1
            equal += found == expected and disputed == (expected if cell.asked else (0, 0, 0))
        return Read(looks=looks, equal=equal, hours=float(hours))

    def _log(self, workspace: Workspace, model: str, kinds: Sequence[str], asked_at: Sequence[datetime]) -> list[str]:
        """The requests that get a label, and others between them that get none; the ids of the former."""
        texts = [text for kind in kinds for text in (kind, *["tie"] * _UNLABELLED)]
        at = [when - timedelta(seconds=n) for when in asked_at for n in range(1 + _UNLABELLED)]
        ids = [f"{int(when.timestamp() * 1000):012x}{number:020x}" for number, when in enumerate(at)]
        challenged = self._rng.random(len(at)) < _SHARE
        wrong = {True: "loss", False: "gain"}
        columns: dict[str, Any] = {
            "prediction_id": ids,
            "at": at,
            "text": texts,
            "prediction": [
                _WRONG if wrong[bool(new)] == text else _TRUTH for text, new in zip(texts, challenged, strict=True)
            ],
            "version": [2 if new else 1 for new in challenged],
            "arm": ["challenger" if new else "champion" for new in challenged],
        }
        same = {"key": None, "confidence": 0.9, "margin": 0.5, "entropy": 0.1, "tokens": 1, "latency_ms": 2.0}
        same |= {"redacted": False, "known": None}
        writer = TrafficWriter(workspace.traffic(model), "router")
        writer.append(columns | {name: [value] * len(at) for name, value in same.items()} | {"embedding": None})
        writer.close()
        return ids[:: 1 + _UNLABELLED]


@dataclass(slots=True)
class _Clock:
    now: datetime
    seconds: float = 0.0


def _ask(version: int, inputs: Inputs) -> Outputs:
    wrong = inputs[INPUT_IDS][:, 0] == _WORDS.index("loss" if version == 2 else "gain")
    logits = np.stack([~wrong, wrong], axis=1).astype(np.float32)
    return {LOGITS: logits, EMBEDDING: logits}


def _write_text_side(folder: Path) -> None:
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "labels.json").write_text(json.dumps([_TRUTH, _WRONG]))
