"""The recipe `recommendation` at work: readers turn to other threads, new books come, and lists follow, unattended."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from perennial.continual.errors import DataError
from perennial.continual.tasks.ranking import Query, Ranking
from perennial.ops.commands.catalogue import add_items
from perennial.ops.commands.first_ranking import first_ranking
from perennial.ops.demo.around import AroundLoop
from perennial.ops.demo.lived import Pace, run_recipe
from perennial.ops.demo.paced import Asking, Sent
from perennial.ops.demo.panels import Panel
from perennial.ops.demo.quality import Quality
from perennial.ops.demo.readers import Library, Readers
from perennial.ops.demo.recipe_settings import hasty_policy
from perennial.ops.demo.recipes import Progress, RecipeDemoOptions
from perennial.ops.ledger import Ledger
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace

__all__ = ["run"]

_READERS, _HISTORY = 300, 6
_DELAY_S = 1.0  # from an answer to its signals
_POLICY = hasty_policy(at_least=700, min_feedback=200)
_PARAMS = {"ridge": 5.0}  # of a small library; the recipe's own suits thousands of items


def run(options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
    """See `perennial.ops.demo.recipes.RecipeDemo`."""
    if options.data is not None:
        raise DataError("the demonstration of recommendation makes its own data; leave --data out")
    return run_recipe(_Reading(options.seed), options, progress)


class _Reading(AroundLoop):
    """Readers around lists. See `perennial.ops.demo.lived.World`."""

    recipe: ClassVar[str] = "recommendation"
    title: ClassVar[str] = "Recommendation: lists that follow their readers"
    measure: ClassVar[str] = "NDCG@10"
    pace: ClassVar[Pace] = Pace(rate=12.0, steady=420, lived=400, settle=150, last=500)
    changes: ClassVar[int] = 2
    settings: ClassVar[Mapping[str, Any]] = {"policy": _POLICY, "learning": {"params": _PARAMS}}

    def __init__(self, seed: int) -> None:
        super().__init__("/v1/signals", many="signals", delay_s=_DELAY_S)
        self._readers = Readers(library=Library.generated(seed), count=_READERS, seed=seed + 1)

    def begin(self, ledger: Ledger, workspace: Workspace, model: str, progress: Progress) -> None:
        history = self._readers.history(_HISTORY, datetime.now(UTC))
        progress("learning", {"rows": len(history), "what": f"events of {_READERS} readers"})
        items = self._readers.library.first
        first_ranking(ledger, workspace, model, history, items, partial(progress, "training.step"))

    def draw(self) -> Asking:
        return self._readers.draw()

    def told(self, sent: Sent) -> None:
        """A reader clicks on what they wanted, whether or not the list had it."""
        if sent.prediction_id:
            self._post.offer(
                [
                    {"prediction_id": sent.prediction_id, "user": sent.asking.key, "item": item}
                    for item in sent.asking.truth
                ]
            )

    def change(self, number: int) -> str:
        self._readers.change()
        if number < self.changes:
            return "readers follow other threads"
        new = self._readers.library.new
        add_items(self._loop.workspace, self._model, new)
        return f"{len(new)} new books come, and threads lead through them"

    def score(self, sent: Sent) -> float:
        return Ranking().score(sent.answer.items, sent.asking.truth)

    def twin(self, sent: Sequence[Sent]) -> Sequence[float]:
        """By what version 1 would have listed, knowing of each reader what was known at that moment."""
        task = Ranking()
        memory = serving_side(Ranking.name).memory(self._loop.workspace.user_events(self._model))
        asked = memory.recalled([Query(user=each.asking.key, at=each.sent_at) for each in sent])
        pairs = zip(self.first_version().answers(asked), sent, strict=True)
        return [task.score(task.read_answer(answer.kept), each.asking.truth) for answer, each in pairs]

    def figures(self, later: Sequence[Sent]) -> Mapping[str, Any]:
        """How often a list held what its reader wanted, at the end, and how much of the library was shown."""
        answered = [each for each in later if not each.error]
        hits = [float(bool(set(each.answer.items) & each.asking.truth.keys())) for each in answered]
        shown = {item for each in answered for item in each.answer.items}
        return {"hit_rate_after": sum(hits) / len(hits) if hits else None, "items_shown_after": len(shown)}

    def panels(self, quality: Quality) -> Sequence[Panel]:
        del quality
        return ()
