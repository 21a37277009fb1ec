"""Makes a challenger: rows out of the ledger, a model out of a training process, a bundle out of an export process."""

import json
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.errors import BundleRejected, DataError, ExportFailed, ParityFailed, TrainingFailed
from perennial.continual.jobs.process import KILLED_RETRIES, JobResult, run_job
from perennial.continual.learning.rows import write_rows
from perennial.continual.records import Example, PromotionDecision, Split
from perennial.ops.ledger import Ledger, StoredExample, VersionRow
from perennial.ops.making.demands import Demands
from perennial.ops.making.judging import JudgingSpec
from perennial.ops.making.starting_point import StartingPoint, keep_encoder, learner_params
from perennial.ops.store.replay_buffer import open_buffer
from perennial.ops.store.workspace import Workspace, write_atomically
from perennial.ops.traffic import TrafficLog

__all__ = ["ChallengerMaker", "HoldoutRows", "TrainingRows"]

logger = logging.getLogger(__name__)
_TAUGHT = "taught.json"  # in a version's run folder: the rows that its training was given
Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """What one training learns from. `learnt` are the ids that the new version will have learnt in the end.

    `last_example_id` was the newest in the ledger when the rows were read.
    """

    fresh: tuple[StoredExample, ...]
    replay: tuple[Example, ...]
    learnt: tuple[int, ...]
    last_example_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutRows:
    """Rows kept for proof: those that came since the champion was trained, and those from before."""

    fresh: tuple[Example, ...]
    old: tuple[Example, ...]


class ChallengerMaker:
    """Carries out training, export and judgement of one model's challengers. Every method may be repeated."""

    def __init__(self, ledger: Ledger, workspace: Workspace, model: str) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._settings = workspace.model(model)
        self.cancel = threading.Event()

    def training_rows(self, champion: VersionRow | None) -> TrainingRows:
        """Rows that the champion has not learnt yet, and the replay buffer's.

        A label that is new to the champion counts once it has `min_class_rows` rows, or a description: a slip of a
        labeller's pen makes no class. Without a champion to go on from, all rows are fresh.
        """
        last = self._ledger.last_example_id(self._model)  # before the rows: one that comes between is proof, not old
        parent, candidates = self._candidates(champion)
        known = set() if champion is None else set(champion.labels)
        known |= {row.label for row in self._ledger.descriptions(self._model)}
        counts: dict[str, int] = {}
        for stored in candidates:
            counts[stored.example.label] = counts.get(stored.example.label, 0) + 1
        enough = self._settings.learning.min_class_rows
        fresh = tuple(s for s in candidates if s.example.label in known or counts[s.example.label] >= enough)
        return TrainingRows(
            fresh=fresh,
            replay=tuple(open_buffer(self._ledger, self._workspace, self._model).rows()),
            learnt=(*self._inherited(parent, candidates), *(s.id for s in fresh)),
            last_example_id=last,
        )

    def taught_rows(self, version: int, champion: VersionRow | None) -> TrainingRows:
        """The rows of the training that made this version, whatever has come since; erased and relabelled ones miss.

        `learnt` holds the relabelled ones too: the version learnt them as they were.
        """
        noted = self._workspace.run(self._model, version) / _TAUGHT
        if not noted.is_file():  # trained before such notes were taken
            return self.training_rows(champion)
        told = json.loads(noted.read_text(encoding="utf-8"))
        ids = set(told["ids"])
        parent, candidates = self._candidates(champion)
        return TrainingRows(
            fresh=tuple(s for s in self._all_train() if s.id in ids),
            replay=tuple(open_buffer(self._ledger, self._workspace, self._model).rows()),
            learnt=(*self._inherited(parent, candidates), *sorted(ids)),
            last_example_id=int(told["last_example_id"]),
        )

    def holdout_rows(self, champion: VersionRow | None) -> HoldoutRows:
        """Held-out rows, told apart by whether they came before or after the champion's training.

        At most `holdout_rows` old ones are taken, drawn by the workspace's seed, so that proof stays affordable.
        """
        last = 0 if champion is None else int(champion.lineage.get("last_example_id", 0))
        rows = self._ledger.examples(self._model, split=Split.HOLDOUT)
        old = [s.example for s in rows if s.id <= last]
        most = self._settings.learning.holdout_rows
        if len(old) > most:
            chosen = np.random.default_rng(self._workspace.settings.seed).permutation(len(old))[:most]
            old = [old[i] for i in sorted(chosen)]
        fresh = [s.example for s in rows if s.id > last]
        return HoldoutRows(fresh=tuple(fresh[-most:]), old=tuple(old))

    def train(self, version: int, champion: VersionRow | None, rows: TrainingRows, on_progress: Progress) -> Path:
        """Train in a process of its own and return the trained model's folder.

        A folder that is complete already is returned as it is; a training that was killed goes on where it can.

        Raises:
            DataError: there is nothing to learn from.
            TrainingFailed: the process ended without a model.
        """
        folder = self._workspace.run(self._model, version)
        trained = folder / "trained"
        if (trained / "model.json").is_file():
            keep_encoder(trained, self._start(champion).encoder)  # the last try may have ended before it
            return trained
        if not rows.fresh and champion is None:
            raise DataError(
                f"model {self._model} has no labelled training rows; import some with `perennial feedback import`"
            )
        learning, start = self._settings.learning, self._start(champion)
        holdout = self.holdout_rows(champion)
        if learning.reuse_logged_embeddings:
            self._reuse_embeddings(start.encoder, [*(s.example for s in rows.fresh), *holdout.fresh])
        write_rows(folder / "examples.jsonl", [s.example for s in rows.fresh])
        write_rows(folder / "replay.jsonl", rows.replay)
        write_rows(folder / "holdout.jsonl", [*holdout.old, *holdout.fresh])
        spec = {
            "learner": learning.learner,
            "encoder": start.encoder,
            "previous": None if start.previous is None else str(start.previous),
            "examples": str(folder / "examples.jsonl"),
            "replay": str(folder / "replay.jsonl"),
            "holdout": str(folder / "holdout.jsonl"),
            "out": str(trained),
            "seed": self._workspace.settings.seed,
            "threads": learning.threads,
            "nice": 0,  # the process is niced as a whole
            "max_length": learning.max_length,
            "cache": str(self._embeddings),
            "parent_version": None if champion is None else champion.version,
            "params": learner_params(self._ledger, self._workspace, self._model),
        }
        noted = {"ids": [s.id for s in rows.fresh], "last_example_id": rows.last_example_id}
        write_atomically(folder / _TAUGHT, json.dumps(noted))
        write_atomically(folder / "train.json", json.dumps(spec, indent=1))
        result = self._run("perennial.continual.learning.job", folder, "train", learning.timeout_s, on_progress)
        if result.exit_code != 0 or not (trained / "model.json").is_file():
            raise TrainingFailed(_ended(f"training of {self._model} version {version}", result, folder / "train.log"))
        keep_encoder(trained, start.encoder)
        return trained

    def export(
        self, version: int, champion: VersionRow | None, rows: TrainingRows, cycle_id: int | None, on_progress: Progress
    ) -> Path:
        """Export and verify in a process of its own and return the staged bundle's folder.

        Raises:
            ParityFailed: the engine does not answer like the model.
            ExportFailed: the process ended without a bundle.
        """
        folder = self._workspace.run(self._model, version)
        staged = self._workspace.repository / ".staging" / f"{self._workspace.engine_model(self._model)}-{version}"
        if (staged / "manifest.json").is_file():
            return staged  # it appeared by one rename, complete
        holdout = self.holdout_rows(champion)
        proof = [*holdout.old, *holdout.fresh] or [s.example for s in rows.fresh]
        held_out = {"texts": [e.text for e in proof], "labels": [e.label for e in proof]}
        write_atomically(folder / "heldout.json", json.dumps(held_out, ensure_ascii=False))
        taught = [e.text for e in (*(s.example for s in rows.fresh), *rows.replay)]
        write_atomically(
            folder / "calibration.json", json.dumps({"texts": taught or held_out["texts"]}, ensure_ascii=False)
        )
        engine = self._settings.engine
        parent = None if champion is None else champion.version
        spec = {
            "trained_dir": str(folder / "trained"),
            "out_dir": str(staged),
            "engine": engine.engine,
            "precision": engine.precision,
            "held_out": str(folder / "heldout.json"),
            "calibration": str(folder / "calibration.json"),
            "previous_bundle": None if parent is None else str(self._workspace.bundle(self._model, parent)),
            "model": self._model,
            "version": version,
            "lineage": {
                "parent_version": parent,
                "cycle_id": None if cycle_id is None else str(cycle_id),
                "learner": self._settings.learning.learner,
                "rows": len(rows.fresh),
                "replay_rows": len(rows.replay),
            },
            "threads": self._settings.learning.threads,
            "parity_rows": engine.parity_rows,
            "limits_by_precision": engine.limits,
            "result": str(folder / "export.result.json"),
        }
        write_atomically(folder / "export.json", json.dumps(spec, indent=1))
        result = self._run("perennial.exporters.job", folder, "export", engine.timeout_s, on_progress)
        if (staged / "manifest.json").is_file():
            return staged  # whatever became of the process after that
        if result.exit_code == ParityFailed.exit_code:
            raise ParityFailed(result.tail.splitlines()[-1] if result.tail else "the parity gate refused the engine")
        raise ExportFailed(_ended(f"export of {self._model} version {version}", result, folder / "export.log"))

    def judge(self, version: int, champion: VersionRow) -> PromotionDecision:
        """Champion against challenger on held-out rows, in a process of its own.

        Raises:
            BundleRejected: a bundle is altered, or the challenger does not repeat its golden answers.
            ExportFailed: the process ended without a decision; something killed it, or the engine crashed in it.
        """
        folder = self._workspace.run(self._model, version)
        holdout = self.holdout_rows(champion)
        learning = self._settings.learning
        demands = Demands.on(self._ledger, self._workspace, self._model, version, champion)
        staged = self._workspace.repository / ".staging" / f"{self._workspace.engine_model(self._model)}-{version}"
        published = self._workspace.bundle(self._model, version)
        spec = JudgingSpec(
            champion=champion.version,
            challenger=version,
            champion_bundle=str(self._workspace.bundle(self._model, champion.version)),
            challenger_bundle=str(published if published.is_dir() else staged),
            fresh=[[e.text, e.label] for e in holdout.fresh],
            old=[[e.text, e.label] for e in holdout.old],
            rules=demands.rules,
            old_among_all=demands.old_among_all,
            seed=self._workspace.settings.seed,
            threads=learning.threads,
            cache=str(self._workspace.cache),
            task=self._settings.task,
        )
        write_atomically(folder / "judge.json", json.dumps(asdict(spec)))
        (folder / "decision.json").unlink(missing_ok=True)
        result = self._run("perennial.ops.making.judging", folder, "judge", learning.timeout_s, lambda _: None)
        path = folder / "decision.json"
        if result.exit_code == BundleRejected.exit_code:
            raise BundleRejected(result.tail.splitlines()[-1] if result.tail else "the test load refused the bundle")
        if result.exit_code != 0 or not path.is_file():
            raise ExportFailed(_ended(f"judgement of {self._model} version {version}", result, folder / "judge.log"))
        told = json.loads(path.read_text(encoding="utf-8"))
        return PromotionDecision(**{**told, "reasons": tuple(told["reasons"])})

    def remember(self, rows: TrainingRows) -> int:
        """Offer what was learnt to the replay buffer, save it, and return how many rows it holds.

        The buffer knows a text by its hash, so that offering the same rows again after a crash changes nothing. A row
        that was a request comes with the doubt of the version that answered it.
        """
        buffer = open_buffer(self._ledger, self._workspace, self._model)
        names = [s.example.prediction_id for s in rows.fresh if s.example.prediction_id is not None]
        table = TrafficLog(self._workspace.traffic(self._model)).lookup(names, columns=["prediction_id", "confidence"])
        sure = dict(zip(table["prediction_id"].to_pylist(), table["confidence"].to_pylist(), strict=True))
        for stored in rows.fresh:
            known = sure.get(stored.example.prediction_id)
            doubt = None if known is None else min(1.0, max(0.0, 1.0 - known))
            buffer.offer(stored.example, uncertainty=doubt)
        self._ledger.save_buffer(self._model, buffer.state())
        return len(buffer.rows())

    @property
    def _embeddings(self) -> Path:
        return self._workspace.state / "embeddings"

    def _reuse_embeddings(self, encoder_name: str, examples: Sequence[Example]) -> None:
        """Hand the embeddings that answered these texts to the training, so that it need not make them again.

        Taken are those of versions with the learner's own encoder, and only where the logged text is the text that was
        embedded: nothing was taken out of it.
        """
        from perennial.continual.learning.embedding_cache import EmbeddingCache
        from perennial.continual.learning.encoder import fingerprint, hidden_size, resolve_encoder

        learning = self._settings.learning
        folder = resolve_encoder(encoder_name)
        encoder = fingerprint(folder)
        same = [v.version for v in self._ledger.versions(self._model) if v.encoder_fingerprint == encoder]
        texts = {e.prediction_id: e.text for e in examples if e.prediction_id is not None and not e.redacted}
        columns = ["prediction_id", "version", "embedding"]
        table = TrafficLog(self._workspace.traffic(self._model)).lookup(list(texts), columns=columns)
        table = table.filter(pc.is_in(table["version"], value_set=pa.array(same, pa.int64())))
        table = table.filter(pc.is_valid(table["embedding"]))
        dimension = hidden_size(folder)
        if not table.num_rows or getattr(table["embedding"].type, "list_size", None) != dimension:
            return
        made = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
        cache = EmbeddingCache(self._embeddings, encoder=encoder, max_length=learning.max_length, dimension=dimension)
        cache.remember([texts[name] for name in table["prediction_id"].to_pylist()], made)

    def _start(self, champion: VersionRow | None) -> StartingPoint:
        return StartingPoint.of(self._ledger, self._workspace, self._model, champion)

    def _candidates(self, champion: VersionRow | None) -> tuple[int | None, tuple[StoredExample, ...]]:
        """The version that a training goes on from, and the rows that it has not learnt."""
        parent = None if self._start(champion).afresh or champion is None else champion.version
        return parent, self._ledger.examples(self._model, split=Split.TRAIN, not_learnt_by=parent)

    def _inherited(self, parent: int | None, candidates: Sequence[StoredExample]) -> tuple[int, ...]:
        """What the parent had learnt."""
        if parent is None:
            return ()
        new = {s.id for s in candidates}
        return tuple(s.id for s in self._all_train() if s.id not in new)

    def _all_train(self) -> tuple[StoredExample, ...]:
        return self._ledger.examples(self._model, split=Split.TRAIN)

    def _run(self, module: str, folder: Path, name: str, timeout_s: float, on_progress: Progress) -> JobResult:
        return run_job(
            module,
            [str(folder / f"{name}.json")],
            log=folder / f"{name}.log",
            timeout_s=timeout_s,
            niceness=self._settings.learning.niceness,
            cancel=self.cancel,
            on_progress=on_progress,
            killed_retries=KILLED_RETRIES,
        )


def _ended(what: str, result: JobResult, log: Path) -> str:
    if result.cancelled:
        return f"{what} was cancelled"
    if result.timed_out:
        return f"{what} took longer than its limit; raise the model's timeout_s or give it fewer rows (log: {log})"
    last = result.tail.splitlines()[-1] if result.tail else "nothing on stderr"
    if result.exit_code < 0:
        name = signal.Signals(-result.exit_code).name
        why = {"SIGKILL": "the system may be out of memory", "SIGTERM": "somebody ended it"}.get(name, "it crashed")
        return f"{what} was ended by {name} {1 + KILLED_RETRIES} times ({why}): {last} (log: {log})"
    return f"{what} ended with exit code {result.exit_code}: {last} (log: {log})"
