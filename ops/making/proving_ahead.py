"""`python -m perennial.ops.making.proving_ahead CHAMPION`: an export that begins before there is a challenger.

CHAMPION is the spec of the champion's own export. At the lowest priority its bundle is verified, out of which the new
engine is made, and the engine repeats its known answers: what is opened here later is opened sooner. The rows that
proved it become known to its encoder in full precision. Then it waits to be told, and is `proving`.
"""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.errors import DataError, PerennialError
from perennial.continual.jobs.memory import available_mb
from perennial.continual.jobs.told import told_after
from perennial.continual.learning.lapack import one_thread_each
from perennial.continual.learning.mapped_rows import MappedRows, mapped_once
from perennial.continual.learning.trained import PROOF_FILE
from perennial.exporters.build import engines_to_try
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.port import exportable
from perennial.exporters.runtime import load_engine, load_exact
from perennial.exporters.spec import ExportSpec
from perennial.exporters.text_classification.given import head_on_given
from perennial.exporters.text_classification.part import TOKENIZER_FILE
from perennial.exporters.text_classification.texts import read_texts
from perennial.ops.making import proving
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks import serving_side

__all__ = ["main"]

logger = logging.getLogger(__name__)
_FREE_MB = 1_000.0  # of memory, below which nothing is made ready


def main(arguments: Sequence[str]) -> int:
    """Make ready, wait for the order, and be the job."""
    bundle, last, threads = arguments[:3]  # what follows tells one job from another
    work = _Work(Path(bundle), Path(last), int(threads))
    order = told_after(work.run)
    return 0 if order is None else proving.main(order, work.mapped)


class _Work:
    def __init__(self, bundle: Path, last: Path, threads: int) -> None:
        self._all = bundle, last, threads
        self.mapped: MappedRows | None = None  # None while that is under way

    def run(self) -> None:
        """Make all of it ready."""
        self.mapped = _made_ready(*self._all)


def _made_ready(bundle: Path, last: Path, threads: int) -> MappedRows | None:
    """Read, import and compile what the export will; whatever is wrong with the champion, the export itself says it.

    Returns the rows as heads see them, where there was time and memory for all.
    """
    free = available_mb()
    if free is not None and free < _FREE_MB:
        return None
    try:
        engines_to_try()
        spec = ExportSpec.from_record(json.loads(last.read_text(encoding="utf-8")))
        version = BundledVersion.around(load_engine(bundle, threads=threads), bundle, proved=True)
        if (bundle / GOLDEN).is_file():
            Golden.read(bundle).check(version.engine)
        version.answers([serving_side(spec.task).probe])
        _tokenizer_known(spec, bundle, version.engine)
        _rows_known(spec, bundle, threads)
        with one_thread_each():
            return _mapped(spec, version, bundle)
    except (PerennialError, OSError, ValueError) as error:
        logger.warning("export.not_made_ready", extra={"error": str(error)})
    return None


def _tokenizer_known(spec: ExportSpec, bundle: Path, engine: Engine) -> None:
    """What a proof and its known answers ask of a text's tokenizer, which the next version shares."""
    if (bundle / TOKENIZER_FILE).is_file():
        model = exportable(spec.task, bundle)
        model.answerer(engine, bundle).edges([])
        model.golden(bundle, seed=spec.version)


def _rows_known(spec: ExportSpec, bundle: Path, threads: int) -> None:
    """Of a head's proof in a low precision: its rows' embeddings in full precision, for which the next one asks."""
    model = exportable(spec.task, bundle)
    if (exact := model.exact(spec.embeddings)) is None:
        return
    rows = model.read(spec.held_out).spread(spec.parity_rows).inputs
    if len(exact.known(rows)) == len(rows):
        return
    if (engine := load_exact(bundle, threads=threads, reread=False)) is not None:
        exact.learn(rows, model.answerer(_WhileKept(engine, spec.held_out), bundle))


def _mapped(spec: ExportSpec, version: BundledVersion, bundle: Path) -> MappedRows | None:
    """The rows that proved the champion as its heads see them, by what its engine gives for them."""
    if spec.embeddings is None or not all((bundle / name).is_file() for name in (PROOF_FILE, TOKENIZER_FILE)):
        return None
    mapped, texts = MappedRows(), read_texts(spec.held_out)[0]
    engine = head_on_given(_WhileKept(version.engine, spec.held_out), bundle, spec.embeddings, texts)
    with mapped_once(mapped):
        BundledVersion(engine, version.side).answers(texts)
    return mapped


class _WhileKept:
    """An engine that answers while a file is there: an erasure removes the file, and then what had come of its rows."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self._engine, self._file = engine, file

    def infer(self, inputs: Inputs) -> Outputs:
        outputs = self._engine.infer(inputs)
        if not self._file.is_file():
            raise DataError(f"{self._file} has gone, so nothing is kept of its rows; the export itself reads others")
        return outputs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
