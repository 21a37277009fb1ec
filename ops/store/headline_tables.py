"""The tables of a model's file of headlines, and what it keeps of how they are watched."""

import json
import sqlite3
from dataclasses import replace

from perennial.continual.events import RiskModel, WatchPlan

__all__ = ["HEADLINE_TABLES", "keep_setting", "plan_parts", "read_plan", "setting"]

HEADLINE_TABLES = """
CREATE TABLE IF NOT EXISTS item (
    number INTEGER PRIMARY KEY AUTOINCREMENT, prediction_id TEXT NOT NULL, at INTEGER NOT NULL, source TEXT NOT NULL,
    key TEXT NOT NULL, text TEXT NOT NULL, label TEXT NOT NULL, opinions TEXT NOT NULL, words TEXT NOT NULL,
    tokens TEXT NOT NULL, tone REAL NOT NULL, encoder TEXT NOT NULL, place BLOB, copy_of INTEGER, event TEXT NOT NULL,
    score REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS item_of_event ON item (event, number) WHERE event <> '';
CREATE INDEX IF NOT EXISTS item_of_key ON item (key) WHERE key <> '';
CREATE TABLE IF NOT EXISTS event (
    name TEXT PRIMARY KEY, opened_at INTEGER NOT NULL, record TEXT NOT NULL, open INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS alert (
    number INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL, subject TEXT NOT NULL, at INTEGER NOT NULL,
    risk REAL, facts TEXT NOT NULL, evidence TEXT NOT NULL, state TEXT NOT NULL, judged_at INTEGER, judged_by TEXT,
    note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS alert_of ON alert (rule, subject);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


def setting(connection: sqlite3.Connection, name: str) -> str:
    """What the file keeps under a name; empty where it keeps nothing."""
    row = connection.execute("SELECT value FROM setting WHERE name = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


def keep_setting(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Keep a value under a name."""
    connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (name, value))


def plan_parts(connection: sqlite3.Connection) -> tuple[str, ...]:
    """What the plan is made of as it is kept, with the count of erasures; another one means another watch."""
    return tuple(setting(connection, name) for name in ("plan", "limit", "risk", "generation"))


def read_plan(connection: sqlite3.Connection) -> WatchPlan:
    """The configured plan with the limit that was calibrated and the weights that analysts taught."""
    configured, limit, risk, _ = plan_parts(connection)
    plan = WatchPlan.from_record(json.loads(configured)) if configured else WatchPlan()
    if limit:
        plan = plan.with_limit(float(limit))
    return replace(plan, risk=RiskModel(**json.loads(risk))) if risk else plan
