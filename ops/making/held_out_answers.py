"""What versions answered to the rows that proved them: kept by the rows' ids, so that no text outlives its row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.learning.proof_answers import read_proof_answers
from perennial.continual.quality import HeldOutAnswers
from perennial.ops.making.kept_report import kept_report
from perennial.ops.store.workspace import Workspace

__all__ = ["KeptAnswers", "keep_answers", "kept_answers", "note_held_out"]

_IDS = "holdout-ids.json"  # in a version's run folder, in the order of its held-out rows


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswers:
    """The ledger's id of each row, the label that was given, and how sure the version was."""

    ids: tuple[int, ...]
    given: tuple[str, ...]
    confidence: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.given) == len(self.confidence):
            raise DataError(f"{len(self.ids)} rows, {len(self.given)} answers, {len(self.confidence)} confidences")
        if not all(0 < number < 2**63 for number in self.ids) or not all(
            0.0 <= sure <= 1.0 for sure in self.confidence
        ):
            raise DataError("a row of kept answers has no id of the ledger, or a confidence outside [0, 1]")

    def of_rows(self, labels: Mapping[int, str]) -> HeldOutAnswers | None:
        """The answers to rows with these labels, by id, in the order of `ids`; None where none of them was held out."""
        left = [place for place, number in enumerate(self.ids) if number in labels]
        if not left:
            return None
        return HeldOutAnswers(
            ids=tuple(self.ids[place] for place in left),
            labels=tuple(labels[self.ids[place]] for place in left),
            given=tuple(self.given[place] for place in left),
            confidence=tuple(self.confidence[place] for place in left),
        )


def note_held_out(folder: Path, ids: Sequence[int]) -> None:
    """Note which rows a version's training is about to be proved on."""
    write_atomically(folder / _IDS, json.dumps(list(ids)))


def keep_answers(workspace: Workspace, model: str, version: int, *, trained: Path) -> None:
    """Keep what the finished training answered; a training that left no answers leaves nothing to keep."""
    noted = workspace.run(model, version) / _IDS
    answers = read_proof_answers(trained)
    if answers is None or not noted.is_file():
        return
    ids = json.loads(noted.read_text(encoding="utf-8"))
    if len(ids) != len(answers.given):
        return  # of another try, whose rows were others
    document = {"ids": ids, "given": answers.given, "confidence": answers.confidence}
    write_atomically(_path(workspace, model, version), json.dumps(document, ensure_ascii=False))


def kept_answers(workspace: Workspace, model: str, version: int) -> KeptAnswers | None:
    """The answers of a version; None where none were kept or the file is damaged."""
    return kept_report(_path(workspace, model, version), KeptAnswers)


def _path(workspace: Workspace, model: str, version: int) -> Path:
    return workspace.reports(model) / f"held-out-answers-{version}.json"
