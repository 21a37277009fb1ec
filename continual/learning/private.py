"""A head whose answers tell at most a stated epsilon of each row: the fast learner with noise.

Where noise is on sums, a version tells of its new rows alone and carries on what the one before has told; see
`perennial.continual.privacy.budget`. Where it is on gradients, each version begins anew.
"""

import logging
import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError, TrainingFailed
from perennial.continual.federation.others import Others
from perennial.continual.learning.calibration import log_loss, log_losses, places_of
from perennial.continual.learning.card import PRIVACY, ModelCard, read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.closed_form import FastSettings
from perennial.continual.learning.context import Context
from perennial.continual.learning.descriptions import anchor_texts
from perennial.continual.learning.encoder import Embedder, hidden_size
from perennial.continual.learning.fast import FastModel, write_fast
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors
from perennial.continual.learning.job_rows import JobRows, class_rows, held_out
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.private_gradients import head_by_gradients
from perennial.continual.learning.selection import HeldOut
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.sums import NamedSums
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.told_sums import TOLD_FILE, ToldSums, beyond, exact_sums
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.preparation import deduplicate
from perennial.continual.privacy.budget import Budget, Telling, Terms
from perennial.continual.privacy.noise import Normal, SystemNoise, clipped

__all__ = ["chosen_temperature", "train_private"]

logger = logging.getLogger(__name__)

_FEWEST = 50  # held-out rows that choose a temperature
_TEMPERATURES = tuple(2.0 ** (step / 2.0) for step in range(-2, 7))
_MOST_LOSS = 4.0  # nats of a row; more count as so many
_SHRINKAGE = 1e-6  # beside what noise makes every direction weigh


def train_private(spec: JobSpec, context: Context, embedder: Embedder | None = None) -> ModelCard:
    """Learn the spec's rows into a head with noise, as its `privacy` says, and write the trained folder.

    Nothing but noised sums, or noised gradients, and one noised choice of a temperature by held-out rows reaches the
    head: no row chooses features, shrinkage, or what is of no class, and no held-out row is learnt after the proof.

    Raises:
        Refused: the budget of privacy is spent; an erasure is never refused.
        DataError, ConfigurationError: the spec or its files are wrong.
        TrainingFailed: nothing is left to learn from.
        Cancelled: the job was told to stop; all embeddings made so far are kept.
    """
    if spec.learner is not LearnerName.KERNEL_LDA:
        raise ConfigurationError(f"learner {spec.learner.value!r} has no noise; use kernel_lda, or take privacy away")
    terms, settings = Terms.of(spec.privacy or {}), FastSettings.of(spec.params)
    texts = Texts(spec, context, embedder, exact=True)  # one row more changes no embedding of another
    rows = JobRows.read(spec)
    learnt = _Learnt.of(spec, rows, texts, by=terms.by)
    context.report("learn", 1, 1)
    context.checkpoint()
    spent = _spent(spec, terms, learnt)
    context.checkpoint()
    others = None if spec.others is None else _others(spec, learnt.own, texts)
    if learnt.by == "gradients":
        told, head = None, head_by_gradients(learnt.own, learnt.given, terms.privacy)
    else:
        told = learnt.told if learnt.telling is None else learnt.tell(terms.privacy.multiplier)
        head = _solved(told, learnt.own, settings, others, texts)
    unseen = held_out(rows.holdout, texts).within(head.labels)
    head = head.cooled(_temperature(spec, learnt, head, unseen, terms))
    context.report("solve", 1, 1)
    card = ModelCard(
        learner=LearnerName.KERNEL_LDA.value,
        encoder=spec.encoder,
        encoder_fingerprint=texts.fingerprint,
        labels=head.labels,
        head=LearnerName.KERNEL_LDA.value,
        temperature=head.temperature,
        max_length=spec.max_length,
        metrics=_figures(head, unseen),
        parent_version=spec.parent_version,
        data={
            "rows": learnt.own.rows,
            "replay_rows": len(rows.replay),
            "classes": len(head.labels),
            "rows_added": learnt.added,
            "rows_removed": learnt.removed,
            "rows_after_proof": 0,
            **({} if others is None else {"rows_of_others": others.shared.rows}),
        },
        settings={
            "features": learnt.own.features.size,
            PRIVACY: {
                "by": learnt.by,
                "epsilon": terms.epsilon,
                "delta": terms.delta,
                "told": "nothing" if learnt.telling is None else learnt.telling.value,
                "version": terms.version if learnt.telling is not None else _teller(spec),
                "epsilon_spent": spent,
                "budget": terms.limit if math.isfinite(terms.limit) else None,
            },
            **({} if others is None else {"others": others.shared.digest}),
        },
    )
    write_fast(
        spec.out,
        FastModel(
            head=head,
            proved=head,
            learnt_after=(),
            statistics=learnt.own,
            card=card,
            open_set=None,
            others=spec.others,
        ),
    )
    if told is None:
        (spec.out / TOLD_FILE).unlink(missing_ok=True)
    else:
        told.write(spec.out / TOLD_FILE)
    card.write(spec.out)
    logger.info("training.private_model_trained", extra={"rows": learnt.own.rows, "epsilon_spent": spent})
    return card


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learnt:
    """The exact sums after a job's rows, and what there is to tell of; `telling` is None where nothing has changed."""

    own: KernelLda
    given: ClassRows
    before: NamedSums | None  # the exact sums of which the version before has told; None where all is told anew
    told: ToldSums
    telling: Telling | None
    by: str
    added: int
    removed: int

    @classmethod
    def of(cls, spec: JobSpec, rows: JobRows, texts: Texts, *, by: str) -> Self:
        """Carries on the sums of the version before where they are of the same kind; else begins anew.

        Raises:
            TrainingFailed: no row is in.
        """
        carried = _carried(spec, texts)
        learnt = rows.examples if carried else deduplicate([*rows.replay, *rows.examples]).examples
        texts([row.text for row in (*learnt, *rows.holdout, *rows.erase)])  # so that progress has one total
        if carried is None:
            own, told = KernelLda(FourierFeatures.bounded(dimension=hidden_size(texts.folder), seed=spec.seed)), None
        else:
            own, told = carried
        before, known = exact_sums(own), own.known_rows.labels
        given, taken = (_clipped(class_rows(some, texts)) for some in (learnt, rows.erase))
        moved = any(known.get(key, label) != label for key, label in zip(given.keys or (), given.labels, strict=True))
        added, removed = own.add(given), own.remove(taken)
        if not own.rows:
            raise TrainingFailed("no rows to learn from, or none is left after the erasure; add labelled rows")
        by = by if carried is None and learnt else "sums"  # gradients need every row
        if told is None or by == "gradients":
            telling: Telling | None = Telling.ALL
        elif removed or moved:
            telling = Telling.CHANGED
        else:
            telling = Telling.NEW if added else None
        return cls(
            own=own,
            given=given,
            before=before if told is not None else None,
            told=told or ToldSums.nothing(own),
            telling=telling,
            by=by,
            added=added,
            removed=removed,
        )

    def tell(self, multiplier: float) -> ToldSums:
        """What is told by now, with new noise on what has changed."""
        now = exact_sums(self.own)
        more = now if self.before is None else beyond(now, self.before)
        return self.told.telling(more, self.own, multiplier, SystemNoise())


def _carried(spec: JobSpec, texts: Texts) -> tuple[KernelLda, ToldSums | None] | None:
    """The exact sums of the version before, and what it has told, where both are of bounded features and go on."""
    if spec.previous is None:
        return None
    card, statistics = read_card(spec.previous), spec.previous / STATISTICS_FILE
    same = (card.encoder_fingerprint, card.max_length) == (texts.fingerprint, spec.max_length)
    if PRIVACY not in card.settings or not same or not statistics.is_file():
        return None
    path = spec.previous / TOLD_FILE
    return KernelLda.load(statistics), ToldSums.read(path) if path.is_file() else None


def _spent(spec: JobSpec, terms: Terms, learnt: _Learnt) -> float:
    """The epsilon of all versions by now, this one included, which is noted before anything of it is told."""
    if learnt.telling is None and spec.previous is not None:
        return float(read_card(spec.previous).settings[PRIVACY]["epsilon_spent"])
    parent = None if learnt.telling is Telling.ALL else _teller(spec)
    forced = spec.examples is None and spec.erase is not None
    return Budget(terms.budget).spend(terms, learnt.telling or Telling.ALL, parent=parent, forced=forced)


def _teller(spec: JobSpec) -> int | None:
    """The version that told last what the version before answers by: itself, or one that it is a copy of."""
    told = None if spec.previous is None else read_card(spec.previous).settings.get(PRIVACY, {}).get("version")
    return None if told is None else int(told)


def _solved(told: ToldSums, own: KernelLda, settings: FastSettings, others: Others | None, texts: Texts) -> HeadWeights:
    """The head of what is told, by this site and by others, with stand-in rows of described classes."""
    sums: KernelLda = told.settled(own, None if others is None else exact_sums(others.sums))
    for label, several in anchor_texts(settings.descriptions or {}).items():
        sums.anchor(label, ClassRows(X=texts(several), labels=[label] * len(several), texts=several))
    if not sums.labels:
        raise TrainingFailed(
            f"noise hides all {own.rows} rows: no class is left with a count that stands out of it; learn from more, "
            "or set a larger version_epsilon"
        )
    how = Discriminant(
        shrinkage=settings.shrinkage or _SHRINKAGE,
        priors=settings.priors or Priors.EMPIRICAL,
        anchor_rows=settings.anchor_rows,
    )
    return sums.solve(how)


def _others(spec: JobSpec, own: KernelLda, texts: Texts) -> Others:
    """The sums of other sites, which must be over the same features."""
    if spec.others is None:
        raise ConfigurationError("no sums of others are told")
    others = Others.read(spec.others)
    others.check_fit(own, encoder=texts.fingerprint, max_length=spec.max_length)
    return others


def _clipped(rows: ClassRows) -> ClassRows:
    """Rows whose embeddings are no longer than the noise is made for."""
    return replace(rows, X=clipped(rows.X))


def _temperature(spec: JobSpec, learnt: _Learnt, head: HeadWeights, unseen: HeldOut, terms: Terms) -> float:
    """How much the scores are divided by: chosen where all is told anew, else as the version before has it.

    Of a few temperatures the one with the least noised loss on held-out rows. These are in no sums, so that the choice
    tells at most as much of each of them as the sums tell of each row that is in.
    """
    if learnt.telling is not Telling.ALL and spec.previous is not None:
        return read_card(spec.previous).temperature
    losses = np.zeros(len(_TEMPERATURES))
    if unseen.labels:
        logits, truth = head.logits(unseen.X), places_of(unseen.labels, head.labels)
        losses[:] = [np.minimum(log_losses(logits, truth, each), _MOST_LOSS).sum() for each in _TEMPERATURES]
    return chosen_temperature(losses, len(unseen.labels), terms.privacy.multiplier, SystemNoise())


def chosen_temperature(losses: NDArray[np.float64], rows: int, multiplier: float, rng: Normal) -> float:
    """The temperature of the least loss, or 1 where there are too few rows; how many there are has noise too.

    Args:
        losses: of all rows together, by temperature; each row adds at most `_MOST_LOSS` to each.
        rows: held-out ones.
        multiplier: see `Privacy`.
        rng: see `noised`.
    """
    exact = np.array([*losses, _MOST_LOSS * rows])
    spread = multiplier * _MOST_LOSS * math.sqrt(len(exact))  # a row changes all of them
    told = exact + spread * rng.standard_normal(exact.shape)
    return 1.0 if told[-1] < _MOST_LOSS * _FEWEST else float(_TEMPERATURES[int(told[:-1].argmin())])


def _figures(head: HeadWeights, unseen: HeldOut) -> dict[str, float]:
    if not unseen.labels:
        return {}
    logits, truth = head.logits(unseen.X), places_of(unseen.labels, head.labels)
    return {
        "holdout_rows": float(len(truth)),
        "holdout_accuracy": float((logits.argmax(axis=1) == truth).mean()),
        "holdout_log_loss": log_loss(logits, truth),
    }
