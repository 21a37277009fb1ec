"""The tensors of replies: what clients send of a message and get; its engines are a text classifier's."""

from perennial.exporters.signature import BYTES, FP32, RouterSignature, Tensor
from perennial.exporters.text_classification.signature import TEXT_ROUTER

__all__ = [
    "ACTION",
    "CUSTOMER",
    "LANGUAGE",
    "MOST_REPLIES",
    "REASON",
    "REPLIES",
    "REPLIES_ROUTER",
    "REPLY_IDS",
    "REPLY_SCORES",
    "TURNS",
    "VALUES",
]

CUSTOMER, LANGUAGE, TURNS, VALUES = "CUSTOMER", "LANGUAGE", "TURNS", "VALUES"
REPLIES, REPLY_IDS, REPLY_SCORES, REASON, ACTION = "REPLIES", "REPLY_IDS", "REPLY_SCORES", "REASON", "ACTION"
MOST_REPLIES = 3

REPLIES_ROUTER = RouterSignature(
    inputs=(
        *TEXT_ROUTER.inputs,
        *(Tensor(name=name, datatype=BYTES, optional=True) for name in (CUSTOMER, LANGUAGE, TURNS, VALUES)),
    ),
    usual=(
        *TEXT_ROUTER.usual,
        Tensor(name=ACTION, datatype=BYTES),
        Tensor(name=REPLY_IDS, datatype=BYTES, dims=("replies",)),
        Tensor(name=REPLIES, datatype=BYTES, dims=("replies",)),
        Tensor(name=REPLY_SCORES, datatype=FP32, dims=("replies",)),
    ),
    further=(*TEXT_ROUTER.further, Tensor(name=REASON, datatype=BYTES, dims=("replies",))),
)
