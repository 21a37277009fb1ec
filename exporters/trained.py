"""A trained model as learners leave it: read, checked, and turned into the module that engines must answer like."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import DataError
from perennial.continual.learning.adoption import FOREIGN_FILE
from perennial.continual.learning.card import read_card
from perennial.continual.learning.encoder_folder import hidden_size, load_tokenizer, read_tokenizer, usable_length
from perennial.continual.learning.trained import HEAD_FILE

if TYPE_CHECKING:
    import torch

__all__ = ["HeadKind", "TrainedModel"]


class HeadKind(StrEnum):
    """What turns an embedding into logits."""

    KERNEL_LDA = "kernel_lda"
    RIDGE = "ridge"
    LINEAR = "linear"
    FUSED = "fused"  # linear, with words beside it
    CLASSIFIER = "classifier"  # lies in the encoder's folder, with the encoder, as it was fine-tuned elsewhere
    FOREIGN = "onnx"  # likewise, as an ONNX file that another exporter made


_SHORTEST = 2  # tokens
_TENSORS: Mapping[HeadKind, tuple[str, ...]] = {
    HeadKind.KERNEL_LDA: ("omega", "phase", "weight", "bias"),
    HeadKind.RIDGE: ("omega", "phase", "weight", "bias"),  # its words are no engine's: see `WordScores`
    HeadKind.LINEAR: ("weight", "bias"),
    HeadKind.FUSED: ("weight", "bias"),  # likewise
    HeadKind.CLASSIFIER: (),
    HeadKind.FOREIGN: (),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What a learner wrote: an encoder, a head and the labels in logit order.

    `head` holds float32 arrays by name: kernel_lda and ridge omega (d, D), phase (D,), weight (C, D), bias (C,);
    linear and fused weight (C, d), bias (C,). The temperature is already in weight and bias.
    """

    folder: Path
    encoder: Path
    encoder_name: str
    encoder_fingerprint: str
    labels: tuple[str, ...]
    kind: HeadKind
    head: Mapping[str, npt.NDArray[np.float32]]
    max_length: int

    @classmethod
    def load(cls, folder: Path) -> "TrainedModel":
        """Read the card and `head.safetensors`; the encoder's own weights are only located.

        Raises:
            DataError: a file is missing, or the head's shapes do not fit each other and the labels.
        """
        from safetensors.numpy import load_file

        card = read_card(folder)
        try:
            kind = HeadKind(card.head)
            tensors = load_file(folder / HEAD_FILE) if _TENSORS[kind] else {}
            head = {name: np.asarray(tensors[name], dtype=np.float32) for name in _TENSORS[kind]}
            encoder = _locate(folder, card.encoder)
            if card.max_length < _SHORTEST:
                raise DataError(f"{folder}: max_length {card.max_length} must be at least {_SHORTEST}")
            model = cls(
                folder=folder,
                encoder=encoder,
                encoder_name=card.encoder,
                encoder_fingerprint=card.encoder_fingerprint,
                labels=card.labels,
                kind=kind,
                head=head,
                max_length=card.max_length if kind is HeadKind.FOREIGN else usable_length(encoder, card.max_length),
            )
        except (OSError, KeyError, ValueError, TypeError) as exc:
            raise DataError(f"{folder} is not a trained model: {type(exc).__name__} {exc}; train it again") from exc
        model._check()
        return model

    @property
    def dimension(self) -> int:
        """The embedding's length."""
        if self.kind is HeadKind.CLASSIFIER:
            return hidden_size(self.encoder)
        if self.kind is HeadKind.FOREIGN:
            return len(self.labels)
        return int(self.head["omega"].shape[0] if "omega" in self.head else self.head["weight"].shape[1])

    @property
    def foreign(self) -> Path | None:
        """The ONNX file that it came as, where another exporter made it."""
        return self.encoder / FOREIGN_FILE if self.kind is HeadKind.FOREIGN else None

    def module(self) -> "torch.nn.Module":
        """The FP32 torch module `(input_ids, attention_mask) -> (logits, embedding)`: the reference of every engine."""
        if self.kind is HeadKind.CLASSIFIER:
            from perennial.exporters.adopted import build_adopted

            return build_adopted(self.encoder)
        if self.foreign is not None:
            from perennial.exporters.foreign_graph import foreign_module

            return foreign_module(self.foreign)
        from perennial.exporters.module import build_module

        return build_module(self.encoder, self.head, dimension=self.dimension)

    def parameters(self, *, encoder: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Every weight by its module name, `head.*` and, when asked for, `encoder.*`; float32."""
        if self.foreign is not None:
            return {}  # its weights are in its graph, and stay there
        if self.kind is HeadKind.CLASSIFIER:
            from perennial.exporters.module import weights_of

            weights = {name: tensor.detach().numpy() for name, tensor in weights_of(self.module())}
            return {name: weight for name, weight in weights.items() if encoder or name.startswith("head.")}
        tensors: dict[str, npt.NDArray[Any]] = {f"head.{name}": tensor for name, tensor in self.head.items()}
        if encoder:
            from perennial.exporters.module import encoder_parameters

            tensors |= encoder_parameters(self.encoder)
        return tensors

    def write_tokenizer(self, target: Path) -> None:
        """Write the encoder's `tokenizer.json` with truncation to `max_length` and without padding."""
        read = load_tokenizer if self.foreign is None else read_tokenizer
        read(self.encoder, self.max_length).save(str(target), pretty=False)

    def _check(self) -> None:
        classes = len(self.labels)
        if len(set(self.labels)) != classes:
            raise DataError(f"{self.folder}: the {classes} labels repeat; each logit needs a label of its own")
        if not _TENSORS[self.kind]:
            return
        shapes = {name: tuple(tensor.shape) for name, tensor in self.head.items()}
        width = shapes["weight"][1] if len(shapes["weight"]) == 2 else -1
        wanted: dict[str, tuple[int, ...]] = {"weight": (classes, width), "bias": (classes,)}
        if "omega" in self.head:
            wanted |= {"omega": (shapes["omega"][0], width), "phase": (width,)}
        if shapes != wanted:
            raise DataError(f"{self.folder}: head shapes {shapes} do not fit {classes} labels, wanted {wanted}")
        broken = [name for name, tensor in self.head.items() if not np.isfinite(tensor).all()]
        if broken:
            raise DataError(f"{self.folder}: head tensors {broken} hold NaN or Inf; train it again")


def _locate(folder: Path, name: str) -> Path:
    """The encoder's folder: beside the card when it was tuned, else wherever its name resolves to."""
    inside = folder / name
    if "\\" not in name and inside.is_dir() and inside.resolve().is_relative_to(folder.resolve()):
        return inside
    from perennial.continual.learning.encoder import resolve_encoder

    return Path(resolve_encoder(name))
