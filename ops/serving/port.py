"""What serving asks a task: the questions of a request, an engine's inputs, its answers, and what is sent and logged.

It runs in Triton's processes: an implementation imports numpy, pyarrow and tokenizers, and no torch. The routing, the
keys, the ids and the log's other columns are the router's own.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from perennial.continual.off_policy import Choice
from perennial.exporters.signature import Array, EngineSignature, RouterSignature

__all__ = ["Answer", "FurtherProof", "Given", "Memory", "Mindless", "Outcomes", "ServingSide", "VersionSide"]


class Answer(Protocol):
    """What a version says of one input; what else it holds, only its task knows."""

    @property
    def kept(self) -> str:
        """The answer as `perennial.continual.task.Task.read_answer` reads it."""
        ...

    @property
    def confidence(self) -> float | None:
        """The probability that it is right, where the task has one."""
        ...

    @property
    def embedding(self) -> Array | None:
        """Where the input lies among others (d,), where the task has such a place."""
        ...


class VersionSide(Protocol):
    """What one version needs beside its engine. Safe to share between threads."""

    @property
    def signature(self) -> EngineSignature:
        """The engine's, with the sizes that are known of this version."""
        ...

    @property
    def vocabulary(self) -> frozenset[str] | None:
        """Every answer that it can give, as it is kept; None where they cannot be listed."""
        ...

    def encode(self, inputs: Sequence[Any]) -> Mapping[str, Array]:
        """The engine's inputs, one row each; behind them further rows, where an input asks more than one thing."""
        ...

    def answers(
        self,
        task_inputs: Sequence[Any],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> Sequence[Answer]:
        """What the engine's outputs say of what was asked, which `encode` made the engine's inputs of.

        `within` leaves the version only some of its vocabulary.
        """
        ...


class Outcomes(Protocol):
    """What became of one version's answers, where that tells more than their score."""

    def columns(self, answers: Sequence[str], targets: Sequence[str | None]) -> Mapping[str, Sequence[float]]:
        """The columns `hits`, `popularities` and `new_items` of a drift window, one value an answer.

        Answers and targets are as they are kept, None where nobody told; what is not known of an answer is NaN.
        """
        ...

    def parts(self, inputs: Sequence[Any], targets: Sequence[Any]) -> Mapping[str, Sequence[bool]]:
        """Parts of all rows that no new version may serve much worse: by name, whether each row belongs to it."""
        ...

    def choice(self, logged: Mapping[str, Any], target: str | None) -> Choice | None:
        """A logged row as a choice, None where the log says nothing of one; the target as it is kept."""
        ...

    def chosen(self, kept: str) -> str:
        """What an answer, as it is kept, puts first."""
        ...

    @property
    def choice_columns(self) -> Sequence[str]:
        """The columns of the log that `choice` reads."""
        ...


class FurtherProof(NamedTuple):
    """Held-out rows of what a version does beside its own answer, by which two versions are compared.

    `before` are asked one by one first, so that a version has prepared what it needs. `scores` says how good each of
    the answers to `inputs` is, in [0, 1].
    """

    name: str  # what it is, in the plural: `replies`
    inputs: Sequence[Any]
    strata: Sequence[str]
    scores: Callable[[Sequence[Any]], Sequence[float]]
    before: Sequence[Any] = ()


class Given(NamedTuple):
    """An answer that is about to be logged and sent, and whose question it is."""

    input: Any
    key: str
    prediction_id: str
    at: datetime
    answer: Any


class Memory(Protocol):
    """What is remembered beside all versions. Safe to share between threads; no method raises."""

    @property
    def unread(self) -> int:
        """Inputs so far that had to do without, because what is remembered could not be read."""
        ...

    def recalled(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The inputs with what was known when they were asked: now, where they do not say when."""
        ...

    def noted(self, given: Sequence[Given]) -> Sequence[Answer]:
        """The answers, in order, with what they mean beside those before; they are remembered for those to come."""
        ...


class Mindless:
    """The memory of a task that answers every input by itself.

    >>> Mindless().recalled(["card lost"])
    ['card lost']
    """

    @property
    def unread(self) -> int:
        """None."""
        return 0

    def recalled(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The inputs as they are."""
        return inputs

    def noted(self, given: Sequence[Given]) -> Sequence[Answer]:
        """The answers as they are."""
        return [one.answer for one in given]


class ServingSide(Protocol):
    """One task at the router. It keeps no state and answers the same in every process."""

    @property
    def name(self) -> str:
        """The task's, as `perennial.continual.tasks` has it."""
        ...

    @property
    def signature(self) -> RouterSignature:
        """What clients send and get."""
        ...

    @property
    def engine(self) -> EngineSignature:
        """What the versions' engines take and give, whatever their sizes."""
        ...

    @property
    def probe(self) -> Any:
        """An input that a probe asks about: nobody's, and cheap."""
        ...

    def request(self, inputs: Sequence[Any]) -> Mapping[str, Array]:
        """The tensors of a request with these inputs, one row each.

        Raises:
            InputError: one cannot be sent.
        """
        ...

    def received(self, outputs: Mapping[str, Array]) -> Sequence[Any]:
        """What a caller makes of a response: one record a row, with the router's own outputs and the task's."""
        ...

    def sizes(self, tensors: Mapping[str, Array]) -> Sequence[int]:
        """About how many bytes each row of a request asks about, before any of it is decoded.

        Raises:
            DataError: a tensor is missing, has no rows, or not one a row.
        """
        ...

    @property
    def reads_slowly(self) -> bool:
        """Whether `questions` may take long beside the answer: it is then asked by a thread that gives way."""
        ...

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> Sequence[Any]:
        """The inputs of a request's rows, each of its strings cut after `max_characters`.

        Raises:
            DataError: a value breaks its rule; the message names the tensor and the row.
        """
        ...

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on what is remembered: of who asks, or of what was asked before."""
        ...

    def caller(self, task_input: Any) -> str:
        """Whose the question is where it says so itself, which then is its key; else nothing."""
        ...

    def memory(self, path: Path | None) -> Memory:
        """What is remembered, in the workspace's file for it; nothing without one."""
        ...

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        """What a challenger must do as well as the champion beside its own answer, by the file of what is remembered.

        Their inputs are asked last: a version may answer others differently afterwards.
        """
        ...

    def open(self, bundle: Path, *, proved: bool = False) -> VersionSide:
        """One version's side; `proved` is how it answered before it learnt the rows that prove it, where it did.

        Raises:
            NotFound: the bundle is not there or not readable.
        """
        ...

    def outcomes(self, bundle: Path) -> Outcomes | None:
        """What a version's answers came to; None where a task's answers and scores tell all.

        Raises:
            DataError: the bundle is not there or not readable.
        """
        ...

    def tensors(self, answers: Sequence[Any], wanted: frozenset[str]) -> Mapping[str, Array]:
        """The task's own outputs that are wanted, rows first; the answers may come from versions of different sizes."""
        ...

    @property
    def input_columns(self) -> Sequence[str]:
        """The columns of the log that hold what was asked."""
        ...

    def logged_input(self, logged: Mapping[str, Any]) -> Any | None:
        """The input of a logged row, by those columns; None where nothing is left to be asked again."""
        ...

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> Mapping[str, Sequence[Any]]:
        """The task's part of the traffic log, without personal data, and `redacted`: whether there was any."""
        ...
