"""A canary on a real traffic log and ledger, for `make bench-rollout`: labels come thousands of requests late."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from perennial.continual.rollout import RolloutRules, Verdict, judge_live
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.text_classification.signature import EMBEDDING, INPUT_IDS, LOGITS
from perennial.ops.comparing.live_evidence import LiveEvidenceReader
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.settings import Settings
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog, TrafficWriter

__all__ = ["LiveWorld"]

_TRUTH, _WRONG = "yes", "no"
_KINDS = {1: "gain", -1: "loss", 0: "tie"}  # a text says which version is wrong about it
_WORDS = ("[UNK]", *_KINDS.values())
_LABELS_A_LOOK = 30
_SHARE = 0.25


class LiveWorld:
    """One rollout after the other, each on a log of its own; what is asked is answered by the text."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._rng = root, np.random.default_rng(seed)
        self._ledger = Ledger.open(f"sqlite:///{root / 'ledger.db'}")
        self._rollouts = 0

    def close(self) -> None:
        """Let go of the ledger."""
        self._ledger.close()

    def rollout(self, rows: Sequence[int], unlabelled: int) -> tuple[bool, int, int]:
        """Log the rows (1 gained, -1 lost, 0 tied), then requests without a label, then label the rows bit by bit.

        Returns:
            Whether the challenger passed, how many labelled rows were compared, and how many requests were logged.
        """
        self._rollouts += 1
        model = f"model{self._rollouts}"
        settings = Settings(state=self._root / "var", repository=self._root / "repository", models={model: {}})
        workspace = Workspace(settings)
        self._ledger.register_model(model, {})
        for version in (1, 2):
            _write_text_side(workspace.repository / workspace.engine_model(model) / str(version))
        clock = iter(range(10**6))
        reader = LiveEvidenceReader(
            self._ledger,
            workspace,
            model,
            TrafficLog(workspace.traffic(model)),
            _ask,
            clock=lambda: float(next(clock)),
        )
        since = datetime.now(UTC) - timedelta(seconds=50)
        ids = self._log(workspace, model, [_KINDS[row] for row in rows], unlabelled, since)
        given, verdict, compared = 0, Verdict.UNDECIDED, 0
        while verdict is Verdict.UNDECIDED:
            part = ids[given : given + _LABELS_A_LOOK]
            given += len(part)
            now = datetime.now(UTC)
            self._ledger.add_feedback(model, [FeedbackRow(prediction_id=name, label=_TRUTH, at=now) for name in part])
            evidence = reader.read(champion=1, challenger=2, since=since, latency_ratio=1.5)
            at_limit = given == len(ids) and not evidence.waiting
            verdict, compared = judge_live(evidence, RolloutRules(), at_limit=at_limit).verdict, evidence.rows
        return verdict is Verdict.HOLDS, compared, len(ids) + unlabelled

    def _log(
        self, workspace: Workspace, model: str, kinds: Sequence[str], unlabelled: int, since: datetime
    ) -> list[str]:
        count = len(kinds) + unlabelled
        at = [since + timedelta(seconds=second) for second in np.linspace(1.0, 49.0, count)]
        ids = [f"{int(when.timestamp() * 1000):012x}{number:020x}" for number, when in enumerate(at)]
        texts = [*kinds, *["tie"] * unlabelled]
        challenged = self._rng.random(count) < _SHARE
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
        writer.append(columns | {name: [value] * count for name, value in same.items()} | {"embedding": None})
        writer.close()
        return ids[: len(kinds)]


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
