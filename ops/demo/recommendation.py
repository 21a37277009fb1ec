"""The recipe `recommendation` at work: readers turn to other threads, new books come, and lists follow, unattended."""

import signal
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from perennial.continual.tasks.ranking import Query, Ranking
from perennial.ops.commands.catalogue import add_items
from perennial.ops.commands.first_ranking import first_ranking
from perennial.ops.demo.paced import FeedbackPost, PacedStream, Sent
from perennial.ops.demo.quality import Quality, quality_summary, write_quality_page
from perennial.ops.demo.readers import Library, Readers
from perennial.ops.demo.recipe_settings import recipe_settings
from perennial.ops.demo.recipes import Progress, RecipeDemoOptions
from perennial.ops.demo.served import ServedLoop, emptied
from perennial.ops.ledger import Ledger
from perennial.ops.recipes import recipe_named
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace

__all__ = ["run"]

_RECIPE = "recommendation"
_READERS, _HISTORY = 300, 6
_RATE = 12.0  # requests a second
_STEADY = 420  # requests before the first change
_LIVED, _SETTLE, _LAST = 400, 150, 500  # of a change before its version may begin, of each new version, and at the end
_CHANGES = 2
_DELAY_S = 1.0  # from an answer to its signals
_PATIENCE_S = 300.0  # for a new version
_POLICY = {
    "kind": "any",
    "policies": [{"kind": "drift"}, {"kind": "feedback_count", "at_least": 700}],
    "limits": {"cooldown_s": 5.0, "min_feedback": 200, "budget_per_day": 100},
}
_PARAMS = {"ridge": 5.0}  # of a small library; the recipe's own suits thousands of items


def run(options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
    """See `perennial.ops.demo.recipes.RecipeDemo`."""
    started = time.perf_counter()
    emptied(options.out)
    recipe = recipe_named(_RECIPE)
    model = recipe.models[0].name
    changed = {model: {"policy": _POLICY, "learning": {"params": _PARAMS}}}
    settings = recipe_settings(options.out, recipe, seed=options.seed, changed=changed)
    workspace, library = Workspace(settings), Library.generated(options.seed)
    readers = Readers(library=library, count=_READERS, seed=options.seed + 1)
    history = readers.history(_HISTORY, datetime.now(UTC))
    progress("learning", {"rows": len(history), "what": f"events of {_READERS} readers"})
    with Ledger.open(settings.ledger_address) as ledger:
        first_ranking(ledger, workspace, model, history, library.first, partial(progress, "training.step"))
    loop = ServedLoop(options.out, settings, model, progress)
    demo = _Demo(loop, readers, model, options.rate or _RATE, progress)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        loop.start()
        demo.live()
    finally:
        demo.stop()
        loop.stop()
    progress("examining", {})
    quality = demo.quality()
    summary = quality_summary(quality, after=demo.answered_at, seed=options.seed)
    summary |= _click_figures(demo) | {"wall_seconds": time.perf_counter() - started}
    write_quality_page(options.out, quality, summary, "Recommendation: lists that follow their readers")
    return summary


class _Demo:
    """The readers' world around a served loop."""

    def __init__(self, loop: ServedLoop, readers: Readers, model: str, rate: float, progress: Progress) -> None:
        self._loop, self._readers, self._model, self._progress = loop, readers, model, progress
        self._post = FeedbackPost(loop.api, "/v1/signals", model, many="signals", delay_s=_DELAY_S)
        self.stream = PacedStream(
            url=loop.grpc, model=model, task=Ranking.name, draw=readers.draw, on_answer=self._offer, rate=rate
        )
        self._waves: list[int] = []
        self.answered_at = 0  # the request at which the last change was answered by a new version

    def live(self) -> None:
        """A steady time, both changes, each until a version has learnt it, and a last while."""
        self.stream.start()
        self._post.start()
        self._until("steady", partial(self._is_asked, _STEADY))
        for change in range(1, _CHANGES + 1):
            self._waves.append(self.stream.asked)
            self._readers.change()
            self._progress("change", {"change": change, "what": self._announce(change)})
            self._until(f"change {change}: readers live by it", self._past(_LIVED))
            began = datetime.now(UTC)
            self._until(f"change {change}: noticing and learning", partial(self._loop.has_answer_to, began))
            self.answered_at = self.stream.asked
            self._until(f"change {change}: version {self._loop.champion()} serves", self._past(_SETTLE))
        self._until("last answers", self._past(_LAST))

    def stop(self) -> None:
        """End the readers."""
        self.stream.stop()
        self._post.stop()
        self._loop.follow()

    def quality(self) -> Quality:
        """Every list, and that of the first version to the same reader with the same clicks, by what they liked."""
        sent = sorted(self.stream.since(0), key=lambda each: each.number)
        task, frozen = Ranking(), self._frozen(sent)
        return Quality(
            measure="NDCG@10",
            sent=tuple(sent),
            scores=tuple(0.0 if each.error else task.score(each.answer.items, each.asking.truth) for each in sent),
            frozen=tuple(task.score(items, each.asking.truth) for items, each in zip(frozen, sent, strict=True)),
            waves=tuple(self._waves),
            swaps=tuple(self._loop.promotions()),
        )

    def _frozen(self, sent: Sequence[Sent]) -> list[tuple[str, ...]]:
        """What version 1 would have listed, knowing of each reader what was known at that moment."""
        workspace = self._loop.workspace
        first = BundledVersion.load(workspace.bundle(self._model, 1), cache_dir=workspace.cache)
        memory = serving_side(Ranking.name).memory(workspace.user_events(self._model))
        asked = memory.recalled([Query(user=each.asking.key, at=each.sent_at) for each in sent])
        return [Ranking().read_answer(answer.kept) for answer in first.answers(asked)]

    def _offer(self, sent: Sent) -> None:
        """A reader clicks on what they wanted, whether or not the list had it."""
        if sent.prediction_id:
            self._post.offer(
                [
                    {"prediction_id": sent.prediction_id, "user": sent.asking.key, "item": item}
                    for item in sent.asking.truth
                ]
            )

    def _announce(self, change: int) -> str:
        if change < _CHANGES:
            return "readers follow other threads"
        library = self._readers.library
        add_items(self._loop.workspace, self._model, library.new)
        return f"{len(library.new)} new books come, and threads lead through them"

    def _past(self, more: int) -> Any:
        return partial(self._is_asked, self.stream.asked + more)

    def _is_asked(self, number: int) -> bool:
        return self.stream.asked >= number

    def _until(self, what: str, done: Any) -> None:
        self._loop.until(what, done, self._tick, timeout_s=_PATIENCE_S)

    def _tick(self, what: str) -> None:
        recent = self.stream.since(0)[-200:]
        task = Ranking()
        scores = [task.score(each.answer.items, each.asking.truth) for each in recent if not each.error]
        self._progress(
            "tick",
            {
                "phase": what,
                "requests": self.stream.asked,
                "failed": sum(bool(each.error) for each in self.stream.since(0)),
                "feedback": self._post.delivered,
                "quality": f"NDCG@10 {sum(scores) / len(scores):.3f}" if scores else "-",
                "version": recent[-1].version if recent else 0,
            },
        )


def _click_figures(demo: _Demo) -> dict[str, Any]:
    """How often a list held what its reader wanted, at the end, and how much of the library was shown."""
    later = [each for each in demo.stream.since(0) if each.number >= demo.answered_at and not each.error]
    hits = [float(bool(set(each.answer.items) & each.asking.truth.keys())) for each in later]
    shown = {item for each in later for item in each.answer.items}
    return {"hit_rate_after": sum(hits) / len(hits) if hits else None, "items_shown_after": len(shown)}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
