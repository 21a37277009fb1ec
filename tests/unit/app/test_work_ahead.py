"""A process works ahead of the champion's next update between cycles, and keeps nothing that an erasure takes out."""

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from time import sleep, time
from types import SimpleNamespace

import pytest

from perennial.continual.errors import BundleRejected
from perennial.continual.learning.card import MODEL_FILE, ModelCard
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.policy import FeedbackCount, TriggerDecision, TriggerPolicy, parse_policy
from perennial.continual.records import Example, Split
from perennial.exporters import bundle
from perennial.exporters.bundle import Manifest, digests_told, verify_bundle
from perennial.exporters.spec import ExportSpec
from perennial.ops.app.model_loop import ModelLoop
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts
from perennial.ops.ledger import VersionRow, VersionState, version_card
from perennial.ops.making import version_maker
from perennial.ops.making.version_maker import PROVING, TRAINING, VersionMaker
from perennial.ops.parts import Parts
from perennial.ops.serving.processes import free_port
from perennial.ops.watching.budget import SpareTime
from tests.component.triton_fixtures import write_bundle


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


def _idle_for_long() -> SpareTime:
    """Of a machine that did nothing since it started."""
    seconds = itertools.count(step=60)
    return SpareTime(0.01, clock=lambda: float(next(seconds)), idle=lambda: 1.0)


def test_it_waits_between_cycles_and_goes_when_somebody_is_erased(
    parts: Parts, loop: ModelLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, waiting, proving = parts.ledger, _Waiting(), _Waiting()
    monkeypatch.setattr(loop._maker, "_waiting", {TRAINING: waiting, PROVING: proving})
    monkeypatch.setattr(loop, "_for_work_ahead", _idle_for_long())
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
    assert waiting.told == [None], "a moment between two requests is no idle processor"
    monkeypatch.setattr(loop, "_for_work_ahead", _idle_for_long())
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


def _proving(texts: Sequence[str]) -> list[Example]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [Example(text=text, label="card", at=at, key=f"of {text}") for text in texts]


@pytest.fixture
def champion(parts: Parts) -> Path:
    """Version 1, whose work folder was cleared; two rows of the ledger prove an update of it."""
    bundle = parts.workspace.bundle("card", 1)
    bundle.mkdir(parents=True)
    (bundle / STATISTICS_FILE).write_bytes(b"sums")
    card = ModelCard(learner="ridge", encoder="packaged:minilm", labels=("card", "loan"), head="ridge", max_length=64)
    card.write(bundle)
    row = VersionRow(model="card", version=1, state=VersionState.CHAMPION, card=version_card(labels=card.labels))
    parts.ledger.add_version(row)
    parts.ledger.add_examples("card", _proving(["lost card", "new card"]), lambda _: Split.HOLDOUT)
    return bundle


def test_what_was_cleared_is_written_anew_without_those_who_were_erased(
    parts: Parts, loop: ModelLoop, champion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, proving = _Waiting(), _Waiting()
    monkeypatch.setattr(loop._maker, "_waiting", {TRAINING: waiting, PROVING: proving})
    loop._maker.work_ahead(1)
    first = waiting.last()
    assert first is not None
    training = JobSpec.read(Path(first[0]))
    assert (training.encoder, training.previous, training.examples) == ("packaged:minilm", champion.absolute(), None)
    assert [row.text for row in read_rows(training.holdout)] == ["lost card", "new card"]
    assert proving.last() is not None
    export = ExportSpec.from_record(json.loads(Path((proving.last() or ())[1]).read_text()))
    assert [row["text"] for row in json.loads(export.held_out.read_text())] == ["lost card", "new card"]
    loop._maker.work_ahead(1)
    assert waiting.last() == first, "who waits already waits on"

    shutil.rmtree(parts.workspace.runs("card"))  # as an erasure does, after it has taken rows out of the ledger
    parts.ledger.erase_key("card", "of new card", prediction_ids=(), actor="a test", erased_at=datetime.now(UTC))
    loop._maker.work_ahead(1)
    assert waiting.last() not in (None, first)
    assert [row.text for row in read_rows(training.holdout)] == ["lost card"]

    monkeypatch.setattr(loop._maker, "_waiting", {})  # as where the settings say so
    loop._maker.work_ahead(1)
    assert not Path((waiting.last() or ())[0]).exists(), "rows stay nowhere once nothing works ahead"

    monkeypatch.setattr(loop._maker, "_waiting", {TRAINING: waiting, PROVING: proving})
    own = parts.workspace.run("card", 1) / "train.json"
    own.parent.mkdir(parents=True)
    own.write_text("{}")
    loop._maker.work_ahead(1)
    assert (waiting.last() or ())[0] == str(own.absolute())
    assert not Path(first[0]).exists(), "what its own making left is enough"


def test_rows_that_go_while_they_are_written_stay_nowhere(
    parts: Parts, loop: ModelLoop, champion: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, read = _Waiting(), loop._maker.rows.replay_rows
    monkeypatch.setattr(loop._maker, "_waiting", {TRAINING: waiting})

    def erased_meanwhile() -> tuple[object, ...]:
        parts.ledger.erase_key("card", "of new card", prediction_ids=(), actor="a test", erased_at=datetime.now(UTC))
        return read()

    monkeypatch.setattr(loop._maker.rows, "replay_rows", erased_meanwhile)
    loop._maker.work_ahead(1)
    assert waiting.told == [None]
    assert not [path for path in parts.workspace.runs("card").rglob("*") if path.is_file()]
    assert champion.is_dir()


@pytest.mark.parametrize(
    ("fires", "counts", "done"),
    [
        (True, True, ["decide"]),
        (False, True, ["decide", "look", "decide"]),
        (True, False, ["look", "decide"]),
    ],
)
def test_labels_that_are_enough_by_themselves_wait_for_no_watch(
    loop: ModelLoop, monkeypatch: pytest.MonkeyPatch, fires: bool, counts: bool, done: list[str]
) -> None:
    when = FeedbackCount(at_least=1) if counts else parse_policy({"kind": "gain"}).when
    seen = list[str]()
    monkeypatch.setattr(loop._trigger, "policy", TriggerPolicy(when=when))
    monkeypatch.setattr(loop, "_look", lambda champion: seen.append("look"))
    monkeypatch.setattr(loop, "decide", lambda now: seen.append("decide") or TriggerDecision(fire=fires))
    decision = loop._decided(1, datetime.now(UTC))
    assert decision is not None
    assert (decision.fire, seen) == (fires, done)


@pytest.mark.parametrize("altered", [None, "before", "since"])
def test_a_bundle_is_read_beside_its_judgement_and_published_only_as_it_was_read(
    parts: Parts, altered: str | None
) -> None:
    maker = VersionMaker(parts.ledger, parts.workspace, "card")
    staged = write_bundle(maker.staged(1), 1)
    if altered == "before":
        (staged / "labels.json").write_text("[]")
    maker.verify_staged(1)
    wait([maker._verified[1]])
    if altered == "since":
        (staged / "labels.json").write_text("[]")
    if altered is None:
        assert maker.publish(1).version == 1
        return
    with pytest.raises(BundleRejected, match=r"labels\.json"):
        maker.publish(1)
    assert not parts.workspace.bundle("card", 1).exists()


@pytest.mark.parametrize("altered", [False, True])
def test_what_an_export_has_read_of_its_bundle_is_read_again_only_where_it_was_altered(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, altered: bool
) -> None:
    hashed, maker = list[int](), VersionMaker(parts.ledger, parts.workspace, "card")

    def sha256() -> SimpleNamespace:
        state = hashlib.sha256()
        return SimpleNamespace(
            update=lambda chunk: (hashed.append(len(chunk)), state.update(chunk)), hexdigest=state.hexdigest
        )

    monkeypatch.setattr(bundle, "_SETTLED_NS", 0)
    monkeypatch.setattr(bundle, "_known_digests", {})
    staged = write_bundle(maker.staged(1), 1)
    verify_bundle(staged)
    told = {"read": [asdict(each) for each in digests_told(staged)]}
    monkeypatch.setattr(bundle, "_known_digests", {})
    maker.report(1).parent.mkdir(parents=True)
    maker.report(1).write_text(json.dumps(told))
    monkeypatch.setattr(bundle, "hashlib", SimpleNamespace(sha256=sha256))
    if not altered:
        maker.verify_staged(1)
        assert maker.publish(1).version == 1
        assert hashed == []
        return
    (staged / "labels.json").write_text("[]")
    maker.verify_staged(1)
    with pytest.raises(BundleRejected, match=r"labels\.json"):
        maker.publish(1)
    assert hashed == [2]


def test_what_an_export_has_read_days_ago_is_read_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle goes on where it was, however long nobody ran it."""
    maker, rereads = VersionMaker(parts.ledger, parts.workspace, "card"), list[bool]()
    monkeypatch.setattr(version_maker, "verify_bundle", lambda _, *, reread=True: rereads.append(reread))
    maker.report(1).parent.mkdir(parents=True)
    maker.report(1).write_text('{"read": []}')
    for age_s in (0.0, 86_400.0):
        os.utime(maker.report(1), (time() - age_s,) * 2)
        maker.verify_staged(1)
        wait([maker._verified[1]])
    assert rereads == [False, True]


_NO_NUMBER = json.dumps({"read": [{"identity": [1, 2, [3], 4, 5], "sha256": "x"}]})


@pytest.mark.parametrize("told", ["", "{}", '{"read": 3}', '{"read": [[[1, 2, 3, 4, 5], "x"]]}', _NO_NUMBER])
def test_a_report_that_tells_nothing_has_the_bundle_read(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    maker, rereads = VersionMaker(parts.ledger, parts.workspace, "card"), list[bool]()
    monkeypatch.setattr(version_maker, "verify_bundle", lambda _, *, reread=True: rereads.append(reread))
    maker.report(1).parent.mkdir(parents=True)
    maker.report(1).write_text(told)
    maker.verify_staged(1)
    wait([maker._verified[1]])
    assert rereads == [True]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_bundle_that_was_read_long_ago_is_read_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    maker, rereads = VersionMaker(parts.ledger, parts.workspace, "card"), list[bool]()

    def noted(bundle: Path, *, reread: bool = True) -> Manifest:
        rereads.append(reread)
        return verify_bundle(bundle, reread=reread)

    monkeypatch.setattr(version_maker, "verify_bundle", noted)
    monkeypatch.setattr(version_maker, "_FRESH_S", 300.0 if fresh else 0.0)
    write_bundle(maker.staged(1), 1)
    maker.verify_staged(1)
    maker.publish(1)
    assert rereads == [True, not fresh, False]


def test_a_staged_bundle_is_deleted_after_it_was_read(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    maker, begun, there = VersionMaker(parts.ledger, parts.workspace, "card"), Event(), list[bool]()

    def slow(bundle: Path, **_: object) -> None:
        begun.set()
        sleep(0.1)
        there.append(bundle.is_dir())

    monkeypatch.setattr(version_maker, "verify_bundle", slow)
    staged = write_bundle(maker.staged(1), 1)
    maker.verify_staged(1)
    assert begun.wait(20)
    maker.discard(1)
    assert (there, staged.exists(), maker._verified) == ([True], False, {})
