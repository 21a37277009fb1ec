"""What became of answers, as columns of a window: looked for once users have had time to tell."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from perennial.continual.drift.accuracy import GivenLabel
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError, NotFound
from perennial.continual.tasks import task_named
from perennial.ops.ledger.ports import Labels
from perennial.ops.serving.port import Outcomes
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace

__all__ = ["OutcomeWatch"]

logger = logging.getLogger(__name__)


class OutcomeWatch:
    """What became of one model's answers. It repeats: what came later than the settings wait for is left out.

    Reference and windows are cut once their answers are old enough, so that all of them had the same time.
    """

    def __init__(self, ledger: Labels, workspace: Workspace, model: str) -> None:
        self._ledger, self._workspace, self._model = ledger, workspace, model
        self._side = serving_side(workspace.settings.task_of(model))
        self._task = task_named(self._side.name)
        self._of: tuple[int, Outcomes | None] | None = None

    def patience(self, version: int) -> timedelta:
        """How old an answer of a version must be before it is looked at; none where nothing more is to be told."""
        if self._outcomes(version) is None:
            return timedelta(0)
        return timedelta(seconds=self._workspace.model(self._model).drift.feedback_within_s)

    def told(self, window: Window, version: int) -> Window:
        """The window of a version's answers with what became of them."""
        outcomes = self._outcomes(version)
        if outcomes is None or window.ids is None or window.times is None:
            return window
        asked = {
            name: moment.replace(tzinfo=UTC)
            for name, moment in zip(window.ids.tolist(), window.times.tolist(), strict=True)
        }
        targets = self._targets(asked, self.patience(version))
        columns = outcomes.columns(window.whole_answers.tolist(), [targets.get(name) for name in window.ids.tolist()])
        hits, popularities, new_items = (
            np.asarray(columns[name], dtype=np.float32) for name in ("hits", "popularities", "new_items")
        )
        return replace(window, hits=hits, popularities=popularities, new_items=new_items)

    def _targets(self, asked: dict[str, datetime], patience: timedelta) -> dict[str, str]:
        """What was known of each answer when its time was over."""
        given: tuple[GivenLabel, ...] = self._ledger.given_labels(self._model, list(asked))
        found: dict[str, str] = {}
        for one in given:
            if one.at <= asked[one.prediction_id] + patience:
                known = found.get(one.prediction_id)
                joins = known is not None and self._task.adds_up
                found[one.prediction_id] = self._task.joined(known or one.label, one.label) if joins else one.label
        return found

    def _outcomes(self, version: int) -> Outcomes | None:
        if self._of is None or self._of[0] != version:
            try:
                self._of = version, self._side.outcomes(self._workspace.bundle(self._model, version))
            except (DataError, NotFound) as exc:
                facts = {"model": self._model, "version": version, "reason": str(exc)}
                logger.warning("drift.outcomes_unknown", extra=facts)
                self._of = version, None
        return self._of[1]
