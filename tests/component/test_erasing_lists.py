"""A user who only asked for lists, and never liked or wrote anything, is erased from every copy of the requests too."""

import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.ops.app.wiring import open_parts
from perennial.ops.commands.erasing.person import erase_person
from perennial.ops.commands.first_version import register
from perennial.ops.serving.processes import free_port
from perennial.ops.traffic import TrafficWriter, columns_of

pytestmark = pytest.mark.component


def test_a_user_with_lists_alone_is_erased_from_what_a_judgement_was_given(tmp_path: Path) -> None:
    config, me = tmp_path / "perennial.toml", "reader-17"
    config.write_text(f"[models.shelf]\ntask = 'ranking'\n[triton]\ngrpc_port = {free_port()}\n")
    parts = open_parts(config)
    try:
        register(parts.ledger, parts.workspace)
        at = datetime.now(UTC)
        row = dict.fromkeys(columns_of("ranking"), "{}") | {
            "prediction_id": f"{int(at.timestamp() * 1000):012x}{1:020x}",
            "at": at,
            "key": me,
            "user": me,
            "asked_at": at.isoformat(),
            "segment": "everybody",
            "context": "",
            "prediction": json.dumps(["tea"]),
            "version": 1,
            "arm": "champion",
            "latency_ms": 1.0,
            "redacted": False,
        }
        with closing(TrafficWriter(parts.workspace.traffic("shelf"), "test", task="ranking")) as writer:
            writer.append({name: [value] for name, value in row.items()})
        copy = parts.workspace.run("shelf", 2) / "judge.json"
        copy.parent.mkdir(parents=True)
        copy.write_text(json.dumps({"logged": [{"user": me}]}))
        assert erase_person(parts, "somebody else", actor="test").complete
        assert copy.is_file(), "nobody else had any request"
        done = erase_person(parts, me, actor="test")
        assert done.models["shelf"].traffic_rows == 1
        assert not copy.exists()
        assert (done.complete, done.search.left) == (True, ())
        other = "import sqlite3, sys; it = sqlite3.connect(sys.argv[1]); it.execute('SELECT * FROM model'); it.close()"
        subprocess.run([sys.executable, "-c", other, str(parts.workspace.state / "ledger.db")], check=True, timeout=60)
        parts.ledger.put_state("shelf", "cursor", {"id": "none"})  # what was read of its files kept SQLite's locks
    finally:
        parts.close()
