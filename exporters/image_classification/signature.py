"""The tensors of image classification: what clients send and get, and what its engines take and give."""

from perennial.exporters.signature import BYTES, FP32, UINT8, EngineSignature, RouterSignature, Tensor
from perennial.exporters.text_classification.signature import EMBEDDING, LOGITS, TEXT_ROUTER

__all__ = ["IMAGE", "IMAGE_ENGINE", "IMAGE_ROUTER", "PIXELS"]

IMAGE, PIXELS = "IMAGE", "pixels"

IMAGE_ROUTER = RouterSignature(
    inputs=(Tensor(name=IMAGE, datatype=BYTES),), usual=TEXT_ROUTER.usual, further=TEXT_ROUTER.further
)
IMAGE_ENGINE = EngineSignature(
    inputs=(Tensor(name=PIXELS, datatype=UINT8, dims=("height", "width", 3)),),
    outputs=(
        Tensor(name=LOGITS, datatype=FP32, dims=("classes",)),
        Tensor(name=EMBEDDING, datatype=FP32, dims=("dimension",)),
    ),
    proved=(LOGITS,),
)
