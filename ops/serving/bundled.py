"""A version asked without any server: its bundle's engine in this process, with its task's side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perennial.exporters.batches import row_count, run_sorted
from perennial.exporters.bundle import read_manifest, verify_bundle
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.runtime import load_engine
from perennial.ops.serving.port import Answer, VersionSide
from perennial.ops.serving.tasks import serving_side

__all__ = ["BundledVersion", "EngineReply"]

_BATCH = 32


class BundledVersion:
    """A loaded bundle, whatever its task."""

    def __init__(self, engine: Engine, side: VersionSide) -> None:
        self.engine, self.side = engine, side

    @classmethod
    def load(
        cls, bundle: Path, *, threads: int = 0, cache_dir: Path | None = None, proved: bool = False
    ) -> "BundledVersion":
        """Verify the bundle and load it; with `proved` it answers as before it learnt the rows that prove it.

        Raises:
            BundleRejected: the files do not match the manifest.
            ConfigurationError: its task cannot be served here.
        """
        return cls.around(load_engine(bundle, threads=threads, cache_dir=cache_dir), bundle, proved=proved)

    @classmethod
    def around(cls, engine: Engine, bundle: Path, *, proved: bool = False) -> "BundledVersion":
        """The bundle with its engine, which was loaded and verified already."""
        return cls(engine, serving_side(read_manifest(bundle).task).open(bundle, proved=proved))

    def beside(self, bundle: Path, *, proved: bool = False, reread: bool = True) -> "BundledVersion":
        """Another bundle whose engine gives what this one's does: it is verified, and answers by this engine.

        `reread` is that of `verify_bundle`.

        Raises:
            BundleRejected: the files do not match the manifest.
        """
        task = verify_bundle(bundle, reread=reread).task
        return BundledVersion(self.engine, serving_side(task).open(bundle, proved=proved))

    def ask(self, inputs: Sequence[Any]) -> "EngineReply":
        """What the engine gives for every input, run in batches of similar length."""
        rows = self.side.encode(inputs)
        return EngineReply(self.side, inputs, rows, run_sorted(self.engine, self.side.signature, rows, _BATCH))

    def answers(self, inputs: Sequence[Any]) -> Sequence[Answer]:
        """One answer an input, in order."""
        return self.ask(inputs).answers()


class EngineReply:
    """An engine's outputs for some inputs, which may be read more than once."""

    def __init__(self, side: VersionSide, task_inputs: Sequence[Any], inputs: Inputs, outputs: Outputs) -> None:
        self._side, self._task_inputs, self._inputs, self.outputs = side, task_inputs, inputs, outputs
        self._whole: dict[frozenset[str] | None, Sequence[Answer]] = {}

    def read_by(self, side: VersionSide) -> "EngineReply":
        """The same outputs as another side of the same bundle reads them."""
        return EngineReply(side, self._task_inputs, self._inputs, self.outputs)

    def answers(self, rows: slice = slice(None), *, within: frozenset[str] | None = None) -> Sequence[Answer]:
        """The answers to some of the rows; `within` leaves the version only some of its vocabulary.

        All rows are read at once, and only once.
        """
        if not self.outputs:  # nothing was asked
            return []
        vocabulary = self._side.vocabulary
        if within is not None and vocabulary is not None and vocabulary <= within:
            within = None
        if row_count(self._inputs) > len(self._task_inputs):  # what is behind belongs to all of them together
            return self._read(rows, within)
        if within not in self._whole:
            self._whole[within] = self._read(slice(None), within)
        return self._whole[within][rows]

    def _read(self, rows: slice, within: frozenset[str] | None) -> Sequence[Answer]:
        inputs, outputs = (
            {name: array[rows] for name, array in arrays.items()} for arrays in (self._inputs, self.outputs)
        )
        return self._side.answers(self._task_inputs[rows], inputs, outputs, within=within)
