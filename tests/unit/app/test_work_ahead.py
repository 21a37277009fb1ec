"""A process works ahead of the champion's next update between cycles, and keeps nothing that an erasure takes out."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from perennial.continual.learning.card import MODEL_FILE
from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts
from perennial.ops.making.version_maker import PROVING, TRAINING
from perennial.ops.parts import Parts
from perennial.ops.serving.processes import free_port
from perennial.ops.watching.budget import SpareTime


class _Waiting:
    """Remembers by what a job was begun to wait; None: it was let go."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...] | None] = []

    def last(self) -> tuple[str, ...] | None:
        return self.told[-1]

    def keep(self, arguments: Sequence[str]) -> None:
        self.told.append(tuple(arguments))

    def drop(self) -> None:
        self.told.append(None)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    config = tmp_path / "perennial.toml"
    config.write_text(f"[triton]\ngrpc_port = {free_port()}\n[models.card]\n")
    parts = open_parts(config)
    parts.ledger.register_model("card", {})
    yield parts
    parts.close()


@pytest.fixture
def loop(parts: Parts) -> ModelLoop:
    return Service(parts).roster.loops["card"]


def test_it_waits_between_cycles_and_goes_when_somebody_is_erased(
    parts: Parts, loop: ModelLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, waiting, proving = parts.ledger, _Waiting(), _Waiting()
    monkeypatch.setattr(loop._maker, "_waiting", {TRAINING: waiting, PROVING: proving})
    monkeypatch.setattr(loop, "_for_work_ahead", SpareTime(0.01, idle=lambda: 1.0))
    loop._work_ahead(1)
    assert waiting.told == [None], "no training of version 1 is on disk"
    folder, bundle = parts.workspace.run("card", 1), parts.workspace.bundle("card", 1)
    for path in (bundle / MODEL_FILE, folder / "train.json", folder / "holdout.jsonl"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    monkeypatch.setattr(loop, "_for_work_ahead", SpareTime(0.01, idle=lambda: 0.0))
    loop._work_ahead(1)
    assert waiting.told == [None], "after a start callers go first"
    monkeypatch.setattr(loop, "_for_work_ahead", SpareTime(0.01, idle=lambda: 1.0))
    loop._work_ahead(1)
    first = waiting.last()
    assert first is not None
    assert first[:2] == tuple(str(path.absolute()) for path in (folder / "train.json", bundle))
    export = str((folder / "export.json").absolute())
    assert proving.last() == (str(bundle.absolute()), export, str(loop._maker.engine_threads))
    os.utime(folder / "holdout.jsonl", ns=(1, 1))  # as where an erasure has written it anew
    loop._work_ahead(1)
    assert waiting.last() not in (None, first)
    token, _ = ledger.begin_erasure("card", "u7")
    loop._work_ahead(1)
    assert waiting.last() is None
    ledger.end_erasure("card", token)
    cycle = ledger.open_cycle("card", "drift", {})
    loop._work_ahead(1)
    assert waiting.last() is None, "the cycle's own training takes what is ready"
    ledger.close_cycle(cycle, "refused")
    loop._work_ahead(1)
    assert waiting.last() is not None
    loop.leave()
    assert waiting.last() is None
    assert [told is None for told in proving.told] == [told is None for told in waiting.told]
