"""From labelled rows to a new head in closed form, in seconds: the fast learner's job."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.atomic_file import share_file
from perennial.continual.errors import TrainingFailed
from perennial.continual.federation.others import Others
from perennial.continual.learning.calibration import fit_link, fit_temperature, log_loss, places_of
from perennial.continual.learning.card import ModelCard, drop_card, read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.closed_form import (
    CLOSED_FORMS,
    GROWN,
    ClassesLearner,
    ClosedForm,
    FastSettings,
    FirstLook,
)
from perennial.continual.learning.context import Context, WorkedAhead
from perennial.continual.learning.descriptions import anchor_texts
from perennial.continual.learning.encoder import Embedder, hidden_size
from perennial.continual.learning.head import HeadWeights, RowFeatures, note_mapped
from perennial.continual.learning.job_rows import JobRows, class_rows, held_out
from perennial.continual.learning.lapack import one_thread_each
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.open_set import OPEN_SET_FILE, NearestMeans, OpenSet, fit_open_set, new_class_recall
from perennial.continual.learning.selection import HeldOut, clearly_lower, row_scores
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.sums_writer import SumsWriter
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import (
    OTHERS_FILE,
    PROOF_FILE,
    STATISTICS_FILE,
    proof_keys,
    read_head,
    write_head,
    write_proof,
)
from perennial.continual.preparation import deduplicate, row_hash, split_of
from perennial.continual.records import Example, Split

__all__ = ["FastModel", "FastSettings", "fit_fast", "train_fast", "write_fast"]

logger = logging.getLogger(__name__)

_ENOUGH_HELD_OUT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FastModel:
    """What the fast learner makes: the solved head, the one that was proved, the sums, the card, what is of no class.

    The head that answers has learnt the rows that prove it, named by `learnt_after`; `proved` and the sums have not.

    >>> sorted(FastModel.__dataclass_fields__)
    ['card', 'head', 'learnt_after', 'open_set', 'others', 'proved', 'statistics']
    """

    head: HeadWeights
    proved: HeadWeights
    learnt_after: tuple[int, ...]
    statistics: ClassesLearner
    card: ModelCard
    open_set: OpenSet | None
    others: Path | None = None  # the sums of other sites that the head counts beside


def train_fast(spec: JobSpec, context: Context, embedder: Embedder | None = None) -> ModelCard:
    """`fit_fast`, written to the spec's `out` folder with `model.json` last."""
    modest = nullcontext() if spec.previous is None else one_thread_each()  # an update has what serves beside it
    with modest, SumsWriter(spec.out / STATISTICS_FILE) as writer:
        if spec.learner is LearnerName.AUTO:
            model = _fit_better(spec, context, embedder, writer)
        else:
            model = fit_fast(spec, context, embedder, head=spec.learner.value, writer=writer)
        context.checkpoint()
        write_fast(spec.out, model, writer)
    model.card.write(spec.out)
    logger.info("training.fast_model_trained", extra={"rows": model.statistics.rows, "classes": len(model.head.labels)})
    return model.card


def write_fast(out: Path, model: FastModel, writer: SumsWriter | None = None) -> None:
    """Writes the head and its sums; the card is left to the caller, who writes it last.

    A `writer` may have begun to write the sums.
    """
    out.mkdir(parents=True, exist_ok=True)
    drop_card(out)  # an older result here must not vouch for half of a new one
    if writer is None:
        model.statistics.save(out / STATISTICS_FILE)
    else:
        writer.finish(model.statistics)
    write_head(out, model.head)
    if model.open_set is None:
        (out / OPEN_SET_FILE).unlink(missing_ok=True)
    else:
        model.open_set.write(out)
    (out / OTHERS_FILE).unlink(missing_ok=True)
    if model.others is not None:
        share_file(model.others, out / OTHERS_FILE)
    (out / PROOF_FILE).unlink(missing_ok=True)
    if model.learnt_after:
        write_proof(out, model.proved, model.learnt_after)


def fit_fast(
    spec: JobSpec,
    context: Context,
    embedder: Embedder | None = None,
    *,
    head: str = "kernel_lda",
    writer: SumsWriter | None = None,
) -> FastModel:
    """Learns the spec's rows into a head in closed form.

    With `previous` on the same encoder and with the same kind of head its sums are carried on and only the fresh rows
    are added; rows that are in already change nothing, relabelled ones move. Without, the head is built from the replay
    rows and the fresh ones. A job that only takes rows back keeps the kind of head that is there.

    Held-out rows choose the settings and prove the head that is made without them. With the same settings they are
    then learnt too, by the head that answers; the sums stay without them, so that the next version is proved alike.

    Args:
        spec: the job.
        context: takes progress; asked at every checkpoint whether to stop.
        embedder: runs in place of the encoder, e.g. a compiled engine of the same weights.
        head: which closed form, by the name of its head.

    Raises:
        DataError, ConfigurationError: the spec or its files are wrong.
        TrainingFailed: nothing is left to learn from.
        Cancelled: the job was told to stop; all embeddings made so far are kept.
    """
    settings = FastSettings.of(spec.params)
    rows = JobRows.read(spec)
    texts = Texts(spec, context, embedder)
    others = None if spec.others is None else Others.read(spec.others)
    form, carried = _carried(spec, texts.fingerprint, head if others is None else others.head, context.ahead)
    learnt = rows.examples if carried else deduplicate([*rows.replay, *rows.examples]).examples
    if not learnt and carried is None and not settings.descriptions:
        raise TrainingFailed("no rows to learn from: examples and replay are empty and there is no previous model")
    variants = anchor_texts(settings.descriptions or {})
    _tell_of_unknown(rows.erase, carried, texts)
    everything = [row.text for row in (*learnt, *rows.replay, *rows.holdout, *rows.erase)]
    texts([*everything, *(text for several in variants.values() for text in several)])  # so that progress has one total
    context.report("learn", 0, 1)
    if others is None:
        sums = carried or _made(form, spec, settings, learnt, rows.holdout, texts)
    else:
        sums = others.begun(carried, encoder=texts.fingerprint, max_length=spec.max_length)
    added = sums.add(class_rows(learnt, texts))
    removed = sums.remove(class_rows(rows.erase, texts))
    if settings.descriptions is not None:
        sums.drop_anchors()
    for label, several in variants.items():
        sums.anchor(label, ClassRows(X=texts(several), labels=[label] * len(several), texts=several))
    if writer is not None and carried is not None:
        writer.begin(sums)
    whole: ClassesLearner = sums if others is None else others.joined(sums)
    context.report("learn", 1, 1)
    context.checkpoint()
    if not whole.labels:
        raise TrainingFailed("no rows are left to answer with after the erasure; add labelled rows")
    solved = _solve(form, spec, settings, whole, rows, texts)
    if others is not None:
        solved.settings["others"] = others.shared.digest
    context.report("solve", 1, 1)
    removed += _forgotten(spec, rows, solved.learnt_after)
    answering = solved.head
    card = ModelCard(
        learner=spec.learner.value if spec.learner is LearnerName.FINETUNE else form.head,
        encoder=spec.encoder,
        encoder_fingerprint=texts.fingerprint,
        labels=answering.labels,
        head=form.head,
        temperature=answering.temperature,
        max_length=spec.max_length,
        metrics=_figures(spec, solved, whole, rows, texts),
        parent_version=spec.parent_version,
        data={
            "rows": sums.rows,
            "replay_rows": len(rows.replay),
            "classes": len(answering.labels),
            "rows_added": added,
            "rows_removed": removed,
            "rows_after_proof": len(solved.learnt_after),
            **({} if others is None else {"rows_of_others": others.shared.rows}),
        },
        settings=solved.settings,
    )
    return FastModel(
        head=answering,
        proved=solved.proved,
        learnt_after=solved.learnt_after,
        statistics=sums,
        card=card,
        open_set=solved.open_set,
        others=spec.others,
    )


def _fit_better(spec: JobSpec, context: Context, embedder: Embedder | None, writer: SumsWriter) -> FastModel:
    """The closed form that the previous model has on this encoder; without, the one that held-out rows like better.

    The ridge stays unless a kernel LDA is better by more than two standard errors; one that is not ahead with a
    thousand features is not tried with all. A shrinkage that is told is a kernel LDA's, which is what it was before
    there were two forms.
    """
    texts = Texts(spec, context, embedder)
    if spec.others is not None:
        return fit_fast(spec, context, embedder)  # in their closed form
    if spec.previous is not None:
        card = read_card(spec.previous)
        if card.head in CLOSED_FORMS and card.encoder_fingerprint == texts.fingerprint:
            return fit_fast(spec, context, embedder, head=card.head, writer=writer)
    if FastSettings.of(spec.params).shrinkage is not None:
        return fit_fast(spec, context, embedder)
    ridge = fit_fast(spec, context, embedder, head="ridge")
    texts, rows = Texts(spec, context, embedder), JobRows.read(spec)  # it knows what the ridge has had embedded
    unseen = _unseen(ridge.statistics, rows.holdout, texts).within(ridge.head.labels)
    if len(unseen.labels) < _ENOUGH_HELD_OUT:
        return ridge
    truth = places_of(unseen.labels, ridge.head.labels)  # both have learnt the same rows
    usual = row_scores(ridge.proved.logits(unseen.X, unseen.texts), truth)
    learnt = class_rows(deduplicate([*rows.replay, *rows.examples]).examples, texts)
    look = FirstLook.at(learnt, held_out(rows.holdout, texts), settings=FastSettings.of(spec.params), seed=spec.seed)
    if look.scores(unseen, ridge.head.labels).mean() >= usual.mean():
        return ridge  # with all of its features it would hardly be clearly better
    other = fit_fast(replace(spec, params={**spec.params, "gamma": look.gamma}), context, embedder)
    rival = row_scores(other.proved.logits(unseen.X, unseen.texts), truth)
    return other if clearly_lower(rival, usual) else ridge


def _carried(
    spec: JobSpec, encoder: str, head: str, ahead: WorkedAhead | None
) -> tuple[ClosedForm, ClassesLearner | None]:
    """The closed form, and the sums of the previous model where they go on: same encoder, same kind of head.

    Those that were read `ahead` are taken where they are the same.
    """
    form = CLOSED_FORMS[head]
    if spec.previous is None:
        return form, None
    card = read_card(spec.previous)
    statistics = spec.previous / STATISTICS_FILE
    if spec.examples is None and spec.erase is not None:
        form = CLOSED_FORMS.get(card.head, form)
    same = (card.encoder_fingerprint, card.max_length) == (encoder, spec.max_length)
    if not statistics.is_file() or not same or (card.head != form.head and card.head in CLOSED_FORMS):
        logger.info("training.statistics_not_carried", extra={"previous": str(spec.previous), "rebuilt_from": "replay"})
        return form, None
    known = None if ahead is None else ahead.taken(spec.previous)
    sums: ClassesLearner = form.load(statistics) if known is None else known
    return form, sums


def _made(
    form: ClosedForm,
    spec: JobSpec,
    settings: FastSettings,
    learnt: Sequence[Example],
    holdout: Sequence[Example],
    texts: Texts,
) -> ClassesLearner:
    """Empty sums, their features as asked for or as held-out rows like them best."""
    fit, held = list(learnt), list(holdout)
    if len(held) < _ENOUGH_HELD_OUT:
        fit = [row for row in learnt if split_of(row.text, salt="bandwidth") is Split.TRAIN]
        held = [row for row in learnt if split_of(row.text, salt="bandwidth") is Split.HOLDOUT]
    if len(learnt) < _ENOUGH_HELD_OUT:
        held = []
    dimension = hidden_size(texts.folder)
    sums: ClassesLearner = form.make(
        settings, class_rows(fit, texts), held_out(held, texts), dimension=dimension, seed=spec.seed
    )
    return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solved:
    """The heads after and before the proof's rows were learnt, the keys of these, what was chosen, and the open set.

    `proof` are the rows, and `seen` their features; `near` are the classes without them.
    """

    head: HeadWeights
    proved: HeadWeights
    learnt_after: tuple[int, ...]
    settings: dict[str, Any]
    open_set: OpenSet | None
    near: NearestMeans | None
    proof: HeldOut
    seen: RowFeatures


def _solve(
    form: ClosedForm, spec: JobSpec, settings: FastSettings, sums: ClassesLearner, rows: JobRows, texts: Texts
) -> _Solved:
    """The heads with the settings and the temperature that held-out rows like best, and what was chosen.

    Where no rows tell what is of no class, the limit of the previous head goes on.
    """
    unseen = _unseen(sums, rows.holdout, texts)
    enough = len(unseen.labels) >= _ENOUGH_HELD_OUT
    before = _settings_before(spec, form, texts.fingerprint)
    last = int(before.get("chosen_at", 0))  # rows that were in; 0 where there was no choice
    choose = enough and sums.rows >= GROWN * last
    chosen_at = 0 if settings.fixed else sums.rows if choose else last  # what is told is no choice
    how = form.choose(sums, settings, unseen if choose else held_out((), texts), before)
    proof = unseen.within(sums.labels)
    seen = sums.seen(ClassRows(X=proof.X, labels=proof.labels, texts=proof.texts))
    proved, whole = sums.solve_with(ClassRows(X=proof.X, labels=proof.labels, texts=proof.texts, features=seen), how)
    note_mapped(proved, proof.X, proof.texts, seen)
    judge, judged_by = proved, sums
    if not enough and rows.replay:
        judge, judged_by, unseen = _left_out(sums, rows.replay, unseen, texts, how)
    known = unseen.within(judge.labels)
    temperature, link, open_set = form.usual_temperature, None, None
    near = _nearest(sums)
    if known.labels:
        logits = proved.scores(seen) if judge is proved else judge.logits(known.X, known.texts)
        truth = places_of(known.labels, judge.labels)
        temperature = fit_temperature(logits, truth)
        beside = near if judged_by is sums else _nearest(judged_by)
        fitted = fit_open_set(logits / temperature, known.X, beside, settings.false_refusals)
        open_set = None if fitted is None else fitted.carried(1.0, near)
        if form.least_squares and enough:
            link = fit_link(logits / temperature, truth, temperature)
    chosen = {name: value for name, value in asdict(how).items() if name != "temperature"}
    chosen |= {"features": sums.features.size, "calibrated_on": len(known.labels), "chosen_at": chosen_at}
    head, proved = (replace(each.cooled(temperature), link=link) for each in (whole, proved))
    if open_set is None and settings.false_refusals:
        open_set = _open_set_before(spec, form, texts.fingerprint, head, near)
    return _Solved(
        head=head,
        proved=proved,
        learnt_after=tuple(row_hash(text) for text in proof.texts or ()),
        settings=chosen,
        open_set=open_set,
        near=near,
        proof=proof,
        seen=seen,
    )


def _forgotten(spec: JobSpec, rows: JobRows, learnt_after: Sequence[int]) -> int:
    """How many of the rows to erase the previous head had learnt after its proof, and the new one has not."""
    if spec.previous is None or not rows.erase:
        return 0
    return len(proof_keys(spec.previous) & {row_hash(row.text) for row in rows.erase} - set(learnt_after))


def _tell_of_unknown(erased: Sequence[Example], sums: ClassesLearner | None, texts: Texts) -> None:
    """Where the cache was lost a row is embedded anew, so that what is taken back is not to the digit what came in."""
    held = [] if sums is None else [row for row in erased if row_hash(row.text) in sums.known_keys]
    if unknown := sum(not texts.cache.holds(row.text) for row in held):
        logger.warning("training.taken_back_by_new_embeddings", extra={"rows": unknown})


def _nearest(sums: ClassesLearner) -> NearestMeans | None:
    return NearestMeans.of(sums.plain, sums.anchor_means)


def _open_set_before(
    spec: JobSpec, form: ClosedForm, encoder: str, head: HeadWeights, near: NearestMeans | None
) -> OpenSet | None:
    """The limit of the previous model where it has the same kind of head on the same encoder."""
    if spec.previous is None:
        return None
    card = read_card(spec.previous)
    if (card.head, card.encoder_fingerprint) != (form.head, encoder):
        return None
    before = OpenSet.read(spec.previous)
    return None if before is None else before.carried(card.temperature / head.temperature, near)


def _settings_before(spec: JobSpec, form: ClosedForm, encoder: str) -> dict[str, Any]:
    """Those of the previous model where it has the same kind of head on the same encoder."""
    if spec.previous is None:
        return {}
    card = read_card(spec.previous)
    return card.settings if (card.head, card.encoder_fingerprint) == (form.head, encoder) else {}


def _left_out(
    sums: ClassesLearner, replay: Sequence[Example], unseen: HeldOut, texts: Texts, how: Any
) -> tuple[HeadWeights, ClassesLearner, HeldOut]:
    """The head and the sums without the replay rows, which thereby become rows that they have not seen."""
    stored = class_rows(replay, texts)
    without = sums.copy()
    without.remove(stored)
    if not without.labels:
        return sums.solve(how), sums, unseen
    joined = HeldOut(
        X=np.concatenate([unseen.X, stored.X]),
        labels=(*unseen.labels, *stored.labels),
        texts=(*(unseen.texts or ()), *(stored.texts or ())),
    )
    return without.solve(how), without, joined


def _figures(spec: JobSpec, solved: _Solved, sums: ClassesLearner, rows: JobRows, texts: Texts) -> dict[str, float]:
    """Accuracy and log loss on held-out rows before they were learnt; on replay rows, of the last head and this one."""
    figures: dict[str, float] = {}
    labels = solved.head.labels
    unseen = solved.proof
    if unseen.labels:
        logits, truth = solved.proved.scores(solved.seen), places_of(unseen.labels, labels)
        figures["holdout_rows"] = float(len(truth))
        figures["holdout_accuracy"] = float((logits.argmax(axis=1) == truth).mean())
        figures["holdout_log_loss"] = log_loss(logits, truth)
    near, classes = solved.near, sums.named.entries("class")
    if near is not None and solved.open_set is not None:
        placed = unseen.within(classes)
        found = new_class_recall(near, placed.X, places_of(placed.labels, classes), solved.open_set.false_refusals)
        figures |= {} if found is None else {"holdout_new_class_recall": found}
    if spec.previous is None or not rows.replay or read_card(spec.previous).head not in CLOSED_FORMS:
        return figures
    old = read_head(spec.previous)
    both = [label for label in old.labels if label in set(labels)]
    replay = held_out(rows.replay, texts).within(both)
    if replay.labels and read_card(spec.previous).encoder_fingerprint == texts.fingerprint:
        seen = sums.seen(ClassRows(X=replay.X, labels=replay.labels, texts=replay.texts))
        figures["replay_accuracy"] = _accuracy(solved.head, seen, replay.labels, both)
        seen = seen if old.sees_as(solved.head) else old.mapped(replay.X, replay.texts)
        figures["replay_accuracy_before"] = _accuracy(old, seen, replay.labels, both)
    return figures


def _accuracy(head: HeadWeights, seen: RowFeatures, labels: Sequence[str], among: Sequence[str]) -> float:
    """Share of right answers when only the classes in `among` may be answered."""
    logits = head.scores(seen)[:, places_of(among, head.labels)]
    return float((logits.argmax(axis=1) == places_of(labels, among)).mean())


def _unseen(sums: ClassesLearner, holdout: Sequence[Example], texts: Texts) -> HeldOut:
    """The held-out rows that are not in the sums, whatever the caller said."""
    return held_out([row for row in holdout if row_hash(row.text) not in sums.known_keys], texts)
