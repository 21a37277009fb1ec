"""Which version has learnt which examples: what it learnt itself, and all that the version before it had learnt."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Exists, Integer, cast, func, literal, select

from perennial.continual.records import Split
from perennial.ops.ledger import schema
from perennial.ops.ledger.rows import VersionState
from perennial.ops.ledger.store import chunks
from perennial.ops.ledger.tallies import LEARNT, TallyStore

__all__ = ["LearntStore", "learnt_by"]

_EXAMPLE = schema.example
_OWN = schema.learnt
_BASE = schema.learnt_base
_DISCARDED = (VersionState.FAILED, VersionState.REFUSED)
_COUNTS = _EXAMPLE.c.superseded_at.is_(None) & (_EXAMPLE.c.split == Split.TRAIN)  # a training example in use


class LearntStore(TallyStore):
    """The part of the ledger that tells what versions have learnt.

    A version that went on from another one has learnt all that this one had: that is kept once, so that the table
    grows with the examples, however many versions there are.
    """

    def mark_learnt(self, model: str, ids: Iterable[int], version: int, *, base: int | None = None) -> None:
        """Note that a version learnt from these rows, and where it went on from `base` all that this one had learnt.

        A retry changes nothing; ids erased meanwhile are left out.
        """
        with self._write() as connection:
            self._lock_model(connection, model)
            if base is not None:
                self._inherit(connection, model, version, base)
            for part in chunks(list(ids)):
                new = select(_EXAMPLE.c.id, _COUNTS.label("counts"))
                new = new.where(_EXAMPLE.c.model == model, _EXAMPLE.c.id.in_(part), ~learnt_by(model, version))
                rows = connection.execute(new).all()
                if rows:
                    values = [{"example_id": row.id, "version": version} for row in rows]
                    connection.execute(self._insert(_OWN).on_conflict_do_nothing(), values)
                    self._tally(connection, model, {(LEARNT, str(version)): sum(bool(row.counts) for row in rows)})

    def unlearnt_count(self, model: str, *, by: int | None = None) -> int:
        """Return how many current training examples `by` has not learnt, or without it: no version that still counts.

        A version that failed or was refused does not count.
        """
        with self._read() as connection:
            all_of_them = self._tallied(connection, model, Split.TRAIN)
            if by is not None:
                return all_of_them - self._tallied(connection, model, LEARNT, str(by))
            lost = select(schema.version.c.version)
            lost = lost.where(schema.version.c.model == model, schema.version.c.state.in_(_DISCARDED))
            gone = {str(version) for version in connection.scalars(lost)}
            told = select(schema.tally.c.part, schema.tally.c.rows).where(
                schema.tally.c.model == model, schema.tally.c.name == LEARNT, schema.tally.c.rows > 0
            )
            if all(row.part in gone for row in connection.execute(told)):
                return all_of_them
            taken = select(_OWN.c.example_id).where(_OWN.c.example_id == _EXAMPLE.c.id, _OWN.c.version.not_in(lost))
            statement = select(func.count()).select_from(_EXAMPLE)
            statement = statement.where(_EXAMPLE.c.model == model, _COUNTS, ~taken.exists())
            return connection.scalar(statement) or 0

    def _inherit(self, connection: Connection, model: str, version: int, base: int) -> None:
        row = {"model": model, "version": version, "base": base}
        noted = self._insert(_BASE).values(row).on_conflict_do_nothing().returning(_BASE.c.base)
        if connection.execute(noted).first() is None:
            return
        counted = self._tallied(connection, model, LEARNT, str(version))
        if not counted:
            inherited = self._tallied(connection, model, LEARNT, str(base))
        else:  # it learnt some rows of its own before, which may be the other's too
            whole = select(func.count()).select_from(_EXAMPLE)
            whole = whole.where(_EXAMPLE.c.model == model, _COUNTS, learnt_by(model, version))
            inherited = int(connection.scalar(whole) or 0) - counted
        self._tally(connection, model, {(LEARNT, str(version)): inherited})

    def _learners(self, connection: Connection, model: str, example_ids: Sequence[int]) -> tuple[int, ...]:
        """The versions that learnt any of these, and those that went on from them."""
        return tuple(sorted(set().union(*self._by_example(connection, model, example_ids))))

    def _end_learnt(self, connection: Connection, model: str, example_ids: Sequence[int]) -> None:
        """Count these no longer, which were training examples in use until now."""
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for versions in self._by_example(connection, model, example_ids):
            for version in versions:
                counts[LEARNT, str(version)] -= 1
        self._tally(connection, model, counts)

    def _by_example(self, connection: Connection, model: str, example_ids: Sequence[int]) -> list[set[int]]:
        """For each of the examples that was learnt, by which versions."""
        own: dict[int, set[int]] = defaultdict(set)
        for part in chunks(example_ids):
            for row in connection.execute(select(_OWN).where(_OWN.c.example_id.in_(part))):
                own[row.example_id].add(row.version)
        if not own:
            return []
        later: dict[int, list[int]] = defaultdict(list)
        for row in connection.execute(select(_BASE.c.version, _BASE.c.base).where(_BASE.c.model == model)):
            later[row.base].append(row.version)
        return [_with_later(versions, later) for versions in own.values()]


def learnt_by(model: str, version: int) -> Exists:
    """Whether a row of the examples was learnt by a version, or by one that it went on from, and so on."""
    chain = select(cast(literal(version), Integer).label("version")).cte("chain", recursive=True)
    chain = chain.union(select(_BASE.c.base).where(_BASE.c.model == model, _BASE.c.version == chain.c.version))
    taken = select(_OWN.c.example_id).where(_OWN.c.example_id == _EXAMPLE.c.id)
    return taken.where(_OWN.c.version.in_(select(chain.c.version))).exists()


def _with_later(versions: set[int], later: dict[int, list[int]]) -> set[int]:
    found, open_ones = set(versions), list(versions)
    while open_ones:
        for version in later.get(open_ones.pop(), ()):
            if version not in found:
                found.add(version)
                open_ones.append(version)
    return found
