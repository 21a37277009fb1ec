"""The tensors of opinion: what clients send of a headline and get; its engines are a text classifier's."""

from perennial.exporters.signature import BYTES, RouterSignature, Tensor
from perennial.exporters.text_classification.signature import TEXT_ROUTER

__all__ = ["ALERT", "EVENT", "OPINIONS", "OPINION_ROUTER", "PHASE", "PUBLISHED_AT", "SOURCE", "SYMBOLS"]

SOURCE, PUBLISHED_AT, SYMBOLS = "SOURCE", "PUBLISHED_AT", "SYMBOLS"
EVENT, PHASE, ALERT, OPINIONS = "EVENT", "PHASE", "ALERT", "OPINIONS"

OPINION_ROUTER = RouterSignature(
    inputs=(
        *TEXT_ROUTER.inputs,
        *(Tensor(name=name, datatype=BYTES, optional=True) for name in (SOURCE, PUBLISHED_AT, SYMBOLS)),
    ),
    usual=(*TEXT_ROUTER.usual, *(Tensor(name=name, datatype=BYTES) for name in (EVENT, PHASE, ALERT))),
    further=(*TEXT_ROUTER.further, Tensor(name=OPINIONS, datatype=BYTES)),
)
