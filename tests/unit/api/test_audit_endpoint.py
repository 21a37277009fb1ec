"""The audit log over HTTP."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from perennial.ops.api.app import create_api
from perennial.ops.ledger import Ledger
from perennial.ops.settings import ApiSettings
from perennial.ops.store.event_feed import EventFeed


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_no_more_entries_are_read_than_a_page_needs(tmp_path: Path, limit: int) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.register_model("intent", {})
        entries = [ledger.audit("ann", "tick", "intent", {"number": number}).seq for number in range(20)]
        read: list[tuple[Any, ...]] = []

        def note(_connection: Any, _cursor: Any, statement: str, values: tuple[Any, ...], *_: Any) -> None:
            if "FROM audit_entry" in statement:
                read.append(values)

        event.listen(ledger.engine, "before_cursor_execute", note)
        client = TestClient(create_api(ledger, None, EventFeed(), ApiSettings()), base_url="http://localhost")  # type: ignore[arg-type]
        rows = client.get(f"/v1/audit?limit={limit}").json()
        assert [row["seq"] for row in rows] == entries[-limit:]
        assert [limit + 1 in values for values in read] == [True], "one more tells whether another page follows"
