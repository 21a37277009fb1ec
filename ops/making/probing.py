"""A version asked about changed texts: how robust its answers are, and whether they turn with who seems to write.

Only figures are kept; an erasure has nothing to look for in them.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perennial.continual.atomic_file import write_atomically
from perennial.continual.bounds import BoundedFigure
from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.fairness import FairnessLimit
from perennial.continual.fairness.probes import ProbedGroup, probe_dialects, probe_names
from perennial.continual.fairness.thresholds import EQUALISED, EqualThresholds, equal_thresholds
from perennial.continual.intervals import Interval
from perennial.continual.quality.membership import membership_auc
from perennial.continual.records import Example, Split
from perennial.continual.robustness import CHANGES, ChangedAnswers, changed_answers
from perennial.continual.task import AnyRow
from perennial.continual.tasks import reads_words
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks.text_classification import Classified

if TYPE_CHECKING:  # what judges by these limits waits in memory, and asks no database
    from perennial.ops.ledger import Ledger
    from perennial.ops.store.workspace import Workspace

__all__ = ["ProbeLimits", "ProbedVersion", "answers_of", "kept_probes", "probe_version"]

Answers = Callable[[Sequence[str]], Sequence[str]]

_ROWS = 400  # that are asked about, each some twenty times


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedVersion:
    """What was asked of a version, when, and what came of it."""

    at: str
    rows: int  # held-out rows that were drawn
    changes: tuple[ChangedAnswers, ...]
    groups: tuple[ProbedGroup, ...]
    membership: Interval | None = None  # how well it tells learnt rows from others; None where it has learnt none here
    thresholds: tuple[EqualThresholds, ...] = ()  # of each limit on a rate that names its class

    def __post_init__(self) -> None:
        try:
            datetime.fromisoformat(self.at)
        except ValueError as error:
            raise DataError(f"a version was probed at {self.at[:40]!r}; give a time in ISO 8601") from error


def probe_version(
    ledger: "Ledger", workspace: "Workspace", model: str, version: int, *, most_rows: int = _ROWS
) -> ProbedVersion:
    """Ask a version's own engine about changed held-out rows, as it was before it learnt them, and keep the figures.

    Raises:
        ConfigurationError: its task is not of labelled texts.
        NotFound: its bundle is not on disk.
        DataError: there are no held-out rows.
    """
    from perennial.ops.making.rows import ModelRows

    if not reads_words(workspace.model(model).task):
        raise ConfigurationError(f"{model} is of task {workspace.model(model).task}; only labelled texts are probed")
    bundle = workspace.bundle(model, version)
    if not bundle.is_dir():
        raise NotFound(f"{model} has no bundle of version {version} on disk; `perennial model list` tells the versions")
    rows = [stored.example for stored in ledger.examples(model, split=Split.HOLDOUT)]
    if not rows:
        raise DataError(f"model {model} has no held-out rows to ask about; import labelled rows first")
    seed = workspace.settings.seed
    drawn = np.random.default_rng(seed).permutation(len(rows))[:most_rows]
    chosen = [rows[place] for place in sorted(drawn.tolist())]
    texts, labels = [row.text for row in chosen], [row.label for row in chosen]
    threads = workspace.model(model).learning.threads
    asked = BundledVersion.load(bundle, threads=threads, cache_dir=workspace.engines(model), proved=True)
    answers = answers_of(asked)
    own = ModelRows(ledger, workspace, model).learnt_by(version)
    some = np.random.default_rng(seed).permutation(len(own))[:most_rows]
    learnt = [each.example for each in ledger.examples_of(model, sorted(own[place] for place in some)).values()]
    limits = workspace.model(model).fairness.as_limits()
    probed = ProbedVersion(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        rows=len(chosen),
        changes=changed_answers(texts, labels, answers, seed=seed),
        groups=(*probe_names(texts, labels, answers, seed=seed), *probe_dialects(texts, labels, answers)),
        membership=membership_auc(_sure(asked, learnt), _sure(asked, chosen)) if learnt else None,
        thresholds=tuple(_equalised(asked, rows, limits, seed)),
    )
    write_atomically(_path(workspace, model, version), json.dumps(asdict(probed), ensure_ascii=False))
    return probed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """What a challenger's answers to changed texts may not exceed; nothing is asked where nothing is limited."""

    lost_points: dict[str, float] = field(default_factory=dict)  # by the name of a change
    by_names: float | None = None
    by_wording: float | None = None

    def measured(
        self, rows: Sequence[AnyRow], champion: BundledVersion, challenger: BundledVersion, *, seed: int
    ) -> tuple[BoundedFigure, ...]:
        """Both versions asked about the same rows, each change of them likewise."""
        drawn = np.random.default_rng(seed).permutation(len(rows))[:_ROWS]
        chosen = [rows[place] for place in sorted(drawn.tolist())]
        texts, labels = [row.input for row in chosen], [row.target for row in chosen]
        asked = [self._asked(texts, labels, answers_of(version), seed) for version in (champion, challenger)]
        before = {name: value.mean for name, _, value, *_ in asked[0]}
        return tuple(
            BoundedFigure(name=name, told=told, value=value, champion=before.get(name), limit=limit, rows=count)
            for name, told, value, limit, count in asked[1]
        )

    def _asked(
        self, texts: Sequence[str], labels: Sequence[str], answers: Answers, seed: int
    ) -> list[tuple[str, str, Interval, float, int]]:
        """Of one version: name, what is told, the figure, its limit and the rows of each limit."""
        found = []
        changes = [CHANGES[name] for name in self.lost_points]
        for each in changed_answers(texts, labels, answers, seed=seed, changes=changes) if changes else ():
            told, limit = f"the accuracy lost by {each.change}", self.lost_points[each.change] / 100.0
            found.append((f"lost_by_{each.change.replace(' ', '_')}", told, each.lost, limit, each.rows))
        groups: tuple[ProbedGroup, ...] = ()
        if self.by_names is not None:
            groups += probe_names(texts, labels, answers, seed=seed)
        if self.by_wording is not None:
            groups += probe_dialects(texts, labels, answers)
        for group in groups:
            names = group.probe == "names"
            told = f"the share of answers that {group.probe} of {group.group} change"
            value, most = (group.beyond, self.by_names) if names else (group.changed, self.by_wording)
            if value is not None and most is not None:
                name = f"changed_by_{group.probe}_{group.group}".replace(" ", "_")
                found.append((name, told, value, most, group.rows))
        return found


def kept_probes(workspace: "Workspace", model: str, version: int) -> ProbedVersion | None:
    """What was asked of a version before; None where nothing was, or another release wrote it otherwise."""
    from perennial.ops.making.kept_report import kept_report

    return kept_report(_path(workspace, model, version), ProbedVersion)


def answers_of(version: BundledVersion) -> Answers:
    """A version as a function from texts to labels."""
    return lambda texts: [answer.kept for answer in version.answers(list(texts))]


def _equalised(
    version: BundledVersion, rows: Sequence[Example], limits: Sequence[FairnessLimit], seed: int
) -> Iterator[EqualThresholds]:
    """What thresholds of each group's own would give, for each limit on a rate that names its class."""
    wanted = {(limit.attribute, limit.label, limit.rate): limit.least_rows for limit in limits if limit.label}
    wanted = {each: least for each, least in wanted.items() if each[2] in EQUALISED}
    answers = version.answers([row.text for row in rows]) if wanted else []
    given, labels = [answer.kept for answer in answers], [row.label for row in rows]
    for (attribute, label, figure), least in wanted.items():
        found = equal_thresholds(
            attribute,
            [row.attributes.get(attribute) for row in rows],
            labels,
            given,
            [_score(answer, str(label)) for answer in answers],
            label=str(label),
            figure=figure,
            least_rows=least,
            seed=seed,
        )
        if found is not None:
            yield found


def _score(answer: object, label: str) -> float:
    """The probability that an answer gives to a class; 0 where it has no such class."""
    if not isinstance(answer, Classified):
        return 0.0
    return float(dict(zip(answer.labels, answer.scores.tolist(), strict=True)).get(label, 0.0))


def _sure(version: BundledVersion, rows: Sequence[AnyRow]) -> list[float]:
    """The probability that a version gives to each row's own label."""
    answers = version.answers([row.input for row in rows])
    return [_score(answer, row.target) for answer, row in zip(answers, rows, strict=True)]


def _path(workspace: "Workspace", model: str, version: int) -> Path:
    return workspace.reports(model) / f"probes-{version}.json"
