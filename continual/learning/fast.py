"""From labelled rows to a new kernel head, in seconds: the fast learner's job."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import ConfigurationError, TrainingFailed
from perennial.continual.learning.calibration import fit_temperature, log_loss, places_of
from perennial.continual.learning.card import ModelCard, drop_card, read_card
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.context import Context
from perennial.continual.learning.descriptions import anchor_texts
from perennial.continual.learning.encoder import Embedder, hidden_size
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.head import HeadWeights, Priors
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.selection import GAMMAS, HeldOut, choose_gamma, choose_shrinkage, default_shrinkage
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import STATISTICS_FILE, read_head, write_head
from perennial.continual.preparation import deduplicate, row_hash, split_of
from perennial.continual.records import Example, Split

__all__ = ["FastModel", "FastSettings", "fit_fast", "train_fast", "write_fast"]

logger = logging.getLogger(__name__)

_ENOUGH_HELD_OUT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FastSettings:
    """The `params` of a kernel head's job; None means chosen by held-out rows.

    >>> FastSettings().features
    3000
    """

    features: int = 3000
    gamma: float | None = None
    shrinkage: float | None = None
    priors: Priors = Priors.UNIFORM
    anchor_rows: int = 5
    descriptions: dict[str, str] | None = None  # class -> what it means; None keeps those of the previous model

    @classmethod
    def of(cls, params: dict[str, Any]) -> "FastSettings":
        """Settings out of a spec.

        Raises:
            ConfigurationError: a name or a value is not known.
        """
        unknown = sorted(params.keys() - cls.__dataclass_fields__.keys())
        if unknown:
            raise ConfigurationError(f"params {unknown} are not known; known: {sorted(cls.__dataclass_fields__)}")
        try:
            return cls(**params | {"priors": Priors(params.get("priors", Priors.UNIFORM))})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"params {params}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    examples: tuple[Example, ...]
    replay: tuple[Example, ...]
    holdout: tuple[Example, ...]
    erase: tuple[Example, ...]

    @classmethod
    def read(cls, spec: JobSpec) -> "_Rows":
        read = {name: deduplicate(read_rows(getattr(spec, name))).examples for name in cls.__dataclass_fields__}
        return cls(**read)


@dataclass(frozen=True, slots=True, kw_only=True)
class FastModel:
    """What the fast learner makes: the solved head, the sums behind it, and the card.

    >>> sorted(FastModel.__dataclass_fields__)
    ['card', 'head', 'statistics']
    """

    head: HeadWeights
    statistics: KernelLda
    card: ModelCard


def train_fast(spec: JobSpec, context: Context, embedder: Embedder | None = None) -> ModelCard:
    """`fit_fast`, written to the spec's `out` folder with `model.json` last."""
    model = fit_fast(spec, context, embedder)
    context.checkpoint()
    write_fast(spec.out, model)
    model.card.write(spec.out)
    logger.info("training.fast_model_trained", extra={"rows": model.statistics.rows, "classes": len(model.head.labels)})
    return model.card


def write_fast(out: Path, model: FastModel) -> None:
    """Writes the head and its sums; the card is left to the caller, who writes it last."""
    out.mkdir(parents=True, exist_ok=True)
    drop_card(out)  # an older result here must not vouch for half of a new one
    model.statistics.save(out / STATISTICS_FILE)
    write_head(out, model.head)


def fit_fast(spec: JobSpec, context: Context, embedder: Embedder | None = None) -> FastModel:
    """Learns the spec's rows into a kernel head.

    With `previous` on the same encoder its sums are carried on and only the fresh rows are added; rows that are in
    already change nothing, relabelled ones move. Without, or when the encoder changed, the head is built from the
    replay rows and the fresh ones.

    Args:
        spec: the job.
        context: takes progress; asked at every checkpoint whether to stop.
        embedder: runs in place of the encoder, e.g. a compiled engine of the same weights.

    Raises:
        DataError, ConfigurationError: the spec or its files are wrong.
        TrainingFailed: nothing is left to learn from.
        Cancelled: the job was told to stop; all embeddings made so far are kept.
    """
    settings = FastSettings.of(spec.params)
    rows = _Rows.read(spec)
    texts = Texts(spec, context, embedder)
    carried = _carried(spec, texts.fingerprint)
    learnt = rows.examples if carried else deduplicate([*rows.replay, *rows.examples]).examples
    if not learnt and carried is None and not settings.descriptions:
        raise TrainingFailed("no rows to learn from: examples and replay are empty and there is no previous model")
    variants = anchor_texts(settings.descriptions or {})
    everything = [row.text for row in (*learnt, *rows.replay, *rows.holdout, *rows.erase)]
    texts([*everything, *(text for several in variants.values() for text in several)])  # so that progress has one total
    context.tell("learn", 0, 1)
    head = carried or KernelLda(_features(spec, settings, learnt, rows.holdout, texts))
    added = head.add(_class_rows(learnt, texts))
    removed = head.remove(_class_rows(rows.erase, texts))
    if settings.descriptions is not None:
        head.drop_anchors()
    for label, several in variants.items():
        head.anchor(label, texts(several))
    context.tell("learn", 1, 1)
    context.checkpoint()
    if not head.labels:
        raise TrainingFailed("no rows are left to answer with after the erasure; add labelled rows")
    solved, chosen = _solve(spec, settings, head, rows, texts)
    context.tell("solve", 1, 1)
    card = ModelCard(
        learner=spec.learner.value,
        encoder=spec.encoder,
        encoder_fingerprint=texts.fingerprint,
        labels=solved.labels,
        head="kernel_lda",
        temperature=solved.temperature,
        max_length=spec.max_length,
        metrics=_figures(spec, solved, head, rows, texts),
        parent_version=spec.parent_version,
        data={
            "rows": head.rows,
            "replay_rows": len(rows.replay),
            "classes": len(solved.labels),
            "rows_added": added,
            "rows_removed": removed,
        },
        settings=chosen,
    )
    return FastModel(head=solved, statistics=head, card=card)


def _carried(spec: JobSpec, encoder: str) -> KernelLda | None:
    """The sums of the previous model, when they were made with this encoder."""
    if spec.previous is None:
        return None
    card = read_card(spec.previous)
    statistics = spec.previous / STATISTICS_FILE
    if not statistics.is_file() or card.encoder_fingerprint != encoder or card.max_length != spec.max_length:
        logger.info("training.statistics_not_carried", extra={"previous": str(spec.previous), "rebuilt_from": "replay"})
        return None
    return KernelLda.load(statistics)


def _features(
    spec: JobSpec, settings: FastSettings, learnt: Sequence[Example], holdout: Sequence[Example], texts: Texts
) -> FourierFeatures:
    """New Fourier features, with the bandwidth asked for or the one that held-out rows like best."""
    gamma = settings.gamma
    if gamma is None and len(learnt) >= _ENOUGH_HELD_OUT:
        fit, held = list(learnt), list(holdout)
        if len(held) < _ENOUGH_HELD_OUT:
            fit = [row for row in learnt if split_of(row.text, salt="bandwidth") is Split.TRAIN]
            held = [row for row in learnt if split_of(row.text, salt="bandwidth") is Split.HOLDOUT]
        gamma = choose_gamma(
            _class_rows(fit, texts),
            _held_out(held, texts),
            features=settings.features,
            seed=spec.seed,
            priors=settings.priors,
        )
    return FourierFeatures.make(
        dimension=hidden_size(texts.folder), features=settings.features, gamma=gamma or GAMMAS[0], seed=spec.seed
    )


def _solve(
    spec: JobSpec, settings: FastSettings, head: KernelLda, rows: _Rows, texts: Texts
) -> tuple[HeadWeights, dict[str, Any]]:
    """The head with its shrinkage and temperature, and what was chosen."""
    unseen = _unseen(head, rows.holdout, texts)
    enough = len(unseen.labels) >= _ENOUGH_HELD_OUT
    before: dict[str, Any] = read_card(spec.previous).settings if spec.previous else {}
    if settings.shrinkage is not None:
        shrinkage = settings.shrinkage
    elif enough:
        shrinkage = choose_shrinkage(head, unseen, priors=settings.priors)
    else:
        shrinkage = float(before.get("shrinkage") or default_shrinkage(head.rows))
    how = Discriminant(shrinkage=shrinkage, priors=settings.priors, anchor_rows=settings.anchor_rows)
    solved = head.solve(how)
    judge = solved
    if not enough and rows.replay:
        judge, unseen = _left_out(head, rows.replay, unseen, texts, how)
    known = unseen.within(judge.labels)
    temperature = 1.0
    if known.labels:
        temperature = fit_temperature(judge.logits(known.X), places_of(known.labels, judge.labels))
    chosen = {"shrinkage": shrinkage, "priors": settings.priors.value, "anchor_rows": settings.anchor_rows}
    chosen |= {"features": head.features.size, "calibrated_on": len(known.labels)}
    return solved.cooled(temperature), chosen


def _left_out(
    head: KernelLda, replay: Sequence[Example], unseen: HeldOut, texts: Texts, how: Discriminant
) -> tuple[HeadWeights, HeldOut]:
    """The head without the replay rows, which thereby become rows that it has not seen."""
    stored = _class_rows(replay, texts)
    without = head.narrowed(head.features.size)
    without.remove(stored)
    if not without.labels:
        return head.solve(how), unseen
    joined = HeldOut(X=np.concatenate([unseen.X, stored.X]), labels=(*unseen.labels, *stored.labels))
    return without.solve(how), joined


def _figures(spec: JobSpec, solved: HeadWeights, head: KernelLda, rows: _Rows, texts: Texts) -> dict[str, float]:
    """Accuracy and log loss on held-out rows; on replay rows of the old classes, before and after."""
    figures: dict[str, float] = {}
    unseen = _unseen(head, rows.holdout, texts).within(solved.labels)
    if unseen.labels:
        logits, truth = solved.logits(unseen.X), places_of(unseen.labels, solved.labels)
        figures["holdout_rows"] = float(len(truth))
        figures["holdout_accuracy"] = float((logits.argmax(axis=1) == truth).mean())
        figures["holdout_log_loss"] = log_loss(logits, truth)
    if spec.previous is None or not rows.replay or read_card(spec.previous).head != "kernel_lda":
        return figures
    old = read_head(spec.previous)
    both = [label for label in old.labels if label in set(solved.labels)]
    replay = _held_out(rows.replay, texts).within(both)
    if replay.labels and read_card(spec.previous).encoder_fingerprint == texts.fingerprint:
        figures["replay_accuracy_before"] = _accuracy(old, replay, both)
        figures["replay_accuracy"] = _accuracy(solved, replay, both)
    return figures


def _accuracy(head: HeadWeights, held_out: HeldOut, among: Sequence[str]) -> float:
    """Share of right answers when only the classes in `among` may be answered."""
    logits = head.logits(held_out.X)[:, places_of(among, head.labels)]
    return float((logits.argmax(axis=1) == places_of(held_out.labels, among)).mean())


def _unseen(head: KernelLda, holdout: Sequence[Example], texts: Texts) -> HeldOut:
    """The held-out rows that are not in the sums, whatever the caller said."""
    return _held_out([row for row in holdout if row_hash(row.text) not in head.known_keys], texts)


def _held_out(rows: Sequence[Example], texts: Texts) -> HeldOut:
    return HeldOut(X=texts([row.text for row in rows]), labels=tuple(row.label for row in rows))


def _class_rows(rows: Sequence[Example], texts: Texts) -> ClassRows:
    """The rows as closed forms take them, each with its key."""
    words = [row.text for row in rows]
    return ClassRows(X=texts(words), labels=[row.label for row in rows], keys=[row_hash(text) for text in words])
