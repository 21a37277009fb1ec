"""Versions asked once more for what the log says was asked, beside whoever answered it live."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perennial.exporters.engine import Inputs, Outputs
from perennial.ops.serving.port import Answer, Memory, ServingSide
from perennial.ops.serving.router.versions import VersionSides

__all__ = ["AskVersion", "AskingAgain"]

AskVersion = Callable[[int, Inputs], Outputs]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingAgain:
    """One model's versions, by their engines, and what is remembered of those who asked."""

    side: ServingSide
    sides: VersionSides
    memory: Memory
    ask: AskVersion

    def is_whole(self, logged: Mapping[str, Any]) -> bool:
        """Whether a logged row, with `redacted`, still says what was asked: of a text that was changed nobody knows."""
        return not logged["redacted"] and self.side.logged_input(logged) is not None

    def answers(self, version: int, logged: Sequence[Mapping[str, Any]]) -> Sequence[Answer]:
        """A version's answers to whole rows, by what was known when they were asked.

        Raises:
            PerennialError: it gives none, or refuses one of them.
        """
        version_side = self.sides.get(version)
        task_inputs = self.memory.recalled([self.side.logged_input(row) for row in logged])
        inputs = version_side.encode(task_inputs)
        return version_side.answers(task_inputs, inputs, self.ask(version, inputs))
