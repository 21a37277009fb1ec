"""The tensors of text classification: what clients send and get, and what its engines take and give."""

from perennial.exporters.signature import BOOL, BYTES, FP32, INT64, EngineSignature, Padding, RouterSignature, Tensor

__all__ = [
    "ATTENTION_MASK",
    "CONFIDENCE",
    "EMBEDDING",
    "ENGINE_INPUTS",
    "ENGINE_OUTPUTS",
    "INPUT_IDS",
    "KNOWN",
    "LABEL",
    "LABELS",
    "LOGITS",
    "SCORES",
    "TEXT",
    "TEXT_ENGINE",
    "TEXT_ROUTER",
]

TEXT, LABEL, CONFIDENCE, SCORES, LABELS = "TEXT", "LABEL", "CONFIDENCE", "SCORES", "LABELS"
KNOWN = "KNOWN"  # whether the text is of any of the classes
INPUT_IDS, ATTENTION_MASK = "input_ids", "attention_mask"
LOGITS, EMBEDDING = "logits", "embedding"

TEXT_ROUTER = RouterSignature(
    inputs=(Tensor(name=TEXT, datatype=BYTES),),
    usual=(Tensor(name=LABEL, datatype=BYTES), Tensor(name=CONFIDENCE, datatype=FP32)),
    further=(
        Tensor(name=SCORES, datatype=FP32, dims=("classes",)),
        Tensor(name=LABELS, datatype=BYTES, dims=("classes",)),
        Tensor(name=KNOWN, datatype=BOOL),
    ),
)
TEXT_ENGINE = EngineSignature(
    inputs=(
        Tensor(name=INPUT_IDS, datatype=INT64, dims=("tokens",)),
        Tensor(name=ATTENTION_MASK, datatype=INT64, dims=("tokens",)),
    ),
    outputs=(
        Tensor(name=LOGITS, datatype=FP32, dims=("classes",)),
        Tensor(name=EMBEDDING, datatype=FP32, dims=("dimension",)),
    ),
    proved=(LOGITS,),
    padding=Padding(dim="tokens", mask=ATTENTION_MASK, least=2),  # the exported graph is for two tokens and more
)
ENGINE_INPUTS, ENGINE_OUTPUTS = TEXT_ENGINE.input_names, TEXT_ENGINE.output_names
