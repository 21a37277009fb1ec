"""The operator's inbox, and notices that go out once."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, insert, or_, select, update

from perennial.continual.errors import NotFound
from perennial.ops.ledger import schema
from perennial.ops.ledger.audit import AuditStore
from perennial.ops.ledger.rows import CommandRow, NoticeRow

__all__ = ["CommandStore"]

_COMMAND = schema.command
_NOTICE = schema.notice
_CLAIM = timedelta(minutes=10)


class CommandStore(AuditStore):
    """The part of the ledger through which people act on the loop."""

    def request_command(self, model: str, kind: str, args: Mapping[str, Any], actor: str) -> int:
        """Put a command in the model's inbox, audit it, and return its id. Not idempotent."""
        with self._write() as connection:
            self._lock_model(connection, model)
            row = {"model": model, "kind": kind, "args": dict(args), "actor": actor, "requested_at": self._clock()}
            command_id = int(connection.execute(insert(_COMMAND).values(row).returning(_COMMAND.c.id)).scalar_one())
            detail = {"command": command_id, "args": dict(args)}
            self._append_audit(connection, actor=actor, action=f"command.{kind}", model=model, detail=detail)
        return command_id

    def take_commands(self, model: str) -> tuple[CommandRow, ...]:
        """Take the commands that nobody took yet, in the order in which they were asked for.

        Each is handed out once. Whoever becomes the loop's leader, or could not finish what it took, first calls
        `reclaim_commands`, so that it is handed out again: a command is carried out at least once.
        """
        untaken = _untaken(model)
        with self._read() as connection:  # asked several times a second: an empty inbox holds up no writer
            if connection.scalar(select(_COMMAND.c.id).where(untaken).limit(1)) is None:
                return ()
        with self._write() as connection:
            self._lock_model(connection, model)
            waiting = select(_COMMAND.c.id).where(untaken)
            ids = list(connection.scalars(waiting.order_by(_COMMAND.c.id)))
            if not ids:
                return ()
            connection.execute(update(_COMMAND).where(_COMMAND.c.id.in_(ids)).values(taken_at=self._clock()))
            rows = connection.execute(select(_COMMAND).where(_COMMAND.c.id.in_(ids)).order_by(_COMMAND.c.id))
            return tuple(CommandRow(**row) for row in rows.mappings())

    def waiting_commands(self, model: str) -> tuple[CommandRow, ...]:
        """Return the commands that nobody took yet, in the order in which they were asked for, and leave them there."""
        statement = select(_COMMAND).where(_untaken(model)).order_by(_COMMAND.c.id)
        with self._read() as connection:
            return tuple(CommandRow(**row) for row in connection.execute(statement).mappings())

    def reclaim_commands(self, model: str) -> int:
        """Put commands that were taken but not finished back into the inbox, and return how many."""
        with self._write() as connection:
            self._lock_model(connection, model)
            lost = update(_COMMAND).where(_COMMAND.c.model == model, _COMMAND.c.taken_at.is_not(None))
            return connection.execute(lost.where(_COMMAND.c.finished_at.is_(None)).values(taken_at=None)).rowcount

    def finish_command(self, command_id: int, outcome: str) -> None:
        """Note how a command ended. A retry changes nothing; the first outcome stays.

        Raises:
            NotFound: the command does not exist.
        """
        with self._write() as connection:
            statement = update(_COMMAND).where(_COMMAND.c.id == command_id, _COMMAND.c.finished_at.is_(None))
            done = connection.execute(statement.values(finished_at=self._clock(), outcome=outcome))
            if done.rowcount == 0:
                self._command(connection, command_id)

    def command(self, command_id: int) -> CommandRow:
        """Return one command, for whoever waits for its outcome.

        Raises:
            NotFound: it does not exist.
        """
        with self._read() as connection:
            return CommandRow(**self._command(connection, command_id))

    def commands(self, model: str, limit: int | None = None, *, before_id: int | None = None) -> tuple[CommandRow, ...]:
        """Return a model's commands before `before_id`, newest first."""
        statement = select(_COMMAND).where(_COMMAND.c.model == model).order_by(_COMMAND.c.id.desc()).limit(limit)
        if before_id is not None:
            statement = statement.where(_COMMAND.c.id < before_id)
        with self._read() as connection:
            return tuple(CommandRow(**row) for row in connection.execute(statement).mappings())

    def claim_notice(self, model: str, alert: str, episode: str, channel: str, *, attempts: int = 3) -> bool:
        """Return whether this caller is to send an episode's message on a channel; the answer is yes once.

        After `finish_notice` with an error, or when a claim led to nothing for ten minutes because its process died, it
        is yes again, until `attempts` are used up.
        """
        values = {"model": model, "alert": alert, "episode": episode, "channel": channel}
        with self._write() as connection:
            self._lock_model(connection, model)
            row = values | {"claimed_at": self._clock(), "attempts": 1}
            first = self._insert(_NOTICE).values(row).on_conflict_do_nothing().returning(_NOTICE.c.attempts)
            if connection.execute(first).first() is not None:
                return True
            now = self._clock()
            open_again = or_(_NOTICE.c.error.is_not(None), _NOTICE.c.claimed_at < now - _CLAIM)
            again = update(_NOTICE).filter_by(**values).where(_NOTICE.c.sent_at.is_(None), open_again)
            again = again.where(_NOTICE.c.attempts < attempts)
            again = again.values(attempts=_NOTICE.c.attempts + 1, error=None, claimed_at=now)
            return connection.execute(again).rowcount == 1

    def finish_notice(self, model: str, alert: str, episode: str, channel: str, *, error: str | None = None) -> None:
        """Note that a claimed message was sent, or why it was not. A retry changes nothing."""
        values = {"model": model, "alert": alert, "episode": episode, "channel": channel}
        with self._write() as connection:
            done = update(_NOTICE).filter_by(**values).where(_NOTICE.c.sent_at.is_(None))
            outcome = {"sent_at": self._clock()} if error is None else {"error": error}
            connection.execute(done.values(**outcome))

    def notices(
        self, model: str, limit: int | None = None, *, episode: tuple[str, str] | None = None
    ) -> tuple[NoticeRow, ...]:
        """Return a model's messages, newest first; with `episode`, those of one alert's one episode."""
        statement = select(_NOTICE).where(_NOTICE.c.model == model)
        if episode is not None:
            statement = statement.where(_NOTICE.c.alert == episode[0], _NOTICE.c.episode == episode[1])
        statement = statement.order_by(_NOTICE.c.claimed_at.desc(), _NOTICE.c.alert, _NOTICE.c.channel).limit(limit)
        with self._read() as connection:
            return tuple(NoticeRow(**row) for row in connection.execute(statement).mappings())

    def _command(self, connection: Connection, command_id: int) -> RowMapping:
        row = connection.execute(select(_COMMAND).where(_COMMAND.c.id == command_id)).mappings().first()
        if row is None:
            raise NotFound(f"command {command_id} is not in the ledger {self.url}")
        return row


def _untaken(model: str) -> ColumnElement[bool]:
    """Commands that nobody took; those that are finished are named for the sake of the index of open ones."""
    return (_COMMAND.c.model == model) & _COMMAND.c.finished_at.is_(None) & _COMMAND.c.taken_at.is_(None)
