"""How good a version is: its answers to held-out rows beside simple baselines, and what its rows tell."""

from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.card import is_finished, noise_of, read_card
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.preparation import deidentify
from perennial.continual.quality import (
    AnswerFigures,
    BaselineFigures,
    HeldOutAnswers,
    RowFindings,
    SmallClass,
    examine_rows,
    judge_answers,
    majority_baseline,
    plain_verdict,
    tfidf_baseline,
)
from perennial.continual.records import Example, Split
from perennial.continual.tasks import reads_words
from perennial.ops.ledger import Ledger, VersionRow
from perennial.ops.making.held_out_answers import kept_answers
from perennial.ops.making.probing import ProbedVersion, kept_probes
from perennial.ops.making.rows import ModelRows
from perennial.ops.store.workspace import Workspace
from perennial.ops.views.fairness import FairnessView, fairness_view

__all__ = ["BaselineView", "ModelReport", "OpenSetView", "PrivacyView", "model_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineView:
    """A baseline's figures on the same held-out rows."""

    name: str
    learnt: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSetView:
    """What `KNOWN` promises: the share of texts of its classes that may be refused, and the rows that it was fitted on.

    `new_class_recall` is the share of held-out rows that would be refused had their own class been missing; None where
    that cannot be told.
    """

    false_refusals: float
    rows: int
    new_class_recall: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyView:
    """What a version's noise hides; `epsilon` is what it tells of a row by itself, and `epsilon_spent` what all have.

    `told` says of which rows it told, `by` what carries the noise; `budget` is None where nothing limits it.
    """

    by: str
    told: str
    epsilon: float
    delta: float
    epsilon_spent: float
    budget: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """What is known of a version's quality. `verdict` is the sentence that matters most.

    `answers` is None, and the verdict says why, where the version's answers were not kept. `unserved` are classes of
    the rows that it cannot answer with. `open_set` is None where the version takes every text for one of its classes.
    `fairness` is None where the settings declare no attribute, `probed` where `--probe` was never asked for, `privacy`
    where the version was learnt without noise.
    """

    model: str
    version: int
    verdict: str
    classes: int
    answers: AnswerFigures | None
    baselines: tuple[BaselineView, ...]
    unserved: tuple[SmallClass, ...]
    findings: RowFindings
    open_set: OpenSetView | None = None
    fairness: FairnessView | None = None
    probed: ProbedVersion | None = None
    privacy: PrivacyView | None = None


def model_report(
    ledger: Ledger, workspace: Workspace, model: str, version: int, findings: RowFindings | None = None
) -> ModelReport:
    """The report on a version; `findings` are those of the file that it was made from, where that is at hand.

    Baselines learn the training rows that the version has learnt, and answer the rows that proved it. Rows that were
    erased since are in neither. Words are counted where rows have any: those of images are names.

    Raises:
        NotFound: there is no such version.
        ConfigurationError: it has no labels.
    """
    row = ledger.version(model, version)
    if not row.labels:
        raise ConfigurationError(
            f"version {version} of {model} has no labels, and a report is made of models that classify; "
            "`perennial status` tells the quality of its answers"
        )
    held = {stored.id: stored.example for stored in ledger.examples(model, split=Split.HOLDOUT)}
    train = {stored.id: stored.example for stored in ledger.examples(model, split=Split.TRAIN)}
    if findings is None:
        learning = workspace.model(model).learning
        findings = examine_rows(
            [*train.values(), *held.values()],
            min_class_rows=learning.min_class_rows,
            holdout_share=learning.holdout_share,
        )
    proof, answers = _proof(workspace, row, held)
    learnt = [train[number] for number in ModelRows(ledger, workspace, model).learnt_by(version) if number in train]
    figures, baselines = None, tuple[BaselineFigures, ...]()
    if answers is not None:
        figures = judge_answers(
            answers, row.labels, lambda ids: {number: deidentify(held[number].text) for number in ids}
        )
        words = reads_words(workspace.model(model).task)
        baselines = _baselines(learnt, proof, workspace.settings.seed, words=words)
    return ModelReport(
        model=model,
        version=version,
        verdict=_verdict(answers, baselines),
        classes=len(row.labels),
        answers=figures,
        baselines=tuple(
            BaselineView(
                name=baseline.name, learnt=baseline.learnt, accuracy=baseline.accuracy, macro_f1=baseline.macro_f1
            )
            for baseline in baselines
        ),
        unserved=_unserved(ledger, row),
        findings=findings,
        open_set=_open_set(workspace.bundle(model, version)),
        fairness=fairness_view(workspace.model(model).fairness, proof, answers),
        probed=kept_probes(workspace, model, version),
        privacy=_privacy(workspace.bundle(model, version)),
    )


def _proof(
    workspace: Workspace, row: VersionRow, held: dict[int, Example]
) -> tuple[list[Example], HeldOutAnswers | None]:
    """The rows that proved the version and are still there, and its answers to them."""
    kept = kept_answers(workspace, row.model, row.version)
    if kept is None:
        return [], None
    return [held[number] for number in kept.ids if number in held], kept.of_rows(
        {number: each.label for number, each in held.items()}
    )


def _open_set(bundle: Path) -> OpenSetView | None:
    found = OpenSet.read(bundle)
    if found is None or not is_finished(bundle):
        return None
    recall = read_card(bundle).metrics.get("holdout_new_class_recall")
    return OpenSetView(false_refusals=found.false_refusals, rows=found.rows, new_class_recall=recall)


def _privacy(bundle: Path) -> PrivacyView | None:
    told = noise_of(bundle)
    if told is None:
        return None
    limit = told["budget"]
    return PrivacyView(
        by=str(told["by"]),
        told=str(told["told"]),
        epsilon=float(told["epsilon"]),
        delta=float(told["delta"]),
        epsilon_spent=float(told["epsilon_spent"]),
        budget=None if limit is None else float(limit),
    )


def _baselines(train: list[Example], proof: list[Example], seed: int, *, words: bool) -> tuple[BaselineFigures, ...]:
    if len({row.label for row in train}) < 2:
        return ()
    commonest = majority_baseline(train, proof)
    return (commonest, tfidf_baseline(train, proof, seed=seed)) if words else (commonest,)


def _verdict(answers: HeldOutAnswers | None, baselines: tuple[BaselineFigures, ...]) -> str:
    if answers is None:
        return (
            "Its answers to held-out rows are not known: none were held out, or it was made by an earlier release or "
            "taken over ready-made. The next version's will be."
        )
    if not baselines:
        return "There are too few training rows left in the ledger for a baseline to compare with."
    right = [given == label for given, label in zip(answers.given, answers.labels, strict=True)]
    return plain_verdict(right, baselines)


def _unserved(ledger: Ledger, row: VersionRow) -> tuple[SmallClass, ...]:
    known = set(row.labels)
    counts = ledger.label_counts(row.model)
    missing = [SmallClass(label=label, rows=rows) for label, rows in counts.items() if label not in known]
    return tuple(sorted(missing, key=lambda missed: (-missed.rows, missed.label)))
