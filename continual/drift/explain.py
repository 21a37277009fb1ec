"""What drifted, in words: ranked signals, texts that show it, groups of unknown texts, words, and slices."""

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.drift.compare import DriftComparison
from perennial.continual.drift.outcomes import OUTCOMES, outcomes_of, told_of
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import Signal
from perennial.continual.drift.window import Window, words_of

__all__ = [
    "Explanation",
    "LabelShift",
    "OutcomeShift",
    "TextGroup",
    "WordShift",
    "explain",
    "group_texts",
    "word_shifts",
]

_ROWS = 2_000
_GROUPED = 800  # whose distances from each other are all measured
_SHORTEST_WORD = 3
_STOP_WORDS = (
    "the and for you your are was has have had not but with this that what why how can does did will would could "
    "should from when where which who there their they been being about into its it's just any please get got "
    "need want know tell help don didn isn doesn wasn won haven i'm i've"
)
_STOP = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class WordShift:
    """A word and the shares, in [0, 1], of texts that hold it; `z` above 0 means that it rose."""

    word: str
    reference_share: float
    current_share: float
    z: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextGroup:
    """Texts alike that the reference does not know: perhaps a new class, `name` is a suggestion for it.

    The mean confidence is None where the answers have none.
    """

    name: str
    words: tuple[str, ...]
    rows: int
    share: float
    mean_confidence: float | None
    answered_as: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelShift:
    """A slice by predicted label: its shares, and how its mean confidence moved."""

    label: str
    reference_share: float
    current_share: float
    confidence_change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeShift:
    """What became of answers: the mean in the reference and in the window, and the rows of which it is known."""

    signal: Signal
    reference: float
    current: float
    rows: int

    @property
    def sentence(self) -> str:
        """Return it in words."""
        before, now = f"{100 * self.reference:.1f}%", f"{100 * self.current:.1f}%"
        if self.signal is Signal.HIT_RATE:
            return f"something shown was liked in {now} of {self.rows:,} answers; {before} in the reference"
        if self.signal is Signal.NEW_ITEMS:
            return (
                f"in {now} of {self.rows:,} answers something liked was new to the version; {before} in the reference"
            )
        return (
            f"what was liked had been more popular than {now} of all items ({self.rows:,} answers); "
            f"{before} in the reference"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What an operator reads beside an alert. Texts are quoted as the window holds them: de-identified before.

    >>> Explanation(summary="nothing drifted", signals=(), texts=(), groups=(), rose=(), fell=(), slices=()).to_json()[
    ...     "summary"]
    'nothing drifted'
    """

    summary: str
    signals: tuple[tuple[Signal, float, float], ...]  # signal, adjusted p, effect over floor
    texts: tuple[str, ...]
    groups: tuple[TextGroup, ...]
    rose: tuple[WordShift, ...]
    fell: tuple[WordShift, ...]
    slices: tuple[LabelShift, ...]
    outcomes: tuple[OutcomeShift, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **asdict(self),
            "signals": [[signal.value, p, effect] for signal, p, effect in self.signals],
            "outcomes": [asdict(one) | {"sentence": one.sentence} for one in self.outcomes],
        }


def explain(
    reference: ReferenceProfile,
    current: Window,
    comparison: DriftComparison,
    rng: np.random.Generator,
    *,
    most: int = 8,
) -> Explanation:
    """Return at most `most` entries of each kind, the most telling first. Reads up to 2,000 rows of the window."""
    some = current
    if len(current) > _ROWS:
        some = current.rows(np.sort(rng.choice(len(current), _ROWS, replace=False)))
    strangeness = _strangeness(reference.sample, some)
    known = [str(text) for text in reference.sample.texts if text]  # the others were pruned or erased
    shifts = word_shifts(known, (str(t) for t in some.texts)) if known and some.has_words else []
    order = np.argsort(-strangeness, kind="stable")
    groups = _groups(reference.sample, some, strangeness, rng)[:most]
    return Explanation(
        summary=_summary(comparison, groups),
        signals=tuple(
            (s.signal, s.adjusted_p, s.result.effect / max(s.result.floor, 1e-9)) for s in comparison.signals
        ),
        texts=_distinct((str(some.texts[i]) for i in order), most),
        groups=tuple(groups),
        rose=tuple(shift for shift in shifts if shift.z > 2)[:most],
        fell=tuple(shift for shift in reversed(shifts) if shift.z < -2)[:most],
        slices=_slices(reference, some)[:most],
        outcomes=_outcomes(reference.sample, current, comparison),
    )


def word_shifts(reference: Iterable[str], current: Iterable[str]) -> list[WordShift]:
    """Return every word with the shares of texts that hold it, from the one that rose most to the one that fell most.

    >>> [s.word for s in word_shifts(["card lost", "card lost"], ["card stolen", "card stolen"])]
    ['stolen', 'card', 'lost']
    """
    sides = [[set(words_of(text)) for text in texts] for texts in (reference, current)]
    counts = [Counter(word for words in side for word in words) for side in sides]
    totals = [max(1, len(side)) for side in sides]
    shifts = []
    for word in counts[0] | counts[1]:
        share = [counts[i][word] / totals[i] for i in range(2)]
        pooled = (counts[0][word] + counts[1][word] + 1) / (sum(totals) + 2)
        error = math.sqrt(pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1]))
        shifts.append(
            WordShift(
                word=word, reference_share=share[0], current_share=share[1], z=(share[1] - share[0]) / max(error, 1e-12)
            )
        )
    return sorted(shifts, key=lambda shift: (-shift.z, shift.word))


def _strangeness(sample: Window, current: Window) -> NDArray[np.float64]:
    """Return how far each text lies from its nearest reference text, or the doubt where there are no embeddings."""
    if sample.embeddings is None or current.embeddings is None:
        return 1.0 - _confidences(current).astype(np.float64)
    near = _unit(current.embeddings) @ _unit(sample.embeddings).T  # (current, reference)
    distance: NDArray[np.float64] = 1.0 - near.max(axis=1).astype(np.float64)
    return distance


def _confidences(window: Window) -> NDArray[np.float32]:
    """Answers without a confidence are no stranger than others."""
    return np.ones(len(window), dtype=np.float32) if window.confidences is None else window.confidences


def _groups(
    sample: Window, current: Window, strangeness: NDArray[np.float64], rng: np.random.Generator
) -> list[TextGroup]:
    """Group the texts that are stranger than 9 in 10 reference texts are to each other."""
    if sample.embeddings is None or current.embeddings is None:
        return []
    own = _unit(sample.embeddings)
    near = own @ own.T
    np.fill_diagonal(near, -1.0)
    limit = float(np.quantile(1.0 - near.max(axis=1), 0.9))
    unknown = np.flatnonzero((strangeness > limit) | (_confidences(current) < 0.5))
    if len(unknown) < 5:
        return []
    return [group for group, _ in group_texts(current, unknown, sample.texts.tolist(), rng)]


def group_texts(
    window: Window, chosen: NDArray[np.integer[Any]], background: Collection[Any], rng: np.random.Generator
) -> list[tuple[TextGroup, NDArray[np.int64]]]:
    """The groups of texts alike among some rows of a window, largest first, with their rows, the most central first.

    A group has at least 3 rows and 2% of the chosen ones, of which 800 are looked at. `background` are texts that are
    known: words that are common there do not name a group. Rows without embeddings are in no group.
    """
    if window.embeddings is None or len(chosen) < 2:
        return []
    from sklearn.cluster import AgglomerativeClustering

    rows = np.asarray(chosen, dtype=np.int64)
    rows = rows if len(rows) <= _GROUPED else np.sort(rng.choice(rows, _GROUPED, replace=False))
    points = _unit(window.embeddings[rows])
    clusters = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0.55, metric="cosine", linkage="average"
    ).fit_predict(points.astype(np.float64))
    known = Counter(word for text in background for word in set(words_of(str(text))))
    groups = []
    for cluster in np.unique(clusters):
        inside = clusters == cluster
        if inside.sum() >= max(3, len(rows) // 50):
            mine = points[inside]
            members = rows[inside][np.argsort(-(mine @ mine.mean(axis=0)), kind="stable")]
            groups.append((_group(window, members, known, len(background)), members))
    return sorted(groups, key=lambda group: -group[0].rows)


def _group(current: Window, members: NDArray[np.int64], background: Counter[str], texts: int) -> TextGroup:
    """What is told of a group; its members come with the most central first."""
    rows = current.rows(members)
    inside = Counter(word for text in rows.texts if rows.has_words for word in set(words_of(str(text))))
    salient = sorted(
        (word for word in inside if len(word) >= _SHORTEST_WORD and word not in _STOP),
        key=lambda word: (
            -(inside[word] / len(rows)) * math.log((texts + 1) / (background[word] + 0.5)),
            word,
        ),
    )[:5]
    return TextGroup(
        name="_".join(salient[:3]) or "unnamed",
        words=tuple(salient),
        rows=len(rows),
        share=len(rows) / len(current),
        mean_confidence=None if rows.confidences is None else float(rows.confidences.mean()),
        answered_as=tuple(label for label, _ in Counter(rows.predictions.tolist()).most_common(3)),
        texts=_distinct((str(text) for text in rows.texts), 5),
    )


def _outcomes(sample: Window, current: Window, comparison: DriftComparison) -> tuple[OutcomeShift, ...]:
    """Return what became of the answers, for the signals that were compared and are known still, in their order."""
    found = []
    for signal in (one.signal for one in comparison.signals if one.signal in OUTCOMES):
        if (sides := outcomes_of(signal, sample, current)) is None:
            continue
        before, now = map(told_of, sides)
        if len(before) and len(now):
            shift = OutcomeShift(
                signal=signal, reference=float(before.mean()), current=float(now.mean()), rows=len(now)
            )
            found.append(shift)
    return tuple(found)


def _slices(reference: ReferenceProfile, current: Window) -> tuple[LabelShift, ...]:
    """Return the predicted labels, the one whose share moved most first."""
    sample = reference.sample
    shifts = []
    for label in np.unique(np.concatenate([list(reference.label_counts), current.predictions])):
        before, after = sample.predictions == label, current.predictions == label
        change = 0.0
        if before.any() and after.any():
            change = float(_confidences(current)[after].mean() - _confidences(sample)[before].mean())
        shifts.append(
            LabelShift(
                label=str(label),
                reference_share=reference.label_counts.get(str(label), 0) / reference.seen_rows,
                current_share=float(after.mean()),
                confidence_change=change,
            )
        )
    return tuple(sorted(shifts, key=lambda s: (-abs(s.current_share - s.reference_share), s.label)))


def _summary(comparison: DriftComparison, groups: list[TextGroup]) -> str:
    signals = ", ".join(signal.value for signal in comparison.drifted_signals)
    drifted = signals if comparison.drifted and signals else "nothing"
    summary = f"{drifted} drifted in {comparison.n_current} rows"
    if comparison.novel:
        summary += "; more requests are new to the version than before, by the evidence of many windows"
    if comparison.drifted and groups:
        summary += f"; largest unknown group: {groups[0].name} ({groups[0].rows})"
    if comparison.feedback_missing:
        summary += f"; feedback is missing for {100 * comparison.silent_share:.0f}% of them: look after who sends it"
    return summary


def _distinct(texts: Iterable[str], most: int) -> tuple[str, ...]:
    return tuple(list(dict.fromkeys(texts))[:most])


def _unit(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    wide = rows.astype(np.float32)
    unit: NDArray[np.float32] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
