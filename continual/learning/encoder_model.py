"""Transformers out of folders, loaded in one way everywhere: float32, from safetensors, no foreign code."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError

__all__ = [
    "causal_from_gguf",
    "chat_tokenizer",
    "decoder_config",
    "load_causal",
    "load_classifier",
    "load_encoder",
    "load_image_encoder",
    "measure",
    "position_limit",
    "quiet_transformers",
]

_IGNORED = ("pooler",)  # an embedding is pooled from the tokens, so a pooler only rides along


def load_encoder(folder: Path, *, attention: str | None = None) -> Any:
    """The encoder on the CPU, in evaluation mode, without a pooler; of an encoder-decoder the encoder alone.

    `attention` is the implementation asked of transformers, for example "eager" for an exporter.

    Raises:
        ConfigurationError: the folder holds no such model, or not all of its weights.
    """
    config = _configuration(folder)
    encoder = _loaded(_loader(folder, config), folder, f"encoder folder {folder}", config=config, attention=attention)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder


def load_image_encoder(folder: Path) -> Any:
    """A network of images on the CPU, in evaluation mode; a pooler with weights of its own is left out.

    Raises:
        ConfigurationError: the folder holds no such model, or not all of its weights.
    """
    from transformers import AutoModel

    network = _loaded(AutoModel, folder, f"image encoder folder {folder}", config=_configuration(folder))
    pooler = getattr(network, "pooler", None)
    if pooler is not None and any(True for _ in pooler.parameters()):
        network.pooler = None
    return network


def load_classifier(folder: Path) -> Any:
    """A whole classifier on the CPU, in evaluation mode, as an exporter takes it.

    Raises:
        ConfigurationError: the folder holds no such model, or not all of its weights.
    """
    from transformers import AutoModelForSequenceClassification

    return _loaded(
        AutoModelForSequenceClassification, folder, f"the classifier in {folder}", attention="eager", spared=()
    )


def load_causal(folder: Path, *, attention: str | None = "eager") -> Any:
    """A whole decoder with its words, as `load_classifier` loads a classifier.

    `attention` is that of `load_encoder`; None leaves it to transformers.

    Raises:
        ConfigurationError: the folder holds no such model, or not all of its weights.
    """
    from transformers import AutoModelForCausalLM

    model = _loaded(AutoModelForCausalLM, folder, f"the decoder in {folder}", attention=attention, spared=())
    model.config.use_cache = True
    return model


def decoder_config(folder: Path) -> Any:
    """A decoder's configuration, as transformers reads it.

    Raises:
        ConfigurationError: there is none that it knows.
    """
    return _configuration(folder)


def chat_tokenizer(folder: Path, gguf: str | None = None) -> Any:
    """A decoder's tokenizer with what it knows of chats, out of the folder or of a GGUF file in it.

    Raises:
        ConfigurationError: there is none.
    """
    from transformers import AutoTokenizer

    named = {} if gguf is None else {"gguf_file": gguf}
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **named)
    except Exception as error:  # OSError, ValueError and the Rust reader's own
        raise ConfigurationError(f"the tokenizer in {folder} cannot be loaded: {_first_line(error)}") from error


def causal_from_gguf(folder: Path, gguf: str) -> Any:
    """The decoder in a GGUF file, in float32, so that it can be saved as any other."""
    import torch
    from transformers import AutoModelForCausalLM

    kind: Any = AutoModelForCausalLM
    with quiet_transformers():
        read = kind.from_pretrained(
            str(folder), gguf_file=gguf, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
        said = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
        made = kind.from_config(type(read.config)(**said), dtype=torch.float32, trust_remote_code=False)
    made.load_state_dict(read.state_dict())  # the one that was read saves no weights
    return made


def measure(folder: Path) -> tuple[int, int | None, int]:
    """Width, tokens that have a position, and token ids, of the model that the configuration describes; no weights.

    Raises:
        ConfigurationError: transformers knows no such encoder.
    """
    import torch

    config = _configuration(folder)
    try:
        with torch.device("meta"), quiet_transformers():
            model = _loader(folder, config).from_config(config, trust_remote_code=False)
        return int(model.config.hidden_size), position_limit(model), int(model.get_input_embeddings().num_embeddings)
    except (AttributeError, ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ConfigurationError(
            f"{folder / 'config.json'} describes no text encoder ({_first_line(error)}); give one with token embeddings"
        ) from error


def position_limit(model: Any) -> int | None:
    """Tokens that have a position, by the tables of the model itself; without a table, what its configuration says."""
    import torch

    limits = []
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Embedding) and ("position_embeddings" in name or name.endswith("wpe")):
            limits.append(part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1))
    positions = getattr(model.config, "max_position_embeddings", None)
    if not limits and isinstance(positions, int) and positions > 0:
        limits.append(positions)
    return min(limits, default=None)


class quiet_transformers:  # noqa: N801  # reads as what it does: `with quiet_transformers():`
    """Keeps transformers from drawing progress bars and warning of heads that are left out on purpose."""

    def __enter__(self) -> None:
        import transformers

        logs: Any = transformers.logging
        self._level, self._bar = logs.get_verbosity(), logs.is_progress_bar_enabled()
        logs.set_verbosity(logging.ERROR)
        logs.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        import transformers

        logs: Any = transformers.logging
        logs.set_verbosity(self._level)
        if self._bar:
            logs.enable_progress_bar()


def _loaded(
    kind: Any,
    folder: Path,
    what: str,
    *,
    config: Any = None,
    attention: str | None = None,
    spared: Sequence[str] = _IGNORED,
) -> Any:
    """A model of this kind with all of its weights, but for such as belong to a part that is `spared`.

    This is the one place that reads a model's weights: no network, no code from the folder, no pickle.
    """
    import torch

    chosen = {"config": config, "attn_implementation": attention}
    with quiet_transformers():
        try:
            model, report = kind.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **{name: value for name, value in chosen.items() if value is not None},
            )
        except Exception as error:  # OSError, ValueError, RuntimeError and the Rust reader's own, by what is damaged
            raise ConfigurationError(f"{what} cannot be loaded: {_first_line(error)}") from error
    if missing := sorted(name for name in report["missing_keys"] if not any(part in name for part in spared)):
        raise ConfigurationError(
            f"{what} lacks {len(missing)} weights, for example {missing[0]}; they would be random. "
            "Save the whole model with save_pretrained"
        )
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False  # a decoder that embeds keeps nothing for a next token
    return model.eval()


def _configuration(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # OSError, ValueError, KeyError and others, by what is wrong in the file
        raise ConfigurationError(f"encoder folder {folder} cannot be loaded: {_first_line(error)}") from error


def _loader(folder: Path, config: Any) -> Any:
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    kind = type(config)
    alone: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(kind, None)
    if alone is not None and alone.__name__.endswith("EncoderModel"):
        return AutoModelForTextEncoding
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigurationError(
            f"encoder folder {folder} holds {config.model_type}, an encoder with a decoder; "
            "give an encoder, a decoder, or T5, whose encoder is taken alone"
        )
    return AutoModel


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
