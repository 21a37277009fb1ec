"""The recipe `opinion` at work: headlines move to other words and a language, stories break, an analyst judges."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.learning.names import LearnerName
from perennial.continual.tasks.opinion import Headline
from perennial.ops.commands.first_version import first_version
from perennial.ops.demo.analyst import Analyst
from perennial.ops.demo.archive import Archive
from perennial.ops.demo.around import AroundLoop
from perennial.ops.demo.data import dated_file
from perennial.ops.demo.lived import Pace, run_recipe
from perennial.ops.demo.news import News
from perennial.ops.demo.newsdesk import Newsdesk
from perennial.ops.demo.newsroom import Newsroom
from perennial.ops.demo.opinion_panels import opinion_panels
from perennial.ops.demo.paced import Asking, Sent
from perennial.ops.demo.panels import Panel
from perennial.ops.demo.quality import Quality
from perennial.ops.demo.recipe_settings import hasty_policy
from perennial.ops.demo.recipes import Progress, RecipeDemoOptions
from perennial.ops.demo.served import ServedLoop
from perennial.ops.ledger import Ledger
from perennial.ops.store.workspace import Workspace

__all__ = ["run"]

_DELAY_S = 2.0  # from an answer to its label
_LABELLED = 0.8  # of the headlines


def run(options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
    """See `perennial.ops.demo.recipes.RecipeDemo`."""
    return run_recipe(_Desk(_news(options), options), options, progress)


def _news(options: RecipeDemoOptions) -> News:
    if options.data is None:
        return Newsroom.generated(options.seed)
    if (path := dated_file(options.data)) is None:
        raise DataError(
            f"{options.data} has no table of dated rows; give a folder with one CSV of date, text and label"
        )
    return Archive.read(path)


class _Desk(AroundLoop):
    """A desk that reads every headline's answer. See `perennial.ops.demo.lived.World`."""

    recipe: ClassVar[str] = "opinion"
    measure: ClassVar[str] = "right sentiments"

    def __init__(self, news: News, options: RecipeDemoOptions) -> None:
        super().__init__("/v1/feedback", many="labels", delay_s=_DELAY_S)
        self._news = news
        self._wire = (options.out / "wire.jsonl").resolve()
        self._rng = np.random.default_rng(options.seed)
        self._analyst: Analyst | None = None
        self._twin: list[str] = []
        self._seen: Newsdesk

    @property
    def title(self) -> str:
        return self._news.title

    @property
    def pace(self) -> Pace:
        return self._news.pace

    @property
    def changes(self) -> int:
        return self._news.changes

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            # minutes of tuning a version are too long for a demonstration: all versions are of the first learner
            "learning": {"learner": LearnerName.AUTO.value, "first_learner": None, "params": None},
            "policy": hasty_policy(at_least=self._news.learns_after, min_feedback=200),
            "events": self._news.watched,
            "feeds": {"wire": {"file": str(self._wire), "every_s": 1.0}},
        }

    def begin(self, ledger: Ledger, workspace: Workspace, model: str, progress: Progress) -> None:
        rows = self._news.labelled()
        progress("learning", {"rows": len(rows), "what": "labelled headlines"})
        first_version(ledger, workspace, model, rows, partial(progress, "training.step"))
        write_atomically(self._wire, "".join(_row(headline) for headline in self._news.wired()))

    def enter(self, loop: ServedLoop, model: str) -> None:
        super().enter(loop, model)
        if self._news.changes:  # where stories are known, somebody can judge
            self._analyst = Analyst(loop.api, model, self._matters)
            self._analyst.start()

    def leave(self) -> None:
        super().leave()
        if self._analyst is not None:
            self._analyst.stop()

    def draw(self) -> Asking:
        return self._news.draw()

    def told(self, sent: Sent) -> None:
        """Most headlines get their label a little later."""
        if sent.prediction_id and self._rng.random() < _LABELLED:
            self._post.offer([{"prediction_id": sent.prediction_id, "label": sent.asking.truth}])

    def change(self, number: int) -> str:
        del number
        return self._news.change()

    def score(self, sent: Sent) -> float:
        return float(sent.answer.label == sent.asking.truth)

    def twin(self, sent: Sequence[Sent]) -> Sequence[float]:
        """By the first version's engine."""
        self._seen = Newsdesk.read(self._loop.workspace, self._model, self._news, sent)
        answers = self.first_version().answers([each.asking.asked.text for each in sent])
        self._twin = [answer.kept for answer in answers]
        return [float(label == each.asking.truth) for label, each in zip(self._twin, sent, strict=True)]

    def figures(self, later: Sequence[Sent]) -> Mapping[str, Any]:
        """What became of the stories, the alerts and the budget of false ones."""
        del later
        return self._seen.figures()

    def panels(self, quality: Quality) -> Sequence[Panel]:
        return opinion_panels(self._seen, quality, self._twin)

    def _matters(self, texts: Sequence[str]) -> bool:
        """Whether half of these headlines tell a story that somebody would want to be told."""
        stories = [self._news.story_of(text) for text in texts]
        return 2 * sum(story is not None and story.kind.matters for story in stories) >= len(texts)


def _row(headline: Headline) -> str:
    """A headline as a feed's file has it."""
    row = {
        "text": headline.text,
        "source": headline.source,
        "published_at": None if headline.published_at is None else headline.published_at.isoformat(),
        "symbols": [symbol.name for symbol in headline.symbols],
    }
    return json.dumps(row, ensure_ascii=False) + "\n"
