"""Whether recordings are understood, by which recogniser, and how sure it must be."""

from pydantic import Field

from perennial.continual.speech import PACKAGED_WHISPER, RecogniserSpec
from perennial.ops.settings.section import Section

__all__ = ["SpeechSettings"]


class SpeechSettings(Section):
    """Recordings that are turned into texts, for models that are asked about texts; needs the extra `speech`."""

    enabled: bool = Field(False, description="whether `POST /v1/models/NAME/speech` understands recordings")
    recogniser: str = Field(
        PACKAGED_WHISPER, description="the packaged Whisper, which hears English, or a folder that faster-whisper reads"
    )
    language: str = Field(
        "en",
        pattern="^([a-z]{2,3})?$",
        description="that is spoken where a request names none; empty leaves the choice to a multilingual recogniser",
    )
    threads: int = Field(2, ge=1, le=64, description="of the recogniser's process")
    least_probability: float = Field(
        0.5, ge=0, le=1, description="of the words of a recording; one with less is refused as not understood"
    )

    @property
    def spec(self) -> RecogniserSpec:
        """The recogniser that is meant."""
        return RecogniserSpec(name=self.recogniser, language=self.language, threads=self.threads)
