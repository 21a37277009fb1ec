"""A trained decoder as a folder: whose weights it has, an adapter where it has learnt, its tokenizer and its prompt."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.card import ModelCard, drop_card, read_card
from perennial.continual.learning.file_digest import file_digest
from perennial.continual.learning.generation.adapter import Adapter
from perennial.continual.learning.generation.packaged import PACKAGED_SMOLLM2, smollm2_folder
from perennial.continual.learning.generation.prompt import Prompt

__all__ = ["DEFAULT_DECODER", "TOKENIZER_FILE", "TrainedDecoder", "decoder_folder", "load_decoder"]

DEFAULT_DECODER = PACKAGED_SMOLLM2
TOKENIZER_FILE = "tokenizer.json"
_HEAD = "decoder"


def decoder_folder(name: str) -> Path:
    """The folder of a decoder: of a packaged one, or the one that is named.

    Raises:
        ConfigurationError: there is no such folder, or it holds no model that `transformers` knows.
        DataError: the installed weights are not those that this release knows.
    """
    if name == PACKAGED_SMOLLM2:
        return smollm2_folder()
    folder = Path(name)
    for file in ("config.json", TOKENIZER_FILE):
        if not (folder / file).is_file():
            raise ConfigurationError(
                f"decoder {name!r} has no {file}; give a folder that save_pretrained wrote, or {PACKAGED_SMOLLM2!r}"
            )
    return folder


def load_decoder(folder: Path, adapter: Adapter | None = None) -> Any:
    """The decoder on the CPU in float32, in evaluation mode, with the adapter in its weights.

    Raises:
        ConfigurationError: the folder holds no causal language model.
        DataError: the adapter is of another one.
    """
    from perennial.continual.learning.encoder_model import load_causal

    model = load_causal(folder)
    if adapter is not None:
        adapter.merge(model)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedDecoder:
    """The card, where it lies, and the prompt."""

    folder: Path
    card: ModelCard
    prompt: Prompt

    @classmethod
    def take(
        cls, name: str, out: Path, *, learner: str, adapter: Adapter | None = None, **card: Any
    ) -> "TrainedDecoder":
        """Write the folder of a decoder as it is, or with what was learnt; the card, which is its mark, last.

        Raises:
            ConfigurationError, DataError: see `decoder_folder`.
        """
        from perennial.continual.learning.encoder_model import chat_tokenizer, decoder_config

        source = decoder_folder(name)
        out.mkdir(parents=True, exist_ok=True)
        drop_card(out)
        shutil.copyfile(source / TOKENIZER_FILE, out / TOKENIZER_FILE)
        tokenizer = chat_tokenizer(source)
        configured = decoder_config(source).eos_token_id
        ends = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id} - {None}
        prompt = Prompt.of(tokenizer, ends=tuple(sorted(int(each) for each in ends)))
        prompt.write(out)
        if adapter is not None:
            adapter.write(out)
        weights = sorted(source.glob("*.safetensors"))
        made = ModelCard(
            learner=learner,
            task="generation",
            encoder=name if name == PACKAGED_SMOLLM2 else str(source.absolute()),
            encoder_fingerprint=f"sha256:{file_digest(weights[0])}" if weights else "",
            head=_HEAD,
            **card,
        )
        made.write(out)
        return cls(folder=out, card=made, prompt=prompt)

    @classmethod
    def load(cls, folder: Path) -> "TrainedDecoder":
        """What `take` left.

        Raises:
            DataError: the folder holds no finished decoder.
        """
        return cls(folder=folder, card=read_card(folder), prompt=Prompt.read(folder))

    def model(self) -> Any:
        """The decoder with what it has learnt; see `load_decoder`."""
        return load_decoder(decoder_folder(self.card.encoder), Adapter.read(self.folder))
