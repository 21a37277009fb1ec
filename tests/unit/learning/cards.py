"""Cards of text models, for tests to which only a few of their fields matter."""

from typing import Any

from perennial.continual.learning.card import ModelCard

__all__ = ["text_card"]


def text_card(head: str = "kernel_lda", **fields: Any) -> ModelCard:
    """The card of a head on the packaged encoder that tells two classes apart, but for the fields that are given."""
    usual: dict[str, Any] = {
        "learner": head,
        "encoder": "packaged:minilm",
        "encoder_fingerprint": "sha256:0",
        "labels": ("a", "b"),
        "head": head,
        "temperature": 1.0,
        "max_length": 32,
    }
    return ModelCard(**usual | fields)
