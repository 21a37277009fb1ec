"""Decoders: where they come from, how they are asked, and what they learn from accepted edits."""

from perennial.continual.learning.generation.adapter import Adapter
from perennial.continual.learning.generation.prompt import Prompt
from perennial.continual.learning.generation.trained import DEFAULT_DECODER, TrainedDecoder, decoder_folder

__all__ = ["DEFAULT_DECODER", "Adapter", "Prompt", "TrainedDecoder", "decoder_folder"]
