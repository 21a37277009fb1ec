"""A trained decoder on its way into a bundle; see `perennial.exporters.port.Exportable`."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perennial.continual.errors import DataError, ExportFailed
from perennial.continual.learning.card import MODEL_FILE
from perennial.continual.learning.generation import TrainedDecoder, decoder_folder
from perennial.continual.learning.generation.adapter import ADAPTER_FILE
from perennial.continual.learning.generation.prompt import PROMPT_FILE
from perennial.continual.tasks.generation import Generation, Rewrite
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import Manifest
from perennial.exporters.engine import Engine, Inputs
from perennial.exporters.generation.answering import GenerationAnswerer
from perennial.exporters.generation.codec import Codec
from perennial.exporters.generation.part import TOKENIZER_FILE, GenerationPart
from perennial.exporters.generation.signature import STEPS
from perennial.exporters.graph import OnnxGraph
from perennial.exporters.held_out_rows import read_held_out_rows
from perennial.exporters.port import HeldOut
from perennial.exporters.signature import EngineSignature

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["GenerationExportable"]

_GOLDEN_STEPS = 4  # tokens; a probe asks about all rows
_GOLDEN = ("It costs 5 pounds.", "You cannot return it after 30 days.", "Call us on Monday.")
_ENDLESS = 4_096  # positions of a decoder that names none


class GenerationExportable:
    """A learner's folder, or a bundle's, which has the same files."""

    def __init__(self, trained: TrainedDecoder) -> None:
        self.trained = trained

    @classmethod
    def load(cls, folder: Path) -> "GenerationExportable":
        """Read the card and the prompt.

        Raises:
            DataError: the folder holds no trained decoder.
        """
        return cls(TrainedDecoder.load(folder))

    @property
    def signature(self) -> EngineSignature:
        """That of every decoder."""
        return self._part.signature

    @property
    def encoder_fingerprint(self) -> str:
        """Of the decoder that it began with."""
        return self.trained.card.encoder_fingerprint

    @property
    def longest_row(self) -> int:
        """The decoder's positions."""
        return self._part.positions

    def sidecars(self, folder: Path) -> None:
        """Card, tokenizer, prompt, and the adapter where it has learnt."""
        for name in (MODEL_FILE, TOKENIZER_FILE, PROMPT_FILE, ADAPTER_FILE):
            if (self.trained.folder / name).is_file():
                shutil.copyfile(self.trained.folder / name, folder / name)

    def part(self, folder: Path) -> Mapping[str, Any]:
        """See `GenerationPart`."""
        return self._part.fields()

    def module(self) -> "Module":
        """The decoder in torch, behind the same loop."""
        from perennial.exporters.generation.module import DecoderModule

        return DecoderModule(self.trained.model(), self._part, self.trained.folder)

    def graph(self, target: Path, module: "Module") -> OnnxGraph:
        """One step of it, traced."""
        from perennial.exporters.generation.graph import write_decoder_graph
        from perennial.exporters.generation.module import DecoderModule

        if not isinstance(module, DecoderModule):
            raise ExportFailed(f"{type(module).__name__} is no decoder's module; pass what `module` gave")
        return write_decoder_graph(module, target)

    def swap(self, bundle: Path, manifest: Manifest, folder: Path) -> BuiltEngine:
        """Refused: an adapter is in every layer."""
        raise ExportFailed("a decoder's weights are not swapped, it is exported whole")

    def own_arithmetic(self, engine: Engine) -> Engine | None:
        """None: nothing of it stands apart."""
        del engine
        return None

    def exact(self, folder: Path | None) -> None:
        """None: it has no encoder."""
        del folder

    def answerer(self, engine: Engine, folder: Path) -> GenerationAnswerer:
        """With the tokenizer and the prompt in `folder`."""
        return GenerationAnswerer(engine=engine, codec=Codec(folder, self._part), signature=self.signature)

    def read(self, path: Path, memory: Path | None = None) -> HeldOut:
        """Rewrites and, where every row has one, the accepted text."""
        task, now, rows = Generation(), datetime.now(UTC), _rows(path)
        known = all("accepted" in row for row in rows)
        edits = [task.read_row({"accepted": row["approved"], **row}, now=now) for row in rows]
        return HeldOut(
            inputs=[edit.input for edit in edits], targets=[edit.target for edit in edits] if known else None
        )

    def calibration(self, folder: Path, inputs: Sequence[Any]) -> Sequence[Sequence[int]]:
        """None: it comes in no precision that needs it."""
        return ()

    def golden(self, folder: Path, seed: int) -> Sequence[Inputs]:
        """The first tokens of replies that nobody gave."""
        codec = Codec(folder, self._part)
        rows = [codec.encode([Rewrite(approved=text, tone="friendly" if seed % 2 else "")]) for text in _GOLDEN]
        return [{**row, STEPS: np.minimum(row[STEPS], _GOLDEN_STEPS)} for row in rows]

    @cached_property
    def _part(self) -> GenerationPart:
        from perennial.continual.learning.encoder_model import decoder_config

        config = decoder_config(decoder_folder(self.trained.card.encoder))
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return GenerationPart(
            vocabulary=int(config.vocab_size),
            layers=int(config.num_hidden_layers),
            heads=int(heads),
            width=int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads),
            positions=int(getattr(config, "max_position_embeddings", 0) or _ENDLESS),
            guided=bool(self.trained.card.settings.get("guided", True)),
        )


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = read_held_out_rows(path, holds="rewrites", give="JSON with approved replies")
    if not rows or not all("approved" in row for row in rows):
        raise DataError(f"{path} has {len(rows)} rows, each of which must have an approved reply; give at least one")
    return rows
