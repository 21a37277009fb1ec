"""What a transformer's `config.json` says of its cost: weights, keys and values, adapters, work a token.

Sources: the layers as `transformers` builds them; Kaplan et al., "Scaling Laws for Neural Language Models", 2020, for
two operations a weight and token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SHAPES", "Shape"]

_GATED = frozenset({"llama", "mistral", "qwen2"})  # a gated network of three matrices, and norms without a bias
_ENCODERS = frozenset({"bert", "xlm-roberta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a decoder (llama, mistral, qwen2) or an encoder (bert, xlm-roberta).

    >>> Shape.of(SHAPES["SmolLM2-135M"]).weights
    134515008
    """

    kind: str
    layers: int
    hidden: int
    inner: int  # of the network behind the attention
    heads: int
    kv_heads: int
    head: int  # numbers of one head
    vocabulary: int
    positions: int
    types: int  # rows of token types, of an encoder
    tied: bool  # the last matrix is the table of words

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """The shape in a configuration.

        Raises:
            ValueError: it is of another kind.
        """
        kind = config["model_type"]
        if kind not in _GATED | _ENCODERS:
            raise ValueError(f"model_type is {kind!r}; formulae are here for {', '.join(sorted(_GATED | _ENCODERS))}")
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return cls(
            kind=kind,
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            inner=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head=int(config.get("head_dim") or hidden // heads),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            types=int(config.get("type_vocab_size", 0)),
            tied=bool(config.get("tie_word_embeddings", kind in _ENCODERS)),
        )

    @property
    def writes(self) -> bool:
        """Whether it is a decoder."""
        return self.kind in _GATED

    @property
    def layer_weights(self) -> int:
        """Of one layer."""
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        if not self.writes:
            attention = 4 * (self.hidden * self.hidden + self.hidden)
            return attention + 2 * self.hidden * self.inner + self.inner + self.hidden + 4 * self.hidden
        biases = wide + 2 * narrow if self.kind == "qwen2" else 0
        attention = 2 * self.hidden * wide + 2 * self.hidden * narrow + biases
        return attention + 3 * self.hidden * self.inner + 2 * self.hidden

    @property
    def weights(self) -> int:
        """All of them, the table of words once where it is tied, and no pooler of an encoder."""
        table, layers = self.vocabulary * self.hidden, self.layers * self.layer_weights
        if not self.writes:
            return table + (self.positions + self.types + 2) * self.hidden + layers
        return table * (1 if self.tied else 2) + self.hidden + layers

    def kv_bytes(self, number_bytes: int) -> int:
        """Keys and values of one token; none of an encoder, which reads a text once."""
        return 2 * self.layers * self.kv_heads * self.head * number_bytes if self.writes else 0

    def adapter_weights(self, rank: int) -> int:
        """Two thin matrices beside the projections of queries and of values, of a decoder."""
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        return self.layers * rank * (2 * self.hidden + wide + narrow) if self.writes else 0

    def operations(self, tokens: int, past: int = 0) -> int:
        """Of a pass over so many tokens behind a past: two a weight of the layers, and those of the attention.

        A decoder's last matrix is multiplied once, for the token that follows.
        """
        layer = self.layer_weights - (4 * self.hidden if not self.writes else 2 * self.hidden)
        layer -= 0 if self.kind != "qwen2" else (self.heads + 2 * self.kv_heads) * self.head
        layer -= 0 if self.writes else 5 * self.hidden + self.inner
        attention = 4 * self.heads * self.head * tokens * (past + tokens)
        words = 2 * self.vocabulary * self.hidden if self.writes else 0
        return self.layers * (2 * layer * tokens + attention) + words


def _decoder(kind: str, layers: int, hidden: int, inner: int, heads: int, kv: int, words: int, **more: Any) -> Any:
    return {
        "model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": inner,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": words,
        "max_position_embeddings": 4_096, "tie_word_embeddings": False, **more,
    }  # fmt: skip


def _encoder(kind: str, layers: int, hidden: int, heads: int, words: int, positions: int, types: int) -> Any:
    return {
        "model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": 4 * hidden,
        "num_attention_heads": heads, "vocab_size": words, "max_position_embeddings": positions,
        "type_vocab_size": types,
    }  # fmt: skip


SHAPES: Mapping[str, Mapping[str, Any]] = {
    "SmolLM2-135M": _decoder("llama", 30, 576, 1_536, 9, 3, 49_152, tie_word_embeddings=True),
    "Qwen2-0.5B": _decoder("qwen2", 24, 896, 4_864, 14, 2, 151_936, tie_word_embeddings=True),
    "Llama-2-7B": _decoder("llama", 32, 4_096, 11_008, 32, 32, 32_000),
    "Mistral-7B": _decoder("mistral", 32, 4_096, 14_336, 32, 8, 32_000),
    "Qwen2-7B": _decoder("qwen2", 28, 3_584, 18_944, 28, 4, 152_064),
    "Llama-3-8B": _decoder("llama", 32, 4_096, 14_336, 32, 8, 128_256),
    "BERT-large": _encoder("bert", 24, 1_024, 16, 30_522, 512, 2),
    "XLM-R-large": _encoder("xlm-roberta", 24, 1_024, 16, 250_002, 514, 1),
}
"""Configurations that are published, with what the formulae need of them."""
