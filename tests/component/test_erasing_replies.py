"""A customer is erased from the library of replies, from what a training read of it, and is sought by its words."""

from pathlib import Path

import pytest

from perennial.continual.learning.replies import Question, Reply
from perennial.ops.app.wiring import open_parts
from perennial.ops.commands.erasing.person import erase_person
from perennial.ops.commands.first_version import register
from perennial.ops.serving.processes import free_port
from perennial.ops.store.kept_items import kept_items
from perennial.ops.store.reply_store import ReplyStore

pytestmark = pytest.mark.component


def test_a_question_in_the_library_is_erased_and_sought_when_its_request_is_in_no_log(tmp_path: Path) -> None:
    config = tmp_path / "perennial.toml"
    config.write_text(f"[models.desk]\ntask = 'replies'\n[triton]\ngrpc_port = {free_port()}\n")
    parts = open_parts(config)
    try:
        register(parts.ledger, parts.workspace)
        with ReplyStore(parts.workspace.replies("desk")) as store:
            store.put([Reply(id="fee", text="It is free of charge.", intent="fee")])
            asked = Question(reply="fee", text="what does [email] pay for the card of my late aunt")
            store.approve_questions([asked], customer="customer-77")
        read = kept_items(parts.workspace, "desk")
        assert read is not None
        assert asked.text in read.read_text()
        copy = parts.workspace.state / "copy.txt"
        copy.write_text(f"they wrote: {asked.text}")
        done = erase_person(parts, "customer-77", actor="test")
        assert (done.models["desk"].remembered, done.search.texts) == (1, 1)
        assert [Path(trace.place).name for trace in done.search.left] == ["copy.txt"]
        copy.unlink()
        assert erase_person(parts, "customer-77", actor="test").complete
        again = kept_items(parts.workspace, "desk")
        assert again is not None
        assert "late aunt" not in again.read_text()
        assert "free of charge" in again.read_text()
    finally:
        parts.close()
