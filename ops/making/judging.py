"""`python -m perennial.ops.making.judging SPEC.json`: both versions answer the same held-out rows; the gate decides.

A version is judged as it was before it learnt the rows that prove it, by the head that its bundle keeps of then. The
one that will answer must then answer those rows as well at least.

The work is done in a process of its own, on the bundles themselves, so that a judgement neither slows live requests
nor trusts anything but the files that would be served. It is also the challenger's test load, before any Triton sees
it: an engine that crashes, hangs, takes too much memory or does not repeat its golden answers costs this process and
nothing else.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perennial.continual.bounds import BoundedFigure
from perennial.continual.errors import BundleRejected, PerennialError
from perennial.continual.fairness.limits import FairnessLimit
from perennial.continual.gate import GateEvidence, GateRules, PairedRows, judge
from perennial.continual.intervals import surely_below
from perennial.continual.jobs.memory import resident_mb
from perennial.continual.learning.lapack import one_thread_each
from perennial.continual.learning.mapped_rows import MappedRows, mapped_once
from perennial.continual.learning.metrics import expected_calibration_error
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.trained import PROOF_FILE
from perennial.continual.quality.simple_answers import lexical_answers, majority_answers, moved_priors
from perennial.continual.records import PromotionDecision
from perennial.continual.task import AnyRow, AnyTask
from perennial.continual.tasks import DEFAULT_TASK, task_named
from perennial.exporters.bundle import read_manifest
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.job import Opened
from perennial.exporters.text_classification.given import head_on_given
from perennial.exporters.text_classification.part import TOKENIZER_FILE
from perennial.ops.making.logged_choices import logged_choices
from perennial.ops.making.probing import ProbeLimits
from perennial.ops.serving.bundled import BundledVersion, EngineReply
from perennial.ops.serving.port import Answer, FurtherProof, Outcomes, VersionSide
from perennial.ops.serving.tasks import serving_side
from perennial.ops.serving.tasks.text_classification import Classified

__all__ = ["Compared", "JudgingSpec", "compare", "decide", "main", "measure", "time_alone"]

_TIMED, _TIMED_ALIKE = 40, 4  # rows; fewer where both heads stand on one engine
_BEYOND_CHANCE = 3.0  # standard errors
_GOLDEN_FIGURE = "challenger_golden_difference"
_TURNS = 5  # at most, in which both versions are timed


class _Answering(Protocol):
    """What is timed of a version."""

    def answers(self, task_inputs: Sequence[Any]) -> Sequence[Answer]:
        """Answer each input."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingSpec:
    """What to judge: two bundles, the rows as the task writes them, the rules, and the task that scores answers.

    With `old_among_all` old rows may be answered with new classes too, and count as lost when they are.
    """

    champion: int
    challenger: int
    champion_bundle: str
    challenger_bundle: str
    fresh: list[Any]
    old: list[Any]
    rules: dict[str, Any]
    seed: int
    threads: int
    cache: str | None = None
    embeddings: str | None = None  # the folder of what encoders gave for rows
    old_among_all: bool = False
    task: str = DEFAULT_TASK
    taught: tuple[str, ...] = ()  # files of the rows that the challenger learnt, of tasks whose rows are labelled texts
    memory: str | None = None  # the file of what is remembered of those who ask
    logged: list[dict[str, Any]] = field(default_factory=list)  # live answers of the champion, see `logged_choices`
    attributes: list[dict[str, str]] = field(default_factory=list)  # whose the rows are, fresh ones first; or none
    limits: list[dict[str, Any]] = field(default_factory=list)  # fields of `FairnessLimit`
    probes: dict[str, Any] = field(default_factory=dict)  # fields of `ProbeLimits`; none where nothing is limited

    def record(self) -> dict[str, Any]:
        """What JSON can hold of it; the rows are its own, and are not copied one by one."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both versions with what they answered: all that the gate asks but how long an answer takes.

    `loaded` is what the challenger's load cost: seconds, megabytes, and its difference from its golden answers.
    """

    champion: BundledVersion
    challenger: BundledVersion
    evidence: GateEvidence
    loaded: Mapping[str, float]
    timed: Sequence[Any]  # inputs


def compare(spec: JudgingSpec, opened: Opened | None = None, known: MappedRows | None = None) -> Compared:
    """Let both bundles answer all rows once. An engine of the challenger that is `opened` is not opened again.

    Rows that are `known` as heads see them are not mapped again.

    Raises:
        BundleRejected: a bundle is not what its manifest says, or the challenger does not repeat its golden answers, or
            answers worse than it was proved.
    """
    with mapped_once(known):
        return _compared(spec, opened)


def _compared(spec: JudgingSpec, opened: Opened | None) -> Compared:
    cache, task = None if spec.cache is None else Path(spec.cache), task_named(spec.task)
    before, bundle = Path(spec.champion_bundle), Path(spec.challenger_bundle)
    challenger, loaded = _test_loaded(bundle, spec.threads, cache, opened)
    if same := _same_embeddings(before, bundle):
        champion = challenger.beside(before, proved=True, reread=opened is None)
    else:
        champion = BundledVersion.load(before, threads=spec.threads, cache_dir=cache, proved=True)
    rows = _read(task, spec.fresh + spec.old)
    fresh, old = slice(0, len(spec.fresh)), slice(len(spec.fresh), len(rows))
    side = serving_side(task.name)
    memory = side.memory(None if spec.memory is None else Path(spec.memory))
    task_inputs = memory.recalled([row.input for row in rows])
    outcomes = side.outcomes(Path(spec.champion_bundle))
    texts = [text for row in rows for text in task.texts(row.input)]
    asked = _asked(challenger, spec, task_inputs, texts) if same else challenger.ask(task_inputs)
    replies = asked.read_by(champion.side) if same else champion.ask(task_inputs)
    answers = _Answers(replies, rows, task), _Answers(asked, rows, task)
    known = champion.side.vocabulary
    proofs = side.further_proofs(None if spec.memory is None else Path(spec.memory))
    _check_served(answers[1], side.open(bundle))
    evidence = GateEvidence(
        champion=spec.champion,
        challenger=spec.challenger,
        fresh=replace(_paired(answers, fresh), parts=_parts(outcomes, task_inputs[fresh], rows[fresh])),
        old=_paired(answers, old, within=None if spec.old_among_all else known, of=known),
        challenger_calibration_error=answers[1].calibration_error(),
        champion_latency_ms=0.0,
        challenger_latency_ms=0.0,
        logged=None
        if outcomes is None
        else logged_choices(spec.logged, outcomes, side, memory, (champion, challenger)),
        further={proof.name: _proved(proof, champion, challenger) for proof in proofs},
        champion_variety=answers[0].variety(),
        challenger_variety=answers[1].variety(),
        bounded=(*_bounded(answers, spec), *_probed(rows, champion, challenger, spec)),
    )
    gain, rng, rules = evidence.fresh.difference_points(), np.random.default_rng(spec.seed), GateRules(**spec.rules)
    if len(gain) >= rules.min_fresh_rows > 0 and not surely_below(-gain, 0.0, rules.confidence, rng):
        evidence = replace(evidence, simple=_simple(answers[0], rows, len(spec.fresh), spec))
    return Compared(
        champion=champion,
        challenger=challenger,
        evidence=evidence,
        loaded=loaded,
        timed=task_inputs[: _TIMED_ALIKE if same else _TIMED] or [side.probe],
    )


def measure(
    spec: JudgingSpec, opened: Opened | None = None, compared: Compared | None = None
) -> tuple[GateEvidence, Mapping[str, float]]:
    """What `compare` found, or has found already, with both versions timed one row at a time, taking turns.

    A challenger that was `compared` before it had golden answers is asked for them now.

    Raises:
        BundleRejected: see `compare`.
    """
    compared, bundle = compared or compare(spec, opened), Path(spec.challenger_bundle)
    loaded, limit = compared.loaded, GateRules(**spec.rules).max_latency_ratio
    if _GOLDEN_FIGURE not in loaded and (bundle / GOLDEN).is_file():
        loaded = {**loaded, _GOLDEN_FIGURE: Golden.read(bundle).check(compared.challenger.engine)}
    champion_ms, challenger_ms = time_alone(compared.champion, compared.challenger, compared.timed, limit=limit)
    return replace(compared.evidence, champion_latency_ms=champion_ms, challenger_latency_ms=challenger_ms), loaded


def _bounded(answers: "tuple[_Answers, _Answers]", spec: JudgingSpec) -> tuple[BoundedFigure, ...]:
    """What settings bound of how far groups of people lie apart."""
    if not spec.limits or not spec.attributes:
        return ()
    labels = [row.target for row in answers[1].rows]
    before, given = (version.labels() for version in answers)
    found = []
    for told in spec.limits:
        limit = FairnessLimit(**told)
        groups = [whose.get(limit.attribute) for whose in spec.attributes]
        found.append(limit.measured(groups, labels, given, before))
    return tuple(figure for figure in found if figure is not None)


def _probed(
    rows: Sequence[AnyRow], champion: BundledVersion, challenger: BundledVersion, spec: JudgingSpec
) -> tuple[BoundedFigure, ...]:
    """What settings bound of how changed texts change answers."""
    if not spec.probes or not rows:
        return ()
    return ProbeLimits(**spec.probes).measured(rows, champion, challenger, seed=spec.seed)


def _parts(
    outcomes: Outcomes | None, task_inputs: Sequence[Any], rows: Sequence[AnyRow]
) -> dict[str, NDArray[np.bool_]]:
    """The parts of these rows that the task names, by what the champion knew."""
    if outcomes is None:
        return {}
    named = outcomes.parts(task_inputs, [row.target for row in rows])
    return {name: np.array(inside, dtype=np.bool_) for name, inside in named.items()}


def _simple(
    champion: "_Answers", rows: Sequence[AnyRow], fresh: int, spec: JudgingSpec
) -> dict[str, NDArray[np.float64]]:
    """Scores on the fresh rows of what costs nothing: a constant, words and letters, the champion with moved priors."""
    files = [read_rows(Path(path)) for path in spec.taught]
    taught = [row for read in files for row in read]
    if not taught:
        return {}
    asked, before = rows[:fresh], [row.target for row in rows[fresh:]]
    newest = [row.label for row in files[0]]
    given = {
        "majority": majority_answers(taught, fresh),
        "lexical": lexical_answers(taught, [row.input for row in asked]),
    }
    scores = champion.class_scores(slice(0, fresh))
    if scores and before and newest:
        given["champion_with_moved_priors"] = moved_priors(scores, before, newest)
    return {
        name: np.array([champion.task.score(answer, row.target) for answer, row in zip(answers, asked, strict=True)])
        for name, answers in given.items()
    }


def _read(task: AnyTask, written: Sequence[Any]) -> list[AnyRow]:
    """Rows as the task writes them; earlier releases wrote pairs of text and label."""
    now = datetime.now(UTC)
    fields = (raw if isinstance(raw, Mapping) else {"text": raw[0], "label": raw[1]} for raw in written)
    return [task.read_row(row, now=now) for row in fields]


def _test_loaded(
    bundle: Path, threads: int, cache: Path | None, opened: Opened | None
) -> tuple[BundledVersion, dict[str, float]]:
    if opened is not None:  # which has no golden answers before it is proved
        figures = {"challenger_load_s": opened.seconds, "challenger_load_mb": opened.megabytes}
        return BundledVersion.around(opened.engine, bundle, proved=True), figures
    started, before = time.perf_counter(), resident_mb()
    version = BundledVersion.load(bundle, threads=threads, cache_dir=cache, proved=True)
    seconds, megabytes = time.perf_counter() - started, max(0.0, resident_mb() - before)
    figures = {"challenger_load_s": seconds, "challenger_load_mb": megabytes}
    if (bundle / GOLDEN).is_file():
        figures[_GOLDEN_FIGURE] = Golden.read(bundle).check(version.engine)
    return version, figures


def _same_embeddings(champion: Path, challenger: Path) -> bool:
    """Whether the champion's proved head reads from its engine what the challenger's gives too: they need run but once.

    Both are then heads in numpy on one encoder, in one runtime at one precision, behind one tokenizer.
    """
    if not all((bundle / PROOF_FILE).is_file() for bundle in (champion, challenger)):
        return False
    one, other = (
        (
            manifest.task,
            manifest.engine,
            manifest.precision,
            manifest.encoder_fingerprint,
            manifest.graph_fingerprint,
            manifest.options,
            manifest.files.get(TOKENIZER_FILE),
        )
        for manifest in (read_manifest(champion), read_manifest(challenger))
    )
    return one == other


def _asked(
    challenger: BundledVersion, spec: JudgingSpec, task_inputs: Sequence[Any], texts: Sequence[str]
) -> EngineReply:
    """What the engine gives; for texts that it was asked about when another head stood on this encoder, what it gave.

    The head's own arithmetic, by which the engine was proved, answers on what was given.
    """
    if spec.embeddings is None or not task_inputs or not (Path(spec.challenger_bundle) / TOKENIZER_FILE).is_file():
        return challenger.ask(task_inputs)
    given = head_on_given(challenger.engine, Path(spec.challenger_bundle), Path(spec.embeddings), texts)
    return BundledVersion(given, challenger.side).ask(task_inputs)


def _check_served(proved: "_Answers", served: VersionSide) -> None:
    """What will answer has learnt these rows too: beyond chance it must not be worse on them than what was proved.

    Raises:
        BundleRejected: it is.
    """
    everything = slice(None)
    before, after = proved.scores(everything), proved.read_by(served).scores(everything)
    lost = before - after
    if len(lost) and lost.sum() > 1.0 and lost.mean() > _BEYOND_CHANCE * lost.std() / np.sqrt(len(lost)):
        raise BundleRejected(
            f"the challenger scores {after.mean():.4f} on {len(lost)} held-out rows that it has learnt, and "
            f"{before.mean():.4f} before; it is not what was proved: train it again"
        )


class _Answers:
    """One version's answers to all rows."""

    def __init__(self, replies: EngineReply, rows: Sequence[AnyRow], task: AnyTask) -> None:
        self.task, self.rows = task, rows
        self._replies = replies

    def read_by(self, side: VersionSide) -> "_Answers":
        """The same engine's outputs as another side of the same bundle reads them."""
        other = copy(self)
        other._replies = self._replies.read_by(side)
        return other

    def scores(self, part: slice, within: frozenset[str] | None = None) -> NDArray[np.float64]:
        """How good the answer to each of the rows is, the answers restricted to those `within` when given."""
        return self._scores(self._replies.answers(part, within=within), self.rows[part])

    def class_scores(self, part: slice) -> list[dict[str, float]]:
        """The probability of each class for each row; nothing of a version that gives none."""
        answers = [answer for answer in self._replies.answers(part) if isinstance(answer, Classified)]
        return [dict(zip(answer.labels, answer.scores.tolist(), strict=True)) for answer in answers]

    def labels(self) -> list[str]:
        """The answer to each row, as the task reads it."""
        return [self.task.read_answer(answer.kept) for answer in self._replies.answers()]

    def variety(self) -> int:
        """How many different things its answers show."""
        answers = self._replies.answers()
        return len({thing for answer in answers for thing in self.task.shown(self.task.read_answer(answer.kept))})

    def calibration_error(self) -> float:
        """Expected calibration error over all rows; 0 where there are none, or the task has no probabilities."""
        answers = self._replies.answers()
        confidences = [answer.confidence for answer in answers]
        if not confidences or None in confidences:
            return 0.0
        reported = np.array(confidences, dtype=np.float32)
        return float(expected_calibration_error(reported, self._scores(answers, self.rows)))

    def _scores(self, answers: Sequence[Answer], rows: Sequence[AnyRow]) -> NDArray[np.float64]:
        pairs = zip(answers, rows, strict=True)
        scores = [self.task.score(self.task.read_answer(answer.kept), row.target) for answer, row in pairs]
        return np.array(scores, dtype=np.float64)


def _paired(
    answers: tuple[_Answers, _Answers],
    part: slice,
    *,
    within: frozenset[str] | None = None,
    of: frozenset[str] | None = None,
) -> PairedRows:
    """Both versions on the same rows: answers restricted to `within`, rows to those whose own target is one of `of`."""
    task, rows = answers[0].task, answers[0].rows[part]
    kept = np.array([of is None or row.target in of for row in rows], dtype=np.bool_)
    champion, challenger = (version.scores(part, within)[kept] for version in answers)
    return PairedRows(
        strata=np.asarray([task.stratum(row) for row in rows], dtype=str)[kept],
        champion_scores=champion,
        challenger_scores=challenger,
        stratum_noun=task.stratum_noun,
    )


def _proved(proof: FurtherProof, champion: BundledVersion, challenger: BundledVersion) -> PairedRows:
    """Both versions at work that neither has learnt of."""
    scores = []
    for version in (champion, challenger):
        for one in proof.before:
            version.answers([one])
        scores.append(np.array(proof.scores(version.answers(proof.inputs)), dtype=np.float64))
    return PairedRows(
        strata=np.asarray(proof.strata, dtype=str), champion_scores=scores[0], challenger_scores=scores[1]
    )


def time_alone(
    champion: _Answering, challenger: _Answering, task_inputs: Sequence[Any], *, limit: float
) -> tuple[float, float]:
    """Milliseconds of one input alone, each version's median over the inputs.

    A machine that has much else to do takes the processor away in the middle of an answer. So while the challenger
    seems slower than the limit allows, both are asked again, and the best time of each input counts.
    """
    best = np.full((2, len(task_inputs)), np.inf)
    for turn in range(_TURNS):
        for place, one in enumerate(task_inputs):
            for which in ((0, 1), (1, 0))[(turn + place) % 2]:
                started = time.perf_counter()
                (champion, challenger)[which].answers([one])
                best[which, place] = min(best[which, place], 1e3 * (time.perf_counter() - started))
        old, new = (float(np.median(times)) for times in best)
        if new <= limit * old:
            break
    return old, new


def decide(spec: JudgingSpec, opened: Opened | None = None, compared: Compared | None = None) -> PromotionDecision:
    """Measure and judge; see `measure`."""
    evidence, loaded = measure(spec, opened, compared)
    decision = judge(evidence, GateRules(**spec.rules), np.random.default_rng(spec.seed))
    return replace(decision, figures={**decision.figures, **loaded})


def main() -> int:
    """Read the spec, write the decision beside it as `decision.json`, and exit 0 whatever it says."""
    path = Path(sys.argv[1])
    try:
        with one_thread_each():  # of numpy; an engine has threads of its own
            decision = decide(JudgingSpec(**json.loads(path.read_text(encoding="utf-8"))))
    except PerennialError as exc:
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        return exc.exit_code
    (path.parent / "decision.json").write_text(json.dumps(asdict(decision)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
