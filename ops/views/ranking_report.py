"""How good a version of a ranking is: its lists for held-out rows, what they show, and what the log says of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np

from perennial.continual.learning.ranking.exposure import Exposure, measure_exposure
from perennial.continual.learning.ranking.proof import ListProof, ProvedList, prove_lists
from perennial.continual.off_policy import LoggedChoices, OffPolicy
from perennial.continual.records import Split
from perennial.continual.task import AnyRow
from perennial.continual.tasks.ranking import Ranking
from perennial.exporters.ranking.catalogue import Catalogue
from perennial.exporters.ranking.outcomes import ListOutcomes
from perennial.ops.ledger import Ledger
from perennial.ops.making.logged_choices import (
    UnknownTime,
    choices_of,
    first_choices,
    kept_answers,
    read_logged,
    whose,
)
from perennial.ops.making.rows import ModelRows
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.workspace import Workspace

__all__ = ["LogPanel", "RankingReport", "ranking_report"]

_MOST_ROWS, _MOST_LOGGED = 1_000, 5_000  # each costs a list
_PLACES = 10
_LENT_BELOW = 0.5  # a chance that only a drawn item has


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPanel:
    """What the log says of the version's first place: what it would have earned there, had it answered.

    A first place earns 1 when its item was liked. `rows` are logged lists, `earned` is what those that were shown
    earned, `agreed` the share of rows in which the version would have put the same item first. `off_policy` stands on
    the `judged` ones alone: later than all that the version learnt, and old enough for their feedback. It is None where
    there are too few, or no place was lent, since such a log tells nothing of other choices.
    """

    rows: int
    earned: float
    agreed: float
    lent: int  # first places that were drawn
    judged: int  # lists that `off_policy` stands on
    off_policy: OffPolicy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingReport:
    """What is known of a version's lists. `verdict` is the sentence that matters most."""

    model: str
    version: int
    verdict: str
    items: int
    cold_items: int  # that nobody had liked when it was made
    proof: ListProof | None
    exposure: Exposure | None
    log: LogPanel | None


def ranking_report(ledger: Ledger, workspace: Workspace, model: str, version: int) -> RankingReport:
    """The report on a version, whose bundle answers the held-out rows with what each user had done before.

    Raises:
        NotFound: there is no such version.
        BundleRejected: its files are gone, or not what its manifest says.
    """
    ledger.version(model, version)
    asking = _Asking(workspace, model, version)
    seed = workspace.settings.seed
    learnt = _learnt(ledger, workspace, model, version)
    last = max(learnt.values(), default=None)
    rows, within = _unknown(ledger, model, learnt, last), UnknownTime.of(workspace, model, last)
    proved = asking.proved(rows)
    proof = prove_lists(proved, asking.known, np.random.default_rng(seed))
    return RankingReport(
        model=model,
        version=version,
        verdict=_verdict(proof),
        items=len(asking.known),
        cold_items=sum(not users for users in asking.known.values()),
        proof=proof,
        exposure=measure_exposure([row.items[:_PLACES] for row in proved], asking.known) if proof else None,
        log=_log_panel(ledger, workspace, asking, within, np.random.default_rng(seed)),
    )


class _Asking:
    """A version's bundle, its catalogue, and what is known of users."""

    def __init__(self, workspace: Workspace, model: str, version: int) -> None:
        self.model = model
        bundle = workspace.bundle(model, version)
        self._version = BundledVersion.load(bundle, cache_dir=workspace.engines(model))
        catalogue = Catalogue.read(bundle)
        users = zip(catalogue.items, catalogue.ties.known.tolist(), strict=True)
        self.known = {item.name: known for item, known in users}
        self._everybody = sorted(self.known, key=lambda name: (-self.known[name], name))
        self.side, self.outcomes = serving_side(Ranking.name), ListOutcomes.read(bundle)
        self._memory = self.side.memory(workspace.user_events(model))

    def proved(self, rows: Sequence[AnyRow]) -> list[ProvedList]:
        """The version's list for each row, and everybody's, both without what its user had seen."""
        asked = self._memory.recalled([row.input for row in rows])
        lists = self.lists(asked)
        return [
            ProvedList(
                user=row.input.user,
                segment=row.input.segment,
                items=own,
                popular=tuple(islice((name for name in self._everybody if name not in one.known.hidden), _PLACES)),
                relevances=row.target,
            )
            for row, one, own in zip(rows, asked, lists, strict=True)
        ]

    def lists(self, asked: Sequence[Any]) -> list[tuple[str, ...]]:
        """Its lists, made of what was known of each user before the question."""
        return [Ranking().read_answer(kept) for kept in kept_answers(self._version, self._memory, asked)]

    def firsts(self, asked: Sequence[Any]) -> list[str]:
        """The first item of each."""
        return first_choices(self._version, self.outcomes, self._memory, asked)


def _unknown(ledger: Ledger, model: str, learnt: Collection[int], last: datetime | None) -> list[AnyRow]:
    """The newest rows in which something was liked and that are later than the `last` of those that were learnt.

    Where there is none yet, those that were held out of its own time.
    """
    train = ledger.examples(model, split=Split.TRAIN)
    held_out = ledger.examples(model, split=Split.HOLDOUT)
    liked = [
        stored.example
        for stored in (*held_out, *(stored for stored in train if stored.id not in learnt))
        if any(worth > 0 for worth in stored.example.target.values())
    ]
    later = [row for row in liked if last is None or row.at > last]
    own = {id(stored.example) for stored in held_out}
    return sorted(later or [row for row in liked if id(row) in own], key=lambda row: row.input.at)[-_MOST_ROWS:]


def _learnt(ledger: Ledger, workspace: Workspace, model: str, version: int) -> dict[int, datetime]:
    """The rows that the version learnt, by their ids: when each became known."""
    ids = set(ModelRows(ledger, workspace, model).learnt_by(version))
    return {row.id: row.example.at for row in ledger.examples(model, split=Split.TRAIN) if row.id in ids}


def _log_panel(
    ledger: Ledger, workspace: Workspace, asking: _Asking, within: UnknownTime, rng: np.random.Generator
) -> LogPanel | None:
    """What the newest logged lists say; None where nothing was logged."""
    rows = read_logged(ledger, workspace, asking.model, asking.outcomes, asking.side, most=_MOST_LOGGED)
    made = choices_of(rows, asking.outcomes, asking.side)
    if not made:
        return None
    firsts = asking.firsts([one.asked for one in made])
    agrees = np.array([float(one.choice.chosen == first) for one, first in zip(made, firsts, strict=True)])
    unknown = np.array([within.holds(one.at) for one in made])
    judged = [one for one, holds in zip(made, unknown, strict=True) if holds]
    propensity = np.array([one.choice.propensity for one in judged])
    tells = len(judged) > 1 and bool((propensity < 1.0).any())
    return LogPanel(
        rows=len(made),
        earned=float(np.mean([one.choice.earned for one in made])),
        agreed=float(agrees.mean()),
        lent=sum(one.choice.propensity < _LENT_BELOW for one in made),
        judged=len(judged),
        off_policy=LoggedChoices(
            reward=np.array([one.choice.earned for one in judged]),
            propensity=propensity,
            champion=agrees[unknown],
            challenger=agrees[unknown],
            whose=whose(judged, asking.side),
        ).of_champion(rng)
        if tells
        else None,
    )


def _verdict(proof: ListProof | None) -> str:
    if proof is None:
        return "No held-out row tells what anybody liked, so nothing is known of its lists. The next signals will tell."
    own, popular, ahead = proof.ndcg_10.mean, proof.popular_ndcg_10, proof.ahead
    figures = f"NDCG@10 {own:.3f} beside {popular:.3f} on {proof.rows:,} held-out rows of {proof.users:,} users"
    if ahead.decided > 0:
        return f"Its lists are better than that of the most liked items: {figures}."
    if ahead.decided < 0:
        return f"Everybody is better served by the most liked items: {figures}. Give it more events."
    return f"Its lists cannot be told from that of the most liked items: {figures}. Give it more events."
