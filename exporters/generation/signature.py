"""The tensors of generation: what clients send and get, and what its engines take and give.

Engines get whole numbers alone, each one more than it is: 0 is padding. So tokens are their ids and one, and texts are
their bytes of UTF-8 and one.
"""

from perennial.exporters.signature import BOOL, BYTES, FP32, INT64, EngineSignature, RouterSignature, Tensor

__all__ = [
    "ANSWER",
    "APPROVED",
    "GREETED",
    "INDEX",
    "LANGUAGE",
    "LET_THROUGH",
    "LOGITS",
    "MANNER",
    "NAME",
    "PIECE",
    "PROMPT",
    "REWRITE_ENGINE",
    "REWRITE_ROUTER",
    "REWRITTEN",
    "STEPS",
    "STREAM_PIECES",
    "TEXT",
    "TOKENS",
    "TONE",
    "TOP",
    "WHY",
    "WRITTEN",
]

TEXT, TONE, LANGUAGE, NAME = "TEXT", "TONE", "LANGUAGE", "NAME"
ANSWER, LET_THROUGH, WHY, REWRITTEN = "ANSWER", "LET_THROUGH", "WHY", "REWRITTEN"
PIECE, INDEX = "TOKENS", "INDEX"  # of a stream: a piece of the text as it is written, and where it begins
PROMPT, WRITTEN, APPROVED, GREETED, MANNER, STEPS = "prompt", "written", "approved", "greeted", "manner", "steps"
TOKENS, LOGITS = "tokens", "logits"
TOP = 16  # highest logits of the first token that follows

STREAM_PIECES = (Tensor(name=PIECE, datatype=BYTES), Tensor(name=INDEX, datatype=INT64))
REWRITE_ROUTER = RouterSignature(
    inputs=(
        Tensor(name=TEXT, datatype=BYTES),
        *(Tensor(name=name, datatype=BYTES, optional=True) for name in (TONE, LANGUAGE, NAME)),
    ),
    usual=(
        Tensor(name=ANSWER, datatype=BYTES),
        Tensor(name=LET_THROUGH, datatype=BOOL),
        Tensor(name=WHY, datatype=BYTES),
    ),
    further=(Tensor(name=REWRITTEN, datatype=BYTES),),
)
REWRITE_ENGINE = EngineSignature(
    inputs=(
        Tensor(name=PROMPT, datatype=INT64, dims=("asked",)),
        Tensor(name=WRITTEN, datatype=INT64, dims=("before",)),  # tokens of the answer so far
        Tensor(name=APPROVED, datatype=INT64, dims=("bytes",)),  # nothing: written freely
        Tensor(name=GREETED, datatype=INT64, dims=("named",)),
        Tensor(name=MANNER, datatype=INT64, dims=("manners",)),
        Tensor(name=STEPS, datatype=INT64),  # tokens that are to be written, at most
    ),
    outputs=(
        Tensor(name=TOKENS, datatype=INT64, dims=("after",)),
        Tensor(name=LOGITS, datatype=FP32, dims=(TOP,)),
    ),
    proved=(LOGITS,),
)
