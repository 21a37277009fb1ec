"""`python -m perennial.ops.making.proving EXPORT.json JUDGE.json`: an export, and the judgement of what came of it.

The judgement answers by the engine that was opened to prove the bundle: opening it once more, in a process of its own,
would take longer than all that it is asked. It goes on beside the proof, and counts only if the engine is accepted.
Both versions are timed, and the golden answers asked for, when the proof is over. What came of it lies beside the spec
until the judgement's own step looks for it. Where there is none, because the process was killed or the judgement
failed, that step makes it itself.
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import PerennialError
from perennial.continual.learning.lapack import one_thread_each
from perennial.continual.learning.mapped_rows import MappedRows
from perennial.continual.records import PromotionDecision
from perennial.exporters.bundle import MANIFEST, digest
from perennial.exporters.job import Finish, Opened, run
from perennial.ops.making.judging import Compared, JudgingSpec, compare, decide

__all__ = ["Anticipated", "main"]

_FILE = "anticipated.json"
_ROWS = ("fresh", "old", "attributes")  # labels that came since the export began are for the next judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Anticipated:
    """A decision that was made before its step began: on which bundle, by which questions."""

    manifest_sha256: str
    asked_sha256: str
    decision: PromotionDecision

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The one in a version's work folder; None where there is none, or another release wrote it otherwise."""
        try:
            document = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            return cls(**{**document, "decision": PromotionDecision.from_json(document["decision"])})
        except (OSError, AttributeError, KeyError, TypeError, ValueError):
            return None

    @classmethod
    def of(cls, spec: JudgingSpec, decision: PromotionDecision) -> Self:
        """The decision on the bundle that lies there now."""
        return cls(manifest_sha256=_bundle(spec), asked_sha256=_asked(spec), decision=decision)

    def write(self, folder: Path) -> None:
        """Put it into a version's work folder."""
        write_atomically(folder / _FILE, json.dumps(asdict(self)))

    def answers(self, spec: JudgingSpec) -> bool:
        """Whether it is what a judgement by this spec would be, but for rows that were labelled meanwhile."""
        return (self.manifest_sha256, self.asked_sha256) == (_bundle(spec), _asked(spec))


def _bundle(spec: JudgingSpec) -> str:
    return digest(Path(spec.challenger_bundle) / MANIFEST, reread=True)


def _asked(spec: JudgingSpec) -> str:
    asked: dict[str, Any] = {name: value for name, value in spec.record().items() if name not in _ROWS}
    return sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class _Beside:
    """A comparison beside the proof of an engine; the newest one's is kept while its engine is not refused."""

    def __init__(self, spec: JudgingSpec, pool: ThreadPoolExecutor, known: MappedRows | None = None) -> None:
        self._spec, self._pool, self._known = spec, pool, known
        self._found: Future[Compared] | None = None

    def begin(self, opened: Opened, bundle: Path) -> Finish:
        """See `export_bundle`."""
        spec = replace(self._spec, challenger_bundle=str(bundle))
        found = self._found = self._pool.submit(copy_context().run, compare, spec, opened, self._known)

        def finish(accepted: bool) -> None:
            wait([found])
            if not accepted:
                self._found = None  # nobody keeps the engine in memory

        return finish

    def decision(self) -> PromotionDecision:
        """On the bundle in its place.

        Raises:
            PerennialError: see `compare`.
        """
        return decide(self._spec, compared=None if self._found is None else self._found.result())


def main(arguments: Sequence[str], known: MappedRows | None = None) -> int:
    """Exit as the export does; a judgement that fails is left to its own step. `known` is what was mapped ahead."""
    export, judge = (Path(argument) for argument in arguments)
    spec = JudgingSpec(**json.loads(judge.read_text(encoding="utf-8")))
    if (Path(spec.challenger_bundle) / MANIFEST).is_file():
        return 0  # by a try that something killed while it judged
    with one_thread_each(), ThreadPoolExecutor(1, "judgement") as pool:  # of numpy; an engine has threads of its own
        beside = _Beside(spec, pool, known)
        code = run(export, beside.begin)
        if code == 0:
            try:
                Anticipated.of(spec, beside.decision()).write(judge.parent)
            except PerennialError as exc:
                sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
