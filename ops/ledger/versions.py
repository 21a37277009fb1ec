"""Models, their versions, and the route that says which of them answer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from perennial.continual.errors import DataError, InputError, NotFound
from perennial.continual.records import Route
from perennial.ops.ledger import schema
from perennial.ops.ledger.audit import AuditStore
from perennial.ops.ledger.rows import Conflict, ModelRow, VersionRow, VersionState
from perennial.ops.ledger.store import chunks

__all__ = ["VersionStore"]

_FACTS = frozenset(field.name for field in fields(VersionRow)) - {"model", "version", "state", "state_at"}
_OBJECTS = ("card", "metrics", "lineage")


class VersionStore(AuditStore):
    """The part of the ledger that knows models, versions and routes."""

    def register_model(self, name: str, settings: Mapping[str, Any]) -> None:
        """Make a model known, or replace the settings of a known one. A retry changes nothing."""
        with self._write() as connection:
            row = {"name": name, "settings": dict(settings), "created_at": self._clock()}
            statement = self._insert(schema.model).values(row)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["name"], set_={"settings": statement.excluded.settings})
            )

    def models(self) -> tuple[ModelRow, ...]:
        """Return every registered model, by name."""
        with self._read() as connection:
            rows = connection.execute(select(schema.model).order_by(schema.model.c.name)).mappings().all()
        return tuple(ModelRow(name=r["name"], settings=r["settings"], created_at=r["created_at"]) for r in rows)

    def next_version(self, model: str) -> int:
        """Reserve the next version number. No number is given twice, whatever became of the earlier ones.

        Not idempotent: a retry reserves another number and leaves a gap, which is harmless.
        """
        with self._write() as connection:
            number = int(self._lock_model(connection, model)["last_version"]) + 1
            self._count_version(connection, model, number)
        return number

    def add_version(self, row: VersionRow) -> None:
        """Write a new version's row. A number of its own choice moves the counter of `next_version` past it.

        Raises:
            Conflict: the version exists.
        """
        values = asdict(row) | {name: dict(getattr(row, name)) for name in _OBJECTS}
        with self._write() as connection:
            if int(self._lock_model(connection, row.model)["last_version"]) < row.version:
                self._count_version(connection, row.model, row.version)
            known = select(schema.version.c.state).where(_is(row.model, row.version))
            if (state := connection.scalar(known)) is not None:
                raise Conflict(f"{row.model} version {row.version} exists ({state}); ask next_version for another")
            now = self._clock()
            values |= {"created_at": row.created_at or now, "state_at": now}
            connection.execute(insert(schema.version).values(values))

    def set_version_state(self, model: str, version: int, state: VersionState, **facts: Any) -> VersionRow:
        """Move a version to a state, note facts (fields of `VersionRow`) and return the row. A retry changes nothing.

        `published_at` is set by itself at the first move to published. The last writer wins; the cycle that owns the
        version is its only writer.

        Raises:
            InputError: a fact is not a field of `VersionRow`.
            NotFound: the version does not exist.
        """
        unknown = sorted(set(facts) - _FACTS)
        if unknown:
            raise InputError(f"{model} version {version}: unknown facts {unknown}; allowed are {sorted(_FACTS)}")
        values: dict[str, Any] = {"state": state, "state_at": self._clock(), **_plain(facts)}
        with self._write() as connection:
            row = self._version(connection, model, version)
            if state is VersionState.PUBLISHED and row.published_at is None:
                values.setdefault("published_at", self._clock())
            connection.execute(update(schema.version).where(_is(model, version)).values(values))
            return self._version(connection, model, version)

    def date_versions_anew(self, model: str, *, ahead: timedelta) -> tuple[int, ...]:
        """Let the states that began later than now, by more than `ahead`, begin now; returns whose they were.

        Such a time was stamped by a clock that was wrong.
        """
        table, now = schema.version, self._clock()
        wrong = (table.c.model == model) & (table.c.state_at > now + ahead)
        with self._read() as connection:  # which holds up nobody's writing
            versions = sorted(connection.scalars(select(table.c.version).where(wrong)))
        if versions:
            with self._write() as connection:
                connection.execute(update(table).where(wrong).values(state_at=now))
        return tuple(versions)

    def versions(
        self,
        model: str,
        limit: int | None = None,
        *,
        after: int = 0,
        newest: int | None = None,
        among: Collection[int] | None = None,
    ) -> tuple[VersionRow, ...]:
        """Return the versions of a model after one, oldest first; the `newest` so many, or those with some numbers."""
        number = schema.version.c.version
        statement = select(schema.version).where(schema.version.c.model == model, number > after)
        statement = statement.order_by(number).limit(limit)
        if newest is not None:
            statement = statement.order_by(None).order_by(number.desc()).limit(newest)
        parts = [statement] if among is None else [statement.where(number.in_(part)) for part in chunks(sorted(among))]
        with self._read() as connection:
            rows = [row for part in parts for row in connection.execute(part).mappings()]
        return tuple(sorted(map(_version_row, rows), key=lambda row: row.version))

    def version(self, model: str, number: int) -> VersionRow:
        """Return one version.

        Raises:
            NotFound: it does not exist.
        """
        with self._read() as connection:
            return self._version(connection, model, number)

    def route(self, model: str) -> Route | None:
        """Return the desired route, or None before the first version serves."""
        with self._read() as connection:
            return self._route(connection, model)

    def set_route(self, route: Route, *, expected_epoch: int, actor: str, reason: str) -> Route:
        """Replace a model's route if it still is at `expected_epoch` (0: there is none yet), and audit it.

        Its champion, and no other version, has the state of one; published versions that it loads are resident. The
        new route's epoch is `expected_epoch + 1`. A retry of the same route succeeds without a second audit entry.

        Raises:
            Conflict: the route is at another epoch; nothing was written.
            DataError: the new epoch is not `expected_epoch + 1`.
        """
        if route.epoch != expected_epoch + 1:
            raise DataError(
                f"route of {route.model}: new epoch {route.epoch} must be {expected_epoch + 1}, one after the expected"
            )
        with self._write() as connection:
            self._lock_model(connection, route.model)
            current = self._route(connection, route.model)
            if current == route:
                return route
            seen = 0 if current is None else current.epoch
            if seen != expected_epoch:
                raise Conflict(
                    f"route of {route.model} is at epoch {seen}, expected {expected_epoch}; read it and decide anew"
                )
            self._put_route(connection, current, route, actor=actor, reason=reason)
        return route

    def restore_route(self, route: Route, *, actor: str, reason: str) -> None:
        """Write a route that the ledger has lost, at its own epoch, and audit it. A retry changes nothing.

        Raises:
            Conflict: the ledger knows a newer route.
        """
        with self._write() as connection:
            self._lock_model(connection, route.model)
            current = self._route(connection, route.model)
            if current == route:
                return
            if current is not None and current.epoch >= route.epoch:
                raise Conflict(
                    f"route of {route.model} is at epoch {current.epoch}, not before {route.epoch}; it was not replaced"
                )
            self._put_route(connection, current, route, actor=actor, reason=reason)

    def pass_versions(self, model: str, number: int) -> None:
        """Let `next_version` give no number up to this one: bundles of these numbers exist. A retry changes nothing."""
        with self._write() as connection:
            if int(self._lock_model(connection, model)["last_version"]) < number:
                self._count_version(connection, model, number)

    @contextmanager
    def route_held(self, model: str) -> Iterator[Route | None]:
        """Give a model's route, which no other writer can change before the block ends. Keep the block short."""
        with self._write() as connection:
            self._lock_model(connection, model)
            yield self._route(connection, model)

    def move_route(
        self,
        model: str,
        change: Callable[[Route], Route],
        *,
        actor: str,
        reason: str,
        follow: Callable[[Route], object],
    ) -> tuple[Route, Route]:
        """Replace a model's route by what `change` makes of it, audit it, and return the routes before and after.

        All in one transaction, so that nobody comes between the reading and the commit. `follow` is called with the
        new route once all is written and before it is committed: it is called in the order of the epochs, and when it
        fails nothing was changed. When the commit fails, `follow` has been called for a route that is not the
        ledger's. A change that changes nothing writes nothing; `follow` then gets the route as it is.

        Raises:
            NotFound: the model is not registered, or serves nothing yet.
        """
        with self.route_held(model) as before:
            if before is None:
                raise NotFound(
                    f"model {model} serves no version yet; train the first with `perennial init {model} --data FILE`"
                )
            after = change(before)
            if replace(after, epoch=before.epoch) == before:
                follow(before)
                return before, before
            after = replace(after, epoch=before.epoch + 1)
            with self._write() as connection:
                self._put_route(connection, before, after, actor=actor, reason=reason)
            follow(after)
        return before, after

    def _put_route(
        self, connection: Connection, current: Route | None, route: Route, *, actor: str, reason: str
    ) -> None:
        values = asdict(route) | {"resident": list(route.resident), "set_at": self._clock()}
        statement = self._insert(schema.route).values(values)
        connection.execute(statement.on_conflict_do_update(index_elements=["model"], set_=values))
        self._mark_states(connection, route)
        detail = {
            "reason": reason,
            "from": None if current is None else _route_facts(current),
            "to": _route_facts(route),
        }
        self._append_audit(connection, actor=actor, action="route.set", model=route.model, detail=detail)

    def _mark_states(self, connection: Connection, route: Route) -> None:
        """Exactly the route's champion has that state, and what it loads is resident, in the same transaction."""
        table, now = schema.version, self._clock()
        others = (table.c.model == route.model) & (table.c.version != route.champion)
        held = others & (table.c.state == VersionState.CHAMPION)
        loaded = others & (table.c.state == VersionState.PUBLISHED) & table.c.version.in_(route.resident)
        risen = _is(route.model, route.champion) & (table.c.state != VersionState.CHAMPION)
        resident = VersionState.RESIDENT
        for chosen, state in ((held, resident), (loaded, resident), (risen, VersionState.CHAMPION)):
            connection.execute(update(table).where(chosen).values(state=state, state_at=now))

    def _count_version(self, connection: Connection, model: str, number: int) -> None:
        connection.execute(update(schema.model).where(schema.model.c.name == model).values(last_version=number))

    def _version(self, connection: Connection, model: str, number: int) -> VersionRow:
        row = connection.execute(select(schema.version).where(_is(model, number))).mappings().first()
        if row is None:
            raise NotFound(f"{model} has no version {number}; list what it has with `perennial model list`")
        return _version_row(row)

    def _route(self, connection: Connection, model: str) -> Route | None:
        row = connection.execute(select(schema.route).where(schema.route.c.model == model)).mappings().first()
        if row is None:
            return None
        names = (field.name for field in fields(Route))
        return Route(**{name: row[name] for name in names} | {"resident": tuple(row["resident"])})


def _is(model: str, number: int) -> Any:
    return (schema.version.c.model == model) & (schema.version.c.version == number)


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    plain = dict(facts)
    for name in _OBJECTS:
        if name in plain:
            plain[name] = dict(plain[name])
    return plain


def _version_row(row: RowMapping) -> VersionRow:
    return VersionRow(**dict(row) | {"state": VersionState(row["state"])})


def _route_facts(route: Route) -> dict[str, Any]:
    return asdict(route) | {"resident": list(route.resident)}
