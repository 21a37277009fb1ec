"""Learners trained and compared from files, without a workspace, a ledger or a server."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.arrays import softmax
from perennial.continual.errors import DataError, TrainingFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import Progress, run_job
from perennial.continual.learning.card import FOREIGN, read_card
from perennial.continual.learning.encoder_choice import choose_encoder
from perennial.continual.learning.learners import chosen_learner
from perennial.continual.learning.names import AUTO_ENCODER
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import FileReading, KnownLabels, deduplicate, read_labelled_file, split_of
from perennial.continual.records import Example, Split

__all__ = ["Judged", "LearnerFigures", "Offline", "compare"]

_NOTHING_STATED = FileReading()
_LIMIT_S = 86_400.0  # of one training


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One trained model with its answers on the rows to compare on."""

    learner: str
    seconds: float
    labels: tuple[str, ...]
    logits: NDArray[np.float64]  # (rows, C)
    truth: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerFigures:
    """One trained model's figures, and its gain over the first one in points with a 95 % interval."""

    learner: str
    accuracy: float
    macro_f1: float
    log_loss: float | None
    calibration_error: float
    worst_class: str
    rows: int
    unknown_class_rows: int
    seconds: float
    gain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """Rows of one comparison, written where training jobs read them."""

    out: Path
    seed: int
    replay: bool
    judged: tuple[Example, ...]
    texts: tuple[str, ...]  # of the rows to learn

    @classmethod
    def prepare(
        cls,
        data: Path,
        out: Path,
        *,
        test: Path | None,
        replay: Path | None,
        holdout_share: float,
        seed: int,
        reading: FileReading = _NOTHING_STATED,
    ) -> "Offline":
        """Read the files, hold rows out by the hash of their text, and write what jobs read.

        Labels of all files bear the names that the first one gives them.

        Raises:
            DataError: a file is wrong, or too few rows are left to judge by.
        """
        from perennial.continual.learning.rows import write_rows

        known = KnownLabels()

        def read(path: Path) -> Sequence[Example]:
            return deduplicate(read_labelled_file(path, reading=reading, known=known)).examples

        rows = read(data)
        held = tuple(row for row in rows if split_of(row.text, holdout_share=holdout_share) is Split.HOLDOUT)
        judged = held if test is None else read(test)
        if not held or not judged:
            raise DataError(f"{data} leaves {len(held)} rows held out of {len(rows)}; give more rows or a larger share")
        taken = {row.text for row in held}
        write_rows(out / "examples.jsonl", [row for row in rows if row.text not in taken])
        write_rows(out / "holdout.jsonl", held)
        if replay is not None:
            write_rows(out / "replay.jsonl", read(replay))
        return cls(
            out=out, seed=seed, replay=replay is not None, judged=tuple(judged), texts=tuple(row.text for row in rows)
        )

    @property
    def judged_on(self) -> int:
        """Rows that models are compared on."""
        return len(self.judged)

    def spec(self, learner: str, params: dict[str, Any], *, encoder: str, previous: Path | None) -> JobSpec:
        """The job of one learner: the closed form, or a strategy of fine-tuning."""
        chosen, params = chosen_learner(learner, params)
        return JobSpec(
            learner=chosen.name,
            encoder=self._read_by(encoder, previous),
            previous=previous,
            examples=self.out / "examples.jsonl",
            holdout=self.out / "holdout.jsonl",
            replay=self.out / "replay.jsonl" if self.replay else None,
            out=self.out / learner,
            cache=self.out / "embeddings",
            seed=self.seed,
            nice=0,
            params=params,
        )

    def _read_by(self, encoder: str, previous: Path | None) -> str:
        """The encoder that is named, or that of the model before, or the one that the rows want."""
        if encoder != AUTO_ENCODER:
            return encoder
        before = None if previous is None else read_card(previous)
        if before is not None and previous is not None and before.encoder and before.head != FOREIGN:
            return before.encoder_source(previous)
        return choose_encoder(self.texts).encoder

    def train(
        self,
        learner: str,
        params: dict[str, Any],
        *,
        encoder: str,
        previous: Path | None,
        on_progress: Progress = lambda _: None,
    ) -> Judged:
        """Train in a process of its own and answer the rows to compare on.

        Raises:
            TrainingFailed: the process ended without a model.
        """
        from perennial.continual.learning.answering import answer

        spec = self.spec(learner, params, encoder=encoder, previous=previous)
        path, log = self.out / f"{learner}.json", self.out / f"{learner}.log"
        spec.write(path)
        start = time.monotonic()
        result = run_job(
            "perennial.continual.learning.job", [str(path)], log=log, timeout_s=_LIMIT_S, on_progress=on_progress
        )
        if result.exit_code != 0:
            raise JobErrors(what=f"learning with {learner}", failed=TrainingFailed, log=log).of(result)
        seconds = time.monotonic() - start
        labels, logits = answer(spec.out, [row.text for row in self.judged], cache=spec.cache_folder, proved=True)
        truth = tuple(row.label for row in self.judged)
        return Judged(learner=learner, seconds=seconds, labels=labels, logits=logits, truth=truth)


def compare(models: Sequence[Judged], *, seed: int = 0) -> list[LearnerFigures]:
    """Figures of each model, and of each after the first its gain over the first."""
    return [_figures(model, _gain(models[0], model, seed) if place else None) for place, model in enumerate(models)]


def _figures(model: Judged, gain: str | None) -> LearnerFigures:
    from perennial.continual.learning import metrics
    from perennial.continual.learning.calibration import log_loss, places_of

    truth = places_of(model.truth, model.labels)
    known = truth >= 0
    right = _right(model)
    sure = softmax(model.logits).max(axis=1)
    predicted = [model.labels[place] for place in model.logits.argmax(axis=1)]
    worst, share = metrics.worst_class(predicted, list(model.truth))
    return LearnerFigures(
        learner=model.learner,
        accuracy=float(right.mean()),
        macro_f1=metrics.macro_f1(predicted, list(model.truth)),
        log_loss=log_loss(model.logits[known], truth[known]) if known.any() else None,
        calibration_error=metrics.expected_calibration_error(sure, right),
        worst_class=f"{worst} ({share:.2f})",
        rows=len(right),
        unknown_class_rows=int((~known).sum()),
        seconds=round(model.seconds, 1),
        gain=gain,
    )


def _gain(first: Judged, other: Judged, seed: int) -> str:
    from perennial.continual.intervals import paired_bootstrap

    difference = paired_bootstrap(100.0 * _right(other), 100.0 * _right(first), np.random.default_rng(seed))
    return f"{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def _right(model: Judged) -> NDArray[np.bool_]:
    predicted = np.array(model.labels, dtype=object)[model.logits.argmax(axis=1)]
    right: NDArray[np.bool_] = predicted == np.array(model.truth, dtype=object)
    return right
