"""The recipe `recommendation` at work: readers turn to other threads, new books come, and lists follow, unattended."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from perennial.continual.tasks.ranking import Query, Ranking
from perennial.ops.commands.catalogue import add_items, catalogue
from perennial.ops.commands.first_ranking import first_ranking
from perennial.ops.demo.around import AroundLoop
from perennial.ops.demo.lived import Pace, run_recipe
from perennial.ops.demo.paced import Asking, Sent
from perennial.ops.demo.panels import Panel
from perennial.ops.demo.quality import Quality
from perennial.ops.demo.readers import Library, Readers
from perennial.ops.demo.readership import Readership
from perennial.ops.demo.recipe_settings import hasty_policy
from perennial.ops.demo.recipes import Progress, RecipeDemoOptions
from perennial.ops.demo.recommendation_panels import recommendation_panels
from perennial.ops.demo.users_of_file import UsersOfFile
from perennial.ops.ledger import Ledger
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace

__all__ = ["run"]

_READERS = 300
_DELAY_S = 1.0  # from an answer to its signals


def run(options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
    """See `perennial.ops.demo.recipes.RecipeDemo`."""
    return run_recipe(_Reading(_readership(options)), options, progress)


def _readership(options: RecipeDemoOptions) -> Readership:
    if options.data is not None:
        return UsersOfFile.read(options.data, options.seed)
    return Readers(library=Library.generated(options.seed), count=_READERS, seed=options.seed + 1)


class _Reading(AroundLoop):
    """Readers around lists. See `perennial.ops.demo.lived.World`."""

    recipe: ClassVar[str] = "recommendation"
    measure: ClassVar[str] = "NDCG@10"
    changes: ClassVar[int] = 2

    def __init__(self, readers: Readership) -> None:
        super().__init__("/v1/signals", many="signals", delay_s=_DELAY_S)
        self._readers = readers
        self._new: set[str] = set()  # items that came later
        self._twin: list[tuple[str, ...]] = []

    @property
    def title(self) -> str:
        return self._readers.title

    @property
    def pace(self) -> Pace:
        return self._readers.pace

    @property
    def settings(self) -> Mapping[str, Any]:
        policy = hasty_policy(at_least=self._readers.learns_after, min_feedback=200)
        return {"policy": policy, "learning": {"params": self._readers.params}}

    def begin(self, ledger: Ledger, workspace: Workspace, model: str, progress: Progress) -> None:
        history, items = self._readers.history(datetime.now(UTC)), self._readers.first
        progress("learning", {"rows": len(history), "what": f"events, {len(items)} items"})
        first_ranking(ledger, workspace, model, history, items, partial(progress, "training.step"))

    def draw(self) -> Asking:
        return self._readers.draw()

    def told(self, sent: Sent) -> None:
        """Users do what they would have done, whether or not the list had it."""
        if sent.prediction_id:
            known = {sent.asking.key: {"prediction_id": sent.prediction_id}}
            rows = [{**row, **known.get(row["user"], {})} for row in sent.asking.truth.signals]
            (self._post.post_now if self._readers.told_at_once else self._post.offer)(rows)

    def change(self, number: int) -> str:
        del number
        what, new = self._readers.change()
        if new:
            workspace = self._loop.workspace
            with Ledger.open(workspace.settings.ledger_address) as ledger:
                add_items(ledger, workspace, self._model, new, actor="demo")
            self._new.update(item.name for item in new)
        return what

    def score(self, sent: Sent) -> float:
        return Ranking().score(sent.answer.items, sent.asking.truth.items)

    def twin(self, sent: Sequence[Sent]) -> Sequence[float]:
        """By what version 1 would have listed, knowing of each reader what was known at that moment."""
        task = Ranking()
        memory = serving_side(Ranking.name).memory(self._loop.workspace.user_events(self._model))
        asked = memory.recalled([Query(user=each.asking.key, at=each.sent_at) for each in sent])
        answers = self.first_version().answers(asked)
        self._twin = [task.read_answer(answer.kept) for answer in answers]
        pairs = zip(self._twin, sent, strict=True)
        return [task.score(items, each.asking.truth.items) for items, each in pairs]

    def figures(self, later: Sequence[Sent]) -> Mapping[str, Any]:
        """How often a list held what its reader wanted, at the end, and how much of the library was shown."""
        answered = [each for each in later if not each.error]
        hits = [float(bool(set(each.answer.items) & each.asking.truth.items.keys())) for each in answered]
        shown = {item for each in answered for item in each.answer.items}
        return {"hit_rate_after": sum(hits) / len(hits) if hits else None, "items_shown_after": len(shown)}

    def panels(self, quality: Quality) -> Sequence[Panel]:
        """What was wanted and shown, of what is new too, and the last lists."""
        return recommendation_panels(quality, self._twin, frozenset(self._new), self._texts())

    def _texts(self) -> Mapping[str, str]:
        return {item.name: item.text for item in catalogue(self._loop.workspace, self._model)}
