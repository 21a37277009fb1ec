"""What an erasure found, written down in a private file until it is done, so that a killed one is finished whole."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from perennial.continual.atomic_file import write_atomically
from perennial.continual.preparation import fold_width
from perennial.continual.records import Example, Origin
from perennial.continual.task import AnyRow, AnyTask, KeptRow
from perennial.ops.store.workspace import Workspace

__all__ = ["ErasureNote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureNote:
    """Rows that must leave a model's head, the versions that learnt them, and what the search looks for in the end."""

    path: Path
    task: AnyTask
    rows: tuple[AnyRow, ...] = ()
    versions: tuple[int, ...] = ()
    prediction_ids: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()  # of requests that nobody labelled

    @classmethod
    def of(cls, workspace: Workspace, model: str, key: str, task: AnyTask) -> Self:
        """What an unfinished erasure of the key wrote down; an empty note where there is none.

        The rows are those of the model's task.
        """
        path = workspace.state / "erasure" / model / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return cls(
            path=path,
            task=task,
            rows=tuple(_row(written, task) for written in fields.get("rows", ())),
            versions=tuple(fields.get("versions", ())),
            prediction_ids=frozenset(fields.get("prediction_ids", ())),
            texts=frozenset(fields.get("texts", ())),
        )

    def joined(
        self,
        rows: Iterable[AnyRow],
        *,
        versions: Iterable[int],
        prediction_ids: Iterable[str],
        texts: Iterable[str],
    ) -> Self:
        """The note with what was found now; each input once, and each way in which its texts were written."""
        together = {(self.task.identity(row.input), *self.task.texts(row.input)): row for row in (*self.rows, *rows)}
        return replace(
            self,
            rows=tuple(together.values()),
            versions=tuple(sorted({*self.versions, *versions})),
            prediction_ids=self.prediction_ids | set(prediction_ids),
            texts=self.texts | set(texts),
        )

    def write(self) -> None:
        """Keep it, for its owner alone."""
        fields = {
            "rows": [asdict(self.task.keep(row)) | {"at": row.at.isoformat(), "attributes": {}} for row in self.rows],
            "versions": list(self.versions),
            "prediction_ids": sorted(self.prediction_ids),
            "texts": sorted(self.texts),
        }
        write_atomically(self.path, json.dumps(fields, ensure_ascii=False), mode=0o600)

    @property
    def every_text(self) -> frozenset[str]:
        """Texts of labelled rows and of requests, each also as versions read it."""
        written = self.texts | {text for row in self.rows for text in self.task.texts(row.input)}
        return written | {fold_width(text) for text in written}


def _row(written: Any, task: AnyTask) -> AnyRow:
    """A row of a note; earlier releases wrote text, label and time as a list."""
    if isinstance(written, list):
        text, label, at = written
        return Example(text=text, label=label, at=datetime.fromisoformat(at), origin=Origin.SEED)
    fields = written | {"at": datetime.fromisoformat(written["at"]), "origin": Origin(written["origin"])}
    return task.read_kept(KeptRow(**fields))
