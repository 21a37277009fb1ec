"""Accounts lie in the ledger: while that is gone, what needs none of them is answered as before."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.api.app import create_api
from perennial.ops.ledger import Ledger
from perennial.ops.safety.tokens import hashed
from perennial.ops.settings import ApiSettings
from perennial.ops.store.event_feed import EventFeed


def test_a_token_of_the_settings_and_what_is_open_need_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise DependencyUnreachable("the ledger is gone")

    settings = ApiSettings(accounts=True, tokens={hashed("of-the-settings"): "viewer"})
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        client = TestClient(create_api(ledger, None, EventFeed(), settings), base_url="http://localhost")  # type: ignore[arg-type]
        monkeypatch.setattr(ledger, "audit_head", gone)
        told = {
            (path, token): client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code
            for path in ("/v1/who", "/openapi.json")
            for token in ("of-the-settings", "of-an-account")
        }
    assert told == {
        ("/v1/who", "of-the-settings"): 200,
        ("/v1/who", "of-an-account"): 503,
        ("/openapi.json", "of-the-settings"): 200,
        ("/openapi.json", "of-an-account"): 200,
    }
