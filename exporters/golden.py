"""Known answers that travel with a bundle: a loaded engine must repeat them before it may serve."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import drop_leftovers, write_atomically
from perennial.continual.errors import BundleRejected
from perennial.exporters.batches import joined
from perennial.exporters.bundle import MANIFEST, FileRecord, read_manifest, verify_bundle, write_manifest
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.signature import FP32, INT64, UINT8, Array, EngineSignature
from perennial.exporters.text_classification.signature import ATTENTION_MASK, INPUT_IDS, LOGITS

__all__ = ["GOLDEN", "Golden", "Known", "forget_texts"]

GOLDEN = "golden.json"
_FORMAT = "perennial.golden/2"
_TYPES: Mapping[str, Any] = {FP32: np.float32, INT64: np.int64, UINT8: np.uint8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One tensor of every known row, each as it is alone: nested tuples of numbers, not padded."""

    datatype: str
    rows: tuple[Any, ...]

    def arrays(self) -> list[Array]:
        """One array a row, its own dimension first."""
        return [np.asarray([row], dtype=_TYPES[self.datatype]) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A few rows of an engine's inputs and the outputs that the verified engine gave, each row alone.

    The rows are nobody's. `tolerance` is the largest absolute difference of an output that a healthy load may show,
    batching included. `beside` are the other outputs, which stay while only a head changes.
    """

    inputs: Mapping[str, Known]
    outputs: Mapping[str, Known]
    tolerance: float
    beside: Mapping[str, Known] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: Engine, signature: EngineSignature, rows: Sequence[Inputs], *, tolerance: float) -> "Golden":
        """What the engine answers to each row alone, without the rows that it answers otherwise in a batch.

        Rows drawn by chance may lie where a low precision is coarse; where no row is left the tolerance gives way.
        """
        answers = [engine.infer(row) for row in rows]
        together = engine.infer(joined(rows))
        apart = [
            max(_apart(answer[name][0], together[name][place]) for name in signature.proved)
            for place, answer in enumerate(answers)
        ]
        steady = [place for place, difference in enumerate(apart) if difference <= tolerance / 2]
        kept = steady or range(len(rows))
        types = {tensor.name: tensor.datatype for tensor in (*signature.inputs, *signature.outputs)}

        def known(of: Sequence[Mapping[str, Array]], names: Sequence[str]) -> dict[str, Known]:
            return {
                name: Known(datatype=types[name], rows=tuple(_tuples(of[place][name][0].tolist()) for place in kept))
                for name in names
            }

        return cls(
            inputs=known(rows, signature.input_names),
            outputs=known(answers, signature.proved),
            beside=known(answers, [name for name in signature.output_names if name not in signature.proved]),
            tolerance=tolerance if steady else 2 * max(apart),
        )

    def write(self, folder: Path) -> None:
        """Put `golden.json` into the folder."""
        record = {
            "format": _FORMAT,
            "tolerance": self.tolerance,
            "inputs": {name: _record(known) for name, known in self.inputs.items()},
            "outputs": {name: _record(known) for name, known in self.outputs.items()},
            "beside": {name: _record(known) for name, known in self.beside.items()},
        }
        (folder / GOLDEN).write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """The known answers of the bundle in `folder`.

        Earlier releases knew token rows and logits alone. The texts that some kept beside them are not read.

        Raises:
            BundleRejected: the file is none of known answers.
        """
        path = folder / GOLDEN
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if raw.get("format", _FORMAT) != _FORMAT:
                raise BundleRejected(f"{path} has format {raw['format']!r}; this version reads {_FORMAT!r}")
            if "format" not in raw:
                rows = raw["input_ids"]
                raw["inputs"] = {
                    INPUT_IDS: {"datatype": INT64, "rows": rows},
                    ATTENTION_MASK: {"datatype": INT64, "rows": [[1] * len(row) for row in rows]},
                }
                raw["outputs"] = {LOGITS: {"datatype": FP32, "rows": raw["logits"]}}
            golden = cls(
                inputs={name: _known(record) for name, record in raw["inputs"].items()},
                outputs={name: _known(record) for name, record in raw["outputs"].items()},
                beside={name: _known(record) for name, record in raw.get("beside", {}).items()},
                tolerance=float(raw["tolerance"]),
            )
            golden._check()
            return golden
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as exc:
            raise BundleRejected(f"{path} holds no known answers ({exc}); export the version again") from exc

    def _check(self) -> None:
        """Refuse what proves nothing.

        Raises:
            ValueError: it has no rows, not as many of each tensor, or no limit.
        """
        tensors = (*self.inputs.values(), *self.outputs.values(), *self.beside.values())
        rows = {len(known.arrays()) for known in tensors}
        if not (self.inputs and self.outputs and len(rows) == 1 and rows != {0}):
            raise ValueError(f"its tensors have {sorted(rows)} rows; each must have as many, and some")
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"its tolerance is {self.tolerance}")

    def request(self) -> Inputs:
        """One request that asks about every row."""
        return joined(
            [
                dict(zip(self.inputs, row, strict=True))
                for row in zip(*(known.arrays() for known in self.inputs.values()), strict=True)
            ]
        )

    def difference(self, outputs: Outputs) -> float:
        """The largest absolute difference of the outputs from the known ones; inf where any is not finite."""
        return _furthest(self.outputs, outputs)

    def moved(self, engine: Engine, *, limit: float = 0.0) -> float | None:
        """How far the engine's outputs `beside` are from the known ones; None where none are known.

        All rows are asked at once. Where that is further than the limit each is asked alone, as it was when they became
        known: in a low precision a row has other values beside longer ones.
        """
        if not self.beside:
            return None
        together = _furthest(self.beside, engine.infer(self.request()))
        if together <= limit:
            return together
        rows = zip(*(known.arrays() for known in self.inputs.values()), strict=True)
        alone = [engine.infer(dict(zip(self.inputs, row, strict=True))) for row in rows]
        return max(
            _furthest({name: replace(known, rows=known.rows[place : place + 1])}, answer)
            for name, known in self.beside.items()
            for place, answer in enumerate(alone)
        )

    def check(self, engine: Engine) -> float:
        """Ask the engine for every row and return the largest difference.

        Raises:
            BundleRejected: the engine does not repeat its known answers.
        """
        seen = self.difference(engine.infer(self.request()))
        if not seen <= self.tolerance:
            raise BundleRejected(
                f"the loaded engine differs from its golden answers by {seen:.3g} (limit {self.tolerance:.3g}); "
                "do not route to it, export the version again on this kind of machine"
            )
        return seen


def forget_texts(bundle: Path, erased: Collection[str]) -> bool:
    """Take the texts that earlier releases kept out of a bundle's known answers, and the rows of the erased ones.

    Returns whether anything had to change. Where every row is an erased one, all stay: without known answers the
    version could not be proved again. The manifest allows the old file and the new one while one takes the place of the
    other, so that the bundle is whole at every moment, also after a kill.

    Raises:
        BundleRejected: the bundle is not what its manifest says, so nothing is changed.
    """
    path = bundle / GOLDEN
    raw = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    texts = raw.get("texts") or []
    kept = [place for place, text in enumerate(texts) if text not in erased]
    if not kept and not _is_half_done(bundle):
        return False
    for name in (GOLDEN, MANIFEST):
        drop_leftovers(bundle / name)
    manifest = verify_bundle(bundle)
    if kept:
        rows = {name: [raw[name][place] for place in kept] for name in ("input_ids", "logits")}
        content = (json.dumps({"tolerance": raw["tolerance"], **rows}) + "\n").encode()
        write_atomically(bundle / MANIFEST, replace(manifest, replacements={GOLDEN: FileRecord.of(content)}).to_json())
        write_atomically(path, content)
    write_manifest(bundle, manifest)
    return True


def _is_half_done(bundle: Path) -> bool:
    """Whether a kill came between the new file and the manifest that names it alone."""
    return (bundle / MANIFEST).is_file() and bool(read_manifest(bundle).replacements)


def _record(known: Known) -> dict[str, Any]:
    return {"datatype": known.datatype, "rows": known.rows}


def _known(record: Mapping[str, Any]) -> Known:
    if record["datatype"] not in _TYPES:
        raise ValueError(f"datatype {record['datatype']!r}")
    return Known(datatype=record["datatype"], rows=_tuples(record["rows"]))


def _tuples(values: Any) -> Any:
    return tuple(_tuples(value) for value in values) if isinstance(values, list | tuple) else values


def _furthest(known_outputs: Mapping[str, Known], outputs: Outputs) -> float:
    differences = []
    for name, known in known_outputs.items():
        wanted, seen = joined([{name: row} for row in known.arrays()])[name], outputs.get(name)
        if seen is None or seen.shape != wanted.shape or not np.isfinite(seen).all():
            return float("inf")
        differences.append(_apart(seen, wanted))
    return max(differences)


def _apart(one: Array, other: Array) -> float:
    return float(np.abs(one - other).max(initial=0.0))
