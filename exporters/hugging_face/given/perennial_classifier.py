"""A classifier that Perennial made, for transformers: an encoder, the pooling of its tokens, and a head."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .perennial_parts import Pooling, pool

__all__ = ["PerennialConfig", "PerennialForSequenceClassification"]


class PerennialConfig(PreTrainedConfig):  # type: ignore[no-untyped-call]
    """What the folder's `config.json` says. `head` has the shape of each of the head's tensors.

    With `folds_width` letters and digits of full width are read as those of ASCII.
    """

    model_type = "perennial_classifier"

    def __init__(
        self,
        encoder: Mapping[str, Any] | None = None,
        pooling: str = "mean",
        encoder_alone: bool = False,
        head: Mapping[str, list[int]] | None = None,
        folds_width: bool = False,
        **named: Any,
    ) -> None:
        self.encoder = dict(encoder or {})
        self.pooling = pooling
        self.encoder_alone = encoder_alone  # of a model that has a decoder too
        self.head = dict(head or {})
        self.folds_width = folds_width
        super().__init__(**named)


class PerennialForSequenceClassification(PreTrainedModel):  # type: ignore[no-untyped-call]
    """Token ids to logits. It gives what the version's engine gives; `perennial_pipeline` answers whole texts."""

    config_class = PerennialConfig

    def __init__(self, config: PerennialConfig) -> None:
        super().__init__(config)
        loader: Any = AutoModelForTextEncoding if config.encoder_alone else AutoModel
        self.encoder = loader.from_config(AutoConfig.for_model(**config.encoder), trust_remote_code=False)
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        tensors = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in config.head.items()}
        self.head = torch.nn.ParameterDict(tensors)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **unused: Any,
    ) -> SequenceClassifierOutput:
        """Logits (batch, classes) of token ids (batch, tokens), padded on the right; a loss where there are labels."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        features = pool(hidden, mask, Pooling(self.config.pooling))
        if "omega" in self.head:  # random Fourier features of a Gaussian kernel
            scale = math.sqrt(2.0 / self.head["omega"].shape[1])
            features = scale * torch.cos(features @ self.head["omega"] + self.head["phase"])
        logits = linear(features, self.head["weight"], self.head["bias"])
        loss = None if labels is None else cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)
