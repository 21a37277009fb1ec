"""Which recogniser is meant, and what it understood of one recording."""

from dataclasses import dataclass

from perennial.continual.errors import DataError

__all__ = ["PACKAGED_WHISPER", "Heard", "RecogniserSpec", "check_sure"]

PACKAGED_WHISPER = "packaged:whisper-tiny-en"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecogniserSpec:
    """Which recogniser, and what it listens for. An empty `language` leaves the choice to a multilingual one.

    >>> RecogniserSpec().name
    'packaged:whisper-tiny-en'
    """

    name: str = PACKAGED_WHISPER
    language: str = "en"
    threads: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was said, and how sure the recogniser is of its words.

    >>> Heard(text="lost card", probability=0.8, language="en", language_probability=None, seconds=2.0).text
    'lost card'
    """

    text: str
    probability: float  # in (0, 1]: the geometric mean of those of its pieces of words
    language: str  # a code of Whisper's, such as en
    language_probability: float | None  # where the recogniser chose the language itself
    seconds: float  # of the whole recording


def check_sure(heard: Heard, least: float, *, field: str = "audio") -> None:
    """Return where the words are sure enough to be asked about.

    Raises:
        DataError: they are not. What was understood is not told: it may be nobody's words.
    """
    if heard.probability < least:
        raise DataError(
            f"{field} was not understood: its words have the probability {heard.probability:.2f} in language "
            f"{heard.language!r} (least {least:g}); speak it again, more clearly or in that language, or lower "
            "speech.least_probability"
        )
