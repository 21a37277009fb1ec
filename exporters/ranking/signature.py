"""The tensors of ranking: what clients send and get, and what its engines take and give."""

from perennial.exporters.signature import BYTES, FP32, INT32, INT64, EngineSignature, RouterSignature, Tensor

__all__ = [
    "ASK_ENGINE",
    "ASK_ROUTER",
    "BOOSTED",
    "BOOSTS",
    "CANDIDATES",
    "CONTEXT",
    "COUNT",
    "HIDDEN",
    "ITEMS",
    "LANGUAGE",
    "LIKED",
    "PLACES",
    "POPULAR",
    "PROPENSITY",
    "RANKED",
    "REASON",
    "SCORES",
    "SEGMENT",
    "UNKNOWN",
    "UNKNOWN_VALUES",
    "USER",
    "VALUES",
    "WEIGHTS",
    "WITHHELD",
]

USER, CONTEXT, SEGMENT, LANGUAGE = "USER", "CONTEXT", "SEGMENT", "LANGUAGE"
CANDIDATES, WITHHELD, COUNT = "CANDIDATES", "WITHHELD", "K"
ITEMS, SCORES, REASON, PROPENSITY = "ITEMS", "SCORES", "REASON", "PROPENSITY"
LIKED, WEIGHTS, HIDDEN, BOOSTED, BOOSTS, POPULAR = "liked", "weights", "hidden", "boosted", "boosts", "popular"
RANKED, VALUES, UNKNOWN, UNKNOWN_VALUES = "items", "scores", "unknown_items", "unknown_scores"
PLACES = 100  # of the longest list

ASK_ROUTER = RouterSignature(
    inputs=(
        Tensor(name=USER, datatype=BYTES),
        Tensor(name=COUNT, datatype=INT32, optional=True),
        *(
            Tensor(name=name, datatype=BYTES, optional=True)
            for name in (CONTEXT, CANDIDATES, WITHHELD, LANGUAGE, SEGMENT)
        ),
    ),
    usual=(
        Tensor(name=ITEMS, datatype=BYTES, dims=("places",)),
        Tensor(name=SCORES, datatype=FP32, dims=("places",)),
        Tensor(name=REASON, datatype=BYTES, dims=("places",)),
    ),
    further=(Tensor(name=PROPENSITY, datatype=FP32, dims=("places",)),),
)
ASK_ENGINE = EngineSignature(
    inputs=(
        Tensor(name=LIKED, datatype=INT64, dims=("history",)),
        Tensor(name=WEIGHTS, datatype=FP32, dims=("history",)),
        Tensor(name=HIDDEN, datatype=INT64, dims=("excluded",)),
        Tensor(name=BOOSTED, datatype=INT64, dims=("wanted",)),
        Tensor(name=BOOSTS, datatype=FP32, dims=("wanted",)),
        Tensor(name=POPULAR, datatype=FP32),
    ),
    outputs=(
        Tensor(name=RANKED, datatype=INT64, dims=("places",)),
        Tensor(name=VALUES, datatype=FP32, dims=("places",)),
        Tensor(name=UNKNOWN, datatype=INT64, dims=("strangers",)),
        Tensor(name=UNKNOWN_VALUES, datatype=FP32, dims=("strangers",)),
    ),
    proved=(VALUES, UNKNOWN_VALUES),
)
