"""The tensors that clients, routers and engines exchange: their names, types and widths are spelled here alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "ARM",
    "ATTENTION_MASK",
    "BYTES",
    "CONFIDENCE",
    "EMBEDDING",
    "ENGINE_INPUTS",
    "ENGINE_OUTPUTS",
    "FP32",
    "INPUT_IDS",
    "INT64",
    "KEY",
    "LABEL",
    "LABELS",
    "LOGITS",
    "PREDICTION_ID",
    "PROGRESS",
    "ROUTER_INPUTS",
    "ROUTER_OUTPUTS",
    "SCORES",
    "TENSORS",
    "TEXT",
    "USUAL_OUTPUTS",
    "VERSION",
    "Tensor",
]

BYTES, FP32, INT64 = "BYTES", "FP32", "INT64"  # KServe's words

TEXT, KEY = "TEXT", "KEY"
LABEL, CONFIDENCE, VERSION, PREDICTION_ID = "LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID"
SCORES, LABELS, ARM = "SCORES", "LABELS", "ARM"
INPUT_IDS, ATTENTION_MASK = "input_ids", "attention_mask"
LOGITS, EMBEDDING = "logits", "embedding"

ROUTER_INPUTS = (TEXT, KEY)
USUAL_OUTPUTS = (LABEL, CONFIDENCE, VERSION, PREDICTION_ID)  # what a router sends when nothing is asked for by name
ROUTER_OUTPUTS = (*USUAL_OUTPUTS, SCORES, LABELS, ARM)
ENGINE_INPUTS = (INPUT_IDS, ATTENTION_MASK)
ENGINE_OUTPUTS = (LOGITS, EMBEDDING)
PROGRESS = PREDICTION_ID  # the output that carries a router's progress in the answer to a probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What one tensor holds a row. A width of -1 varies with the model or the request."""

    datatype: str
    width: int
    optional: bool = False

    @property
    def config_type(self) -> str:
        """The datatype as `config.pbtxt` writes it.

        >>> TENSORS[TEXT].config_type, TENSORS[VERSION].config_type
        ('TYPE_STRING', 'TYPE_INT64')
        """
        return "TYPE_STRING" if self.datatype == BYTES else f"TYPE_{self.datatype}"


TENSORS: Mapping[str, Tensor] = MappingProxyType(
    {
        TEXT: Tensor(datatype=BYTES, width=1),
        KEY: Tensor(datatype=BYTES, width=1, optional=True),
        LABEL: Tensor(datatype=BYTES, width=1),
        CONFIDENCE: Tensor(datatype=FP32, width=1),
        VERSION: Tensor(datatype=INT64, width=1),
        PREDICTION_ID: Tensor(datatype=BYTES, width=1),
        SCORES: Tensor(datatype=FP32, width=-1),
        LABELS: Tensor(datatype=BYTES, width=-1),
        ARM: Tensor(datatype=BYTES, width=1),
        INPUT_IDS: Tensor(datatype=INT64, width=-1),
        ATTENTION_MASK: Tensor(datatype=INT64, width=-1),
        LOGITS: Tensor(datatype=FP32, width=-1),
        EMBEDDING: Tensor(datatype=FP32, width=-1),
    }
)
