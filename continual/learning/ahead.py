"""What the next update of a version needs and is known before its labels come: read and worked out ahead of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from perennial.continual.jobs.memory import available_mb
from perennial.continual.learning.card import MODEL_FILE, ModelCard, read_card
from perennial.continual.learning.closed_form import CLOSED_FORMS, FastSettings
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import resolve_encoder, usable_length
from perennial.continual.learning.job_rows import JobRows, class_rows, held_out
from perennial.continual.learning.lapack import one_thread_each
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import STATISTICS_FILE

__all__ = ["Ahead"]

_MEGABYTE = 2**20
_TAKES = 2  # so often the size of the sums' file the update itself takes in memory
_TIMES = 5 + _TAKES  # all in all
_FREE = 2  # and so many times that must be free
_LEARNERS = frozenset({LearnerName.AUTO, LearnerName.RIDGE})
Identity = tuple[tuple[int, int, int], ...]


class Ahead:
    """A version's sums, with what solves them after rows were added.

    They are given away once, and only where the version's files are those that were read.

    >>> Ahead.taken.__name__
    'taken'
    """

    def __init__(self, bundle: Path, sums: Ridge, seen: Identity) -> None:
        self._bundle, self._seen = bundle, seen
        self.takes_mb = _TAKES * (bundle / STATISTICS_FILE).stat().st_size / _MEGABYTE  # of memory, to go on from here
        self._sums: Ridge | None = sums

    @classmethod
    def of(cls, bundle: Path, last: JobSpec) -> Self | None:
        """What the update of a bundle needs, by the job that made it; None where there is nothing, or no memory for it.

        Rows whose embeddings are not known yet are left out: no encoder is loaded.

        Raises:
            DataError: a file cannot be read.
        """
        card = read_card(bundle)
        statistics = bundle / STATISTICS_FILE
        alone = last.learner in _LEARNERS and last.others is None
        if card.head != "ridge" or not alone or not statistics.is_file() or not _fits(statistics):
            return None
        last = replace(last, max_length=usable_length(resolve_encoder(last.encoder), last.max_length))
        texts = Texts(last, Context())
        if (card.encoder_fingerprint, card.max_length) != (texts.fingerprint, last.max_length):
            return None
        seen = _identity(bundle)
        with one_thread_each():
            sums = Ridge.load(statistics)
            penalty = _penalty(card, sums, last, texts)
            rows = JobRows.read(replace(last, examples=None, erase=None))
            proof = [row for row in rows.holdout if row.label in set(sums.labels) and texts.cache.holds(row.text)]
            replay = [row for row in rows.replay if texts.cache.holds(row.text)]
            sums.look_ahead(penalty, class_rows(proof, texts), class_rows(replay, texts))
        return cls(bundle, sums, seen)

    def taken(self, bundle: Path) -> Ridge | None:
        """The sums of this bundle, which are the caller's from now on; None where they are others, or were taken."""
        sums, self._sums = self._sums, None
        same = bundle.absolute() == self._bundle.absolute() and _identity(bundle) == self._seen
        return sums if same else None


def _penalty(card: ModelCard, sums: Ridge, last: JobSpec, texts: Texts) -> Any:
    """What the update will solve with, unless it chooses anew."""
    settings = FastSettings.of(last.params)
    return CLOSED_FORMS["ridge"].choose(sums, settings, held_out((), texts), card.settings)


def _fits(statistics: Path) -> bool:
    free, needed = available_mb(), _TIMES * statistics.stat().st_size / _MEGABYTE
    return free is None or free >= _FREE * needed


def _identity(bundle: Path) -> Identity:
    found = [(bundle / name).stat() for name in (STATISTICS_FILE, MODEL_FILE)]
    return tuple((stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in found)
