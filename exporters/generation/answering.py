"""An engine with the tokenizer and the prompt of its version: rewrites that are asked for in, texts out."""

from collections.abc import Sequence

from perennial.continual.tasks.generation import Rewrite
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.generation.codec import Codec
from perennial.exporters.port import Answerer
from perennial.exporters.signature import EngineSignature

__all__ = ["GenerationAnswerer"]

_LONG = 40  # times a short sentence


class GenerationAnswerer:
    """See `perennial.exporters.port.Answerer`."""

    task = "generation"

    def __init__(self, *, engine: Engine, codec: Codec, signature: EngineSignature) -> None:
        self.engine, self.codec, self.signature = engine, codec, signature

    def encode(self, inputs: Sequence[Rewrite]) -> Inputs:
        """Prompts, and how many tokens may follow."""
        return self.codec.encode(inputs)

    def edges(self, inputs: Sequence[Rewrite]) -> dict[str, Inputs]:
        """One word, signs of many bytes, and a reply that is long or too long."""
        return {
            what: self.encode([Rewrite(approved=text)])
            for what, text in (
                ("a reply of one word", "Yes."),
                ("a reply of signs", "👍🏽 谢谢 ½ ~"),
                ("a long reply", "It costs 5 pounds. " * _LONG),
            )
        }

    def answers(self, outputs: Outputs) -> list[str]:
        """What was written, before any guard."""
        return self.codec.texts(outputs)

    def unlike(self, other: Answerer) -> list[str]:
        """Another prompt."""
        if not isinstance(other, GenerationAnswerer) or other.codec.prompt == self.codec.prompt:
            return []
        return ["the prompt is another than the model's"]
