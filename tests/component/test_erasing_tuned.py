"""Versions that were tuned on erased rows are named, whatever became of the encoders that others were made with."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.continual.learning.encoder import fingerprint
from perennial.continual.records import Example, Origin, Route, Split
from perennial.ops.app.wiring import open_parts
from perennial.ops.commands.erasing.person import erase_person, plan_person
from perennial.ops.commands.first_version import register
from perennial.ops.ledger import VersionRow, VersionState, version_card
from perennial.ops.serving.processes import free_port
from tests.unit.learning.cards import text_card

pytestmark = pytest.mark.component
CARD = text_card(learner="finetune", encoder="", encoder_fingerprint="sha256:tuned")


def test_an_encoder_that_is_there_no_more_keeps_nobody_from_being_erased(tmp_path: Path) -> None:
    """It was moved away after version 1. That of version 2 is still there, and no row is in its weights."""
    config = tmp_path / "perennial.toml"
    config.write_text(f"[models.intent]\n[triton]\ngrpc_port = {free_port()}\n")
    here = tmp_path / "encoder"
    here.mkdir()
    (here / "config.json").write_text("{}")
    (here / "model.safetensors").write_bytes(b"weights")
    parts = open_parts(config)
    try:
        register(parts.ledger, parts.workspace)
        encoders = {1: ("sha256:tuned", str(tmp_path / "gone")), 2: (fingerprint(here), str(here))}
        for version, (print_of, name) in encoders.items():
            card = version_card(labels=("a", "b"), encoder_fingerprint=print_of)
            parts.ledger.add_version(
                VersionRow(model="intent", version=version, state=VersionState.PUBLISHED, card=card, learner="finetune")
            )
            bundle = parts.workspace.bundle("intent", version)
            bundle.mkdir(parents=True)
            replace(CARD, encoder=name, encoder_fingerprint=print_of).write(bundle)
        route = Route(model="intent", epoch=1, champion=1, previous=2, resident=(1, 2))
        parts.ledger.set_route(route, expected_epoch=0, actor="test", reason="first")
        at = datetime(2026, 3, 1, tzinfo=UTC)
        mine = Example(text="what I asked of you", label="a", at=at, key="person-1", origin=Origin.FEEDBACK)
        parts.ledger.add_examples("intent", [mine], lambda _: Split.TRAIN)
        (row,) = parts.ledger.examples("intent")
        for version in encoders:
            parts.ledger.mark_learnt("intent", [row.id], version)
        assert plan_person(parts, "person-1").models["intent"].tuned == (1,)
        done = erase_person(parts, "person-1", actor="test")
        assert done.complete
        assert done.models["intent"].tuned == (1,)
        assert done.models["intent"].retraining is not None
        assert parts.ledger.examples("intent") == ()
    finally:
        parts.close()
