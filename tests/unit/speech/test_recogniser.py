"""What is made of a recogniser's parts: one text and one probability, or a refusal without its words."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.speech.recogniser import Recogniser
from perennial.continual.speech.sound import RATE

_SOUND = np.zeros(2 * RATE, dtype=np.float32)


class _Model:
    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def transcribe(self, sound: Any, **_: Any) -> tuple[Any, Any]:
        assert sound is _SOUND
        return iter(self._parts), SimpleNamespace(language="de", language_probability=0.75)


def _part(text: str, *, pieces: int, chance: float, packs: float = 1.0) -> Any:
    logs = float(np.log(chance))
    return SimpleNamespace(text=text, tokens=[0] * pieces, avg_logprob=logs, compression_ratio=packs)


def _recogniser(*parts: Any, language: str = "") -> Recogniser:
    return Recogniser(name="a folder", language=language, languages=("de", "en"), model=_Model(*parts))


def test_parts_become_one_text_whose_probability_counts_their_pieces() -> None:
    parts = (_part(" meine  Karte", pieces=3, chance=0.9), _part(" ist weg.", pieces=1, chance=0.1))
    heard = _recogniser(*parts).hear(_SOUND)
    assert (heard.text, heard.language, heard.language_probability) == ("meine Karte ist weg.", "de", 0.75)
    assert heard.probability == pytest.approx((0.9**3 * 0.1) ** 0.25)
    assert heard.seconds == 2.0
    assert _recogniser(*parts, language="de").hear(_SOUND).language_probability is None


def test_words_that_repeat_themselves_are_refused_and_not_told() -> None:
    with pytest.raises(DataError, match="repeats itself") as refused:
        _recogniser(_part("Anna Anna Anna", pieces=3, chance=0.9, packs=3.0)).hear(_SOUND)
    assert "Anna" not in str(refused.value)


def test_silence_and_other_languages_are_refused() -> None:
    with pytest.raises(DataError, match=r"has no speech in its 2\.0 s"):
        _recogniser(_part(" ", pieces=0, chance=0.5)).hear(_SOUND)
    with pytest.raises(ConfigurationError, match="hears de, en, not 'fr'"):
        _recogniser().hear(_SOUND, language="fr")
