"""A recording turned into text and asked about: the model, the log and the loop see the text alone."""

from dataclasses import dataclass
from typing import Any

from perennial.client.opinions import Opinion
from perennial.client.replies import SuggestedReplies
from perennial.client.texts import Prediction
from perennial.continual.errors import DataError, Refused
from perennial.continual.preparation import admit_key
from perennial.continual.speech import Heard, check_sure
from perennial.continual.speech.listener import Listener
from perennial.continual.tasks.replies import Message
from perennial.ops.parts import Parts
from perennial.ops.serving.client import PerennialClient

__all__ = ["SPOKEN", "Spoken", "ask_about", "check_spoken", "hear_and_ask"]

SPOKEN = ("text_classification", "replies", "opinion")  # tasks that are asked about a text


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What was understood, how sure that is, and the model's answer to it."""

    transcript: str
    probability: float
    language: str
    language_probability: float | None
    seconds: float
    answer: Prediction | SuggestedReplies | Opinion

    @classmethod
    def of(cls, heard: Heard, answer: Any) -> "Spoken":
        """The two together."""
        return cls(
            transcript=heard.text,
            probability=round(heard.probability, 4),
            language=heard.language,
            language_probability=None if heard.language_probability is None else round(heard.language_probability, 4),
            seconds=round(heard.seconds, 2),
            answer=answer,
        )


def check_spoken(model: str, task: str) -> None:
    """Return where a model of the task is asked about texts.

    Raises:
        DataError: it is not.
    """
    if task not in SPOKEN:
        raise DataError(
            f"model {model} is of task {task!r}, which is not asked about texts; name one of {', '.join(SPOKEN)}"
        )


def hear_and_ask(
    parts: Parts, listener: Listener, model: str, sent: bytes, *, key: str | None, language: str | None, caller: str
) -> Spoken:
    """Understand a recording and ask the served model about its words; callers take turns. It is kept nowhere.

    Raises:
        NotFound: there is no such model.
        Refused: speech is switched off.
        DataError: the model is asked about no texts, the key breaks its rule, or the recording cannot be understood.
        ConfigurationError: the recogniser does not hear the language that was named.
        DependencyUnreachable: no recogniser can be loaded, too many recordings wait, or nobody answers.
    """
    settings = parts.settings.speech
    check_spoken(model, parts.workspace.model(model).task)
    if not settings.enabled:
        raise Refused(
            "speech is switched off here; set speech.enabled = true, and install 'perennial-serving[speech]' beside it"
        )
    key = admit_key(key)  # before anybody listens
    heard = listener.hear(sent, language=language, caller=caller)
    check_sure(heard, settings.least_probability)
    task = parts.settings.task_of(model)
    with PerennialClient(parts.controls[0].url, model, task=task) as client:
        return Spoken.of(heard, ask_about(client, task, [heard], key)[0])


def ask_about(client: PerennialClient, task: str, heard: "list[Heard]", key: str | None) -> list[Any]:
    """The served model's answers to what was understood, one each."""
    inputs = [Message(text=one.text) if task == "replies" else one.text for one in heard]
    return client.predict(inputs, None if key is None else [key] * len(inputs))
