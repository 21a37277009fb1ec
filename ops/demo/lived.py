"""A recipe's demonstration as all of them go: a first version, a served loop, a world that changes, and a page."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from perennial.ops.demo.paced import Asking, PacedStream, Sent
from perennial.ops.demo.panels import Panel
from perennial.ops.demo.quality import Quality, quality_summary, write_quality_page
from perennial.ops.demo.recipe_settings import recipe_settings
from perennial.ops.demo.recipes import Progress, RecipeDemoOptions
from perennial.ops.demo.served import ServedLoop, emptied, end_on_sigterm
from perennial.ops.ledger import Ledger
from perennial.ops.recipes import recipe_named
from perennial.ops.store.workspace import Workspace

__all__ = ["Pace", "World", "run_recipe"]

_RECENT = 200  # answers in a line of the screen


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long the world lives, in requests, and how fast it asks.

    `lived`: of a change before its version may begin; `settle`: of each new version; `last`: at the end.
    """

    rate: float  # requests a second
    steady: int  # before the first change
    lived: int
    settle: int
    last: int
    clients: int = 2
    patience_s: float = 900.0  # for a new version: a busy machine takes long


class World(Protocol):
    """Who asks a recipe's model, what they want, how that changes, and what becomes known of the answers."""

    @property
    def recipe(self) -> str:
        """Its name."""
        ...

    @property
    def title(self) -> str:
        """The page's."""
        ...

    @property
    def measure(self) -> str:
        """What a score is, e.g. `NDCG@10`; higher is better, 0 is a failed request's."""
        ...

    @property
    def pace(self) -> Pace:
        """How long it lives."""
        ...

    @property
    def changes(self) -> int:
        """How often it changes; each change is lived with until a version has learnt it."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the model's settings are beside the recipe's own."""
        ...

    def begin(self, ledger: Ledger, workspace: Workspace, model: str, progress: Progress) -> None:
        """Make the first version."""
        ...

    def enter(self, loop: ServedLoop, model: str) -> None:
        """Live around a loop that serves from now on; feedback may be posted to it."""
        ...

    def leave(self) -> None:
        """End what was begun by `enter`; the loop still serves."""
        ...

    def draw(self) -> Asking:
        """The next question; called by one thread at a time."""
        ...

    def told(self, sent: Sent) -> None:
        """Learn what became of a question, answered or failed; called by several threads."""
        ...

    def delivered(self) -> int:
        """How much feedback the loop has taken so far."""
        ...

    def change(self, number: int) -> str:
        """Let the world change for the first, second ... time, and say in words what is different."""
        ...

    def score(self, sent: Sent) -> float:
        """How good an answer was."""
        ...

    def twin(self, sent: Sequence[Sent]) -> Sequence[float]:
        """How good the first version's answers to the same questions would have been, had nothing been learnt since.

        Called once the loop is stopped, with every question in the order of their numbers.
        """
        ...

    def figures(self, later: Sequence[Sent]) -> Mapping[str, Any]:
        """Further figures of the summary; `later` are the questions after the last change was answered."""
        ...

    def panels(self, quality: Quality) -> Sequence[Panel]:
        """The page's own panels, after that of quality."""
        ...


def run_recipe(world: World, options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
    """Let a world live around its recipe's loop; the rest is as `perennial.ops.demo.recipes.RecipeDemo` says."""
    started = time.perf_counter()
    emptied(options.out)
    recipe = recipe_named(world.recipe)
    model = recipe.models[0].name
    settings = recipe_settings(options.out, recipe, seed=options.seed, changed={model: world.settings})
    with Ledger.open(settings.ledger_address) as ledger:
        world.begin(ledger, Workspace(settings), model, progress)
    loop = ServedLoop(options.out, settings, model, progress)
    life = _Life(world, loop, model, recipe.models[0].task, options.rate or world.pace.rate, progress)
    end_on_sigterm()
    try:
        loop.start()
        life.live()
    finally:
        life.stop()
        loop.stop()
    progress("examining", {})
    quality = life.quality()
    summary = quality_summary(quality, after=life.answered_at, seed=options.seed)
    summary |= world.figures([each for each in quality.sent if each.number >= life.answered_at])
    summary["wall_seconds"] = time.perf_counter() - started
    write_quality_page(options.out, quality, summary, world.title, world.panels(quality))
    return summary


class _Life:
    """A world's questions to a served loop, through all of its changes."""

    def __init__(self, world: World, loop: ServedLoop, model: str, task: str, rate: float, progress: Progress) -> None:
        self._world, self._loop, self._model, self._progress = world, loop, model, progress
        self._stream = PacedStream(
            url=loop.grpc,
            model=model,
            task=task,
            draw=world.draw,
            on_answer=world.told,
            rate=rate,
            clients=world.pace.clients,
        )
        self._waves: list[int] = []
        self._entered = False
        self.answered_at = 0  # the request at which the last change was answered by a new version

    def live(self) -> None:
        """A steady time, every change until a version has learnt it, and a last while."""
        pace = self._world.pace
        self._world.enter(self._loop, self._model)
        self._entered = True
        self._stream.start()
        self._until("steady", partial(self._is_asked, pace.steady))
        for change in range(1, self._world.changes + 1):
            self._waves.append(self._stream.asked)
            self._progress("change", {"change": change, "what": self._world.change(change)})
            self._until(f"change {change}: lived with", self._past(pace.lived))
            began = datetime.now(UTC)
            self._until(f"change {change}: noticing and learning", partial(self._loop.has_answer_to, began))
            self.answered_at = self._stream.asked
            self._until(f"change {change}: version {self._loop.champion()} serves", self._past(pace.settle))
        self._until("last answers", self._past(self._world.pace.last))  # it may depend on what is left to ask

    def stop(self) -> None:
        """End the questions."""
        self._stream.stop()
        if self._entered:
            self._world.leave()
        self._loop.follow()

    def quality(self) -> Quality:
        """Every answer beside the frozen twin's to the same question."""
        sent = tuple(sorted(self._stream.since(0), key=lambda each: each.number))
        return Quality(
            measure=self._world.measure,
            sent=sent,
            scores=tuple(0.0 if each.error else self._world.score(each) for each in sent),
            frozen=tuple(self._world.twin(sent)),
            waves=tuple(self._waves),
            swaps=tuple(self._loop.promotions()),
        )

    def _past(self, more: int) -> Callable[[], bool]:
        return partial(self._is_asked, self._stream.asked + more)

    def _is_asked(self, number: int) -> bool:
        return self._stream.asked >= number

    def _until(self, what: str, done: Callable[[], bool]) -> None:
        self._loop.until(what, done, self._tick, timeout_s=self._world.pace.patience_s)

    def _tick(self, what: str) -> None:
        answered = self._stream.since(0)
        recent = answered[-_RECENT:]
        scores = [self._world.score(each) for each in recent if not each.error]
        measure = self._world.measure
        self._progress(
            "tick",
            {
                "phase": what,
                "requests": self._stream.asked,
                "failed": sum(bool(each.error) for each in answered),
                "feedback": self._world.delivered(),
                "quality": f"{measure} {sum(scores) / len(scores):.3f}" if scores else "-",
                "version": recent[-1].version if recent else 0,
            },
        )
