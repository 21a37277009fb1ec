"""The recipe `service` at work: customers ask anew, agents answer and edit, and the desk follows, unattended."""

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from perennial.continual.learning.replies import Action
from perennial.continual.tasks.replies import Message, Replies
from perennial.ops.commands.first_replies import first_replies
from perennial.ops.commands.reply_library import ReplyLibrary
from perennial.ops.demo.around import AroundLoop
from perennial.ops.demo.desk import Asked, Desk, desk_of
from perennial.ops.demo.lived import Pace, run_recipe
from perennial.ops.demo.paced import Asking, Sent
from perennial.ops.demo.panels import Panel
from perennial.ops.demo.quality import Quality
from perennial.ops.demo.recipe_settings import hasty_policy
from perennial.ops.demo.recipes import Progress, RecipeDemoOptions
from perennial.ops.demo.served import ServedLoop
from perennial.ops.demo.service_operator import Operator
from perennial.ops.demo.service_panels import ServiceStory, service_panels
from perennial.ops.ledger import Ledger
from perennial.ops.serving.tasks import serving_side
from perennial.ops.serving.tasks.replies import Answered
from perennial.ops.store.feedback.verdicts import VerdictKind
from perennial.ops.store.private_file import copied
from perennial.ops.store.workspace import Workspace

__all__ = ["run"]

_DELAY_S = 1.0  # from an answer to its verdict
_JUDGED, _HANDED_ON = 0.85, 0.03  # shares of the answers
_PRECISION = 0.95  # that the operator asks of what is sent
_FEW_LABELS = 200
_AT_ONCE = 10  # questions to the twin: beside each of these calls a few texts of the library are embedded


def run(options: RecipeDemoOptions, progress: Progress) -> Mapping[str, Any]:
    """See `perennial.ops.demo.recipes.RecipeDemo`."""
    return run_recipe(_Service(desk_of(options.data, options.seed), options), options, progress)


class _Service(AroundLoop):
    """Customers, agents and an operator around a desk. See `perennial.ops.demo.lived.World`."""

    recipe: ClassVar[str] = "service"
    measure: ClassVar[str] = "R@1"
    changes: ClassVar[int] = 2

    def __init__(self, desk: Desk, options: RecipeDemoOptions) -> None:
        super().__init__("/v1/verdicts", many="verdicts", delay_s=_DELAY_S)
        self._desk, self._out = desk, options.out
        self._rng, self._lock = np.random.default_rng(options.seed + 7), threading.Lock()
        self.pace = Pace(rate=10.0, steady=420, lived=desk.lived, settle=150, last=400)
        policy = hasty_policy(at_least=desk.learns_after, min_feedback=desk.learns_after // 3)
        # of few labels more are held out, or the gate would have too few to judge by
        learning = {"holdout_share": 0.3} if desk.learns_after < _FEW_LABELS else {}
        self.settings: Mapping[str, Any] = {"policy": policy, "learning": learning}
        self.title = f"Customer service: replies that follow what customers ask ({desk.name})"
        self._told: list[tuple[datetime, str]] = []
        self._wave = 0
        self._operator: Operator
        self._story: ServiceStory
        self._sent: Sequence[Sent] = ()

    def begin(self, ledger: Ledger, workspace: Workspace, model: str, progress: Progress) -> None:
        first = self._desk.first
        progress("learning", {"rows": len(first.questions), "what": f"questions of {len(first.replies)} replies"})
        first_replies(ledger, workspace, model, first, (), partial(progress, "training.step"))
        ReplyLibrary(ledger, workspace, model).state_rule({"precision": _PRECISION}, actor="demo")
        copied(workspace.replies(model), self._first_library)

    def enter(self, loop: ServedLoop, model: str) -> None:
        super().enter(loop, model)
        self._operator = Operator(
            api=loop.api, model=model, library=loop.workspace.replies(model), copies=self._out / "libraries"
        )
        self._operator.start()

    def leave(self) -> None:
        super().leave()
        self._operator.stop()

    def draw(self) -> Asking:
        asked = self._desk.draw()
        message = Message(text=asked.text, customer=asked.customer)
        return Asking(asked=message, truth=asked, wave=self._wave, key=asked.customer)

    def told(self, sent: Sent) -> None:
        """An agent, or the customer of what was sent, says what became of the answer."""
        if not sent.prediction_id:
            return
        with self._lock:
            chance = float(self._rng.random())
        if chance >= _JUDGED:
            return
        verdict = self._verdict(sent, chance)
        with self._lock:
            self._told.append((sent.sent_at, str(verdict["verdict"])))
        self._post.offer([{"prediction_id": sent.prediction_id, **verdict}])

    def change(self, number: int) -> str:
        self._wave = number
        return self._desk.change()

    def score(self, sent: Sent) -> float:
        return _found(sent.answer.replies, sent.asking.truth, 1)

    def twin(self, sent: Sequence[Sent]) -> Sequence[float]:
        """By version 1 with the library as it was; beside it, by version 1 with the library of the moment."""
        frozen = self._answered(sent, [(datetime.min.replace(tzinfo=UTC), self._first_library)])
        same = self._answered(sent, [(datetime.min.replace(tzinfo=UTC), self._first_library), *self._operator.copied])
        self._sent, truths = sent, [each.asking.truth for each in sent]
        self._story = ServiceStory(
            told=tuple(sorted(self._told)),
            sending=tuple(self._operator.sending),
            approved=tuple(self._operator.approved),
            precision=_PRECISION,
            found_3=tuple(0.0 if e.error else _found(e.answer.replies, e.asking.truth, 3) for e in sent),
            frozen_3=tuple(_found(replies, truth, 3) for replies, truth in zip(frozen, truths, strict=True)),
            same_library=tuple(_found(replies, truth, 1) for replies, truth in zip(same, truths, strict=True)),
        )
        return [_found(replies, truth, 1) for replies, truth in zip(frozen, truths, strict=True)]

    def figures(self, later: Sequence[Sent]) -> Mapping[str, Any]:
        """What was sent by itself and how much of it was right, and what other twins would have reached."""
        return self._story.figures(self._sent, later)

    def panels(self, quality: Quality) -> Sequence[Panel]:
        return service_panels(self._story, quality)

    @property
    def _first_library(self) -> Path:
        return self._out / "first-library.db"

    def _verdict(self, sent: Sent, chance: float) -> Mapping[str, Any]:
        asked: Asked = sent.asking.truth
        answer = sent.answer
        if answer.action == Action.SEND:
            right = bool(_found(answer.replies, asked, 1))
            return {"verdict": (VerdictKind.SOLVED if right else VerdictKind.UNSOLVED).value}
        if chance < _HANDED_ON:
            return {"verdict": VerdictKind.HANDED_OVER.value}
        if asked.right in answer.replies:
            place = answer.replies.index(asked.right)
            return {"verdict": VerdictKind.ACCEPTED.value, "reply": answer.reply_ids[place]}
        known = self._operator.reply_of(asked)
        if known is None:
            return {"verdict": VerdictKind.OWN.value, "text": asked.right, "intent": asked.intent}
        reply, current = known
        if current:
            return {"verdict": VerdictKind.ACCEPTED.value, "reply": reply}
        return {"verdict": VerdictKind.EDITED.value, "reply": reply, "text": asked.right}

    def _answered(self, sent: Sequence[Sent], libraries: Sequence[tuple[datetime, Path]]) -> list[tuple[str, ...]]:
        """The replies of version 1, each with the newest of the libraries that was there when it was asked."""
        first = self.first_version()
        made: list[tuple[str, ...]] = []
        place, memory = 0, serving_side(Replies.name).memory(libraries[0][1])
        for start in range(0, len(sent), _AT_ONCE):
            part = sent[start : start + _AT_ONCE]
            while place + 1 < len(libraries) and libraries[place + 1][0] <= part[0].sent_at:
                place += 1
                memory = serving_side(Replies.name).memory(libraries[place][1])
            answers = first.answers(memory.recalled([each.asking.asked for each in part]))
            made += [answer.texts if isinstance(answer, Answered) else () for answer in answers]
        return made


def _found(replies: Sequence[str], asked: Asked, most: int) -> float:
    """Whether the right reply, as it is right now, is among the first."""
    return float(asked.right in replies[:most])
