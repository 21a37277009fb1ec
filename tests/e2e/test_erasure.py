"""A person's rows leave a workspace: what is counted, what is removed, and what the corrected head has learnt."""

import csv
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from perennial.continual.errors import ConfigurationError, Refused
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import fingerprint, hidden_size
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.trained import proof_keys
from perennial.continual.preparation import row_hash
from perennial.continual.records import Origin, Split
from perennial.ops.app.wiring import open_parts
from perennial.ops.cli.main import app
from perennial.ops.ledger import VersionRow, VersionState
from perennial.ops.making.rows import ModelRows
from perennial.ops.making.starting_point import StartingPoint
from perennial.ops.parts import Parts
from perennial.ops.store.tainted import taint, tainted_encoders
from perennial.ops.traffic import TrafficLog
from perennial.ops.traffic.writer import TrafficWriter
from tests.component.traffic_rows import columns
from tests.e2e.conftest import requests_about
from tests.e2e.workspace import E2eWorkspace, make_workspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
ME = "person-7"


def cli(workspace: E2eWorkspace, *arguments: str, code: int = 0) -> Any:
    """Run `perennial` in this process, which has the heavy imports behind it; returns its JSON."""
    done = CliRunner().invoke(app, [*arguments, "--config", str(workspace.config)])
    if done.exception is not None and not (isinstance(done.exception, SystemExit) and done.exit_code == code):
        raise done.exception
    assert done.exit_code == code
    return json.loads(done.stdout)


def erased(workspace: E2eWorkspace, *arguments: str) -> Any:
    """What `perennial erase` says of the one model, where its search found nothing left."""
    receipt = cli(workspace, "erase", *arguments)
    if "--dry-run" not in arguments:
        assert (receipt["complete"], receipt["search"]["left"], receipt["search"]["not_searched"]) == (True, [], [])
        assert receipt["search"]["files"] > 10
    return receipt["models"]["intent"]


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> E2eWorkspace:
    made = make_workspace(tmp_path_factory.mktemp("erasure"), tiny_encoder)
    file = made.folder / "seed.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label", "key"])
        for number, (text, label) in enumerate(requests_about(["card", "loan", "trip"], 240, seed=1)):
            writer.writerow([text, label, ME if number % 12 == 0 else f"person-{100 + number}"])
    assert cli(made, "init", "--data", str(file))["version"] == 1
    return made


def cached(parts: Parts, encoder: Path, texts: list[str]) -> Any:
    """The embeddings that the training used; none may be missing."""

    def refuse(missing: Any) -> Any:
        raise AssertionError(f"{len(missing)} texts have no embedding")

    cache = EmbeddingCache(
        parts.workspace.state / "embeddings",
        encoder=fingerprint(encoder),
        max_length=32,
        dimension=hidden_size(encoder),
    )
    return cache.embed(texts, refuse)


def sums_of(bundle: Path) -> Ridge:
    """Those that the default learner left there."""
    return Ridge.load(bundle / "statistics.safetensors")


def test_erased_rows_are_gone_and_the_head_is_one_that_never_saw_them(
    initialised: E2eWorkspace, tiny_encoder: Path
) -> None:
    parts = open_parts(initialised.config)
    mine = [row for row in parts.ledger.examples("intent") if row.example.key == ME]
    mine_texts = [row.example.text for row in mine]
    others = [r.example for r in parts.ledger.examples("intent", split=Split.TRAIN) if r.example.key != ME]
    writer = TrafficWriter(parts.workspace.traffic("intent"), "test")
    writer.append({**columns([0, 1, 2, 3], dimension=None), "key": [ME, "someone", ME, None]})
    writer.close()
    old = parts.workspace.bundle("intent", 1)
    assert {row_hash(r.example.text) for r in mine if r.split is Split.TRAIN} < set(sums_of(old).known_keys)
    assert {row_hash(r.example.text) for r in mine if r.split is Split.HOLDOUT} < proof_keys(old)

    plan = erased(initialised, "--key", ME, "--dry-run")
    assert (plan["examples"], plan["traffic_rows"], plan["learnt_by"]) == (20, 2, [1])
    assert (plan["in_sums"], plan["tuned"]) == ([1], [])
    assert parts.ledger.route("intent").champion == 1  # type: ignore[union-attr]

    receipt = erased(initialised, "--key", ME)
    assert (receipt["examples"], receipt["traffic_rows"], receipt["buffer_rows"]) == (20, 2, plan["buffer_rows"])
    assert receipt["rows_taken_back"] == len(mine)  # those too that were learnt after they had proved the version
    assert (receipt["corrected"], receipt["removed"], receipt["retraining"]) == (2, [1], None)

    route = parts.ledger.route("intent")
    assert route is not None
    assert (route.champion, route.previous, route.resident) == (2, None, (2,))
    assert not old.exists()
    held = [r.example.text for r in parts.ledger.examples("intent", split=Split.HOLDOUT)]
    assert proof_keys(parts.workspace.bundle("intent", 2)) == {row_hash(text) for text in held}
    kept = sums_of(parts.workspace.bundle("intent", 2))
    never = Ridge(kept.features, kept.lexical)
    never.add(
        ClassRows(
            X=cached(parts, tiny_encoder, [e.text for e in others]),
            labels=[e.label for e in others],
            keys=[row_hash(e.text) for e in others],
            texts=[e.text for e in others],
        )
    )
    assert set(kept.known_keys) == set(never.known_keys)
    assert kept.counts == never.counts
    np.testing.assert_allclose(kept.named.arrays["outer"], never.named.arrays["outer"], rtol=0, atol=1e-9)
    for label in kept.labels:
        np.testing.assert_allclose(kept._sums.of(label)[1], never._sums.of(label)[1], rtol=0, atol=1e-9)

    assert TrafficLog(parts.workspace.traffic("intent")).count() == 2
    assert not [row for row in parts.ledger.examples("intent") if row.example.key == ME]
    state = parts.ledger.load_buffer("intent")
    assert state is not None
    assert ME not in {row.key for row in state.rows}
    with pytest.raises(AssertionError, match="have no embedding"):
        cached(parts, tiny_encoder, mine_texts[:1])
    wanted = [text.encode() for text in mine_texts]
    holders = [
        path.name
        for root in (parts.workspace.state, parts.workspace.repository)
        for path in root.rglob("*")
        if path.is_file() and any(text in path.read_bytes() for text in wanted)
    ]
    assert holders == []
    assert parts.ledger.verify_audit().intact
    parts.close()

    again = erased(initialised, "--key", ME)
    assert (again["examples"], again["corrected"], again["removed"]) == (0, None, [])


def test_a_version_tuned_on_the_rows_is_named_and_leaves_with_those_on_its_encoder(initialised: E2eWorkspace) -> None:
    """The ledger says that a version was tuned on a row of this person, and that a later head stands on its encoder."""
    parts = open_parts(initialised.config)
    row = parts.ledger.examples("intent", split=Split.TRAIN)[0]
    tuned, later = parts.ledger.next_version("intent"), parts.ledger.next_version("intent")
    for number, learner in ((tuned, "finetune"), (later, "kernel_lda")):
        parts.ledger.add_version(
            VersionRow(
                model="intent",
                version=number,
                state=VersionState.PUBLISHED,
                learner=learner,
                card={"encoder_fingerprint": "sha256:tuned"},
            )
        )
        folder = parts.workspace.bundle("intent", number)
        folder.mkdir()
        for name in ("model.json", "manifest.json"):
            (folder / name).write_bytes((parts.workspace.bundle("intent", 2) / name).read_bytes())
        card = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(card | {"encoder": "encoder", "learner": learner}))
    parts.ledger.mark_learnt("intent", [row.id], tuned)
    assert erased(initialised, "--key", str(row.example.key), "--dry-run")["tuned"] == [tuned, later]
    receipt = erased(initialised, "--key", str(row.example.key))
    assert receipt["tuned"] == [tuned, later]
    assert receipt["corrected"] == later + 1
    assert receipt["removed"] == [2, tuned, later]
    assert receipt["retraining"] is None  # the champion's encoder never saw the row
    assert tainted_encoders(parts.ledger, "intent") == frozenset()
    parts.close()


def test_a_champion_on_such_an_encoder_is_retrained_from_the_encoder_of_the_settings(
    initialised: E2eWorkspace,
) -> None:
    parts = open_parts(initialised.config)
    route = parts.ledger.route("intent")
    assert route is not None
    champion = parts.ledger.version("intent", route.champion)
    before = StartingPoint.of(parts.ledger, parts.workspace, "intent", champion)
    assert (before.afresh, before.previous) == (False, parts.workspace.bundle("intent", route.champion))
    taint(parts.ledger, "intent", [str(champion.encoder_fingerprint)])
    receipt = erased(initialised, "--key", "somebody")
    again = erased(initialised, "--key", "somebody")
    assert receipt["retraining"] == again["retraining"] is not None
    command = parts.ledger.command(receipt["retraining"])
    assert (command.kind, command.args) == ("retrain", {"reason": "erasure"})
    after = StartingPoint.of(parts.ledger, parts.workspace, "intent", champion)
    assert (after.afresh, after.previous, after.encoder) == (True, None, before.encoder)
    rows = ModelRows(parts.ledger, parts.workspace, "intent").training_rows(champion)
    stored = parts.ledger.examples("intent", split=Split.TRAIN)
    assert [row.id for row in rows.fresh] == [row.id for row in stored]  # all that is left is learnt again
    parts.ledger.put_state("intent", "tainted_encoders", [])
    parts.close()


def test_an_empty_key_is_refused(initialised: E2eWorkspace) -> None:
    with pytest.raises(ConfigurationError, match="key is ' '"):
        erased(initialised, "--key", " ")


def test_an_erasure_waits_for_a_cycle_under_way(initialised: E2eWorkspace) -> None:
    parts = open_parts(initialised.config)
    cycle = parts.ledger.open_cycle("intent", "test", {}, state="training")
    with pytest.raises(Refused, match=f"cycle {cycle} under way"):
        erased(initialised, "--key", "anybody")
    parts.ledger.close_cycle(cycle, "aborted", "test")
    parts.close()


def test_what_is_left_is_named_and_the_exit_code_is_4(initialised: E2eWorkspace) -> None:
    parts = open_parts(initialised.config)
    row = parts.ledger.examples("intent", split=Split.HOLDOUT)[0].example
    copy = parts.workspace.state / "copy.txt"
    copy.write_text(f"somebody kept {row.text!r}")
    receipt = cli(initialised, "erase", "--key", str(row.key), code=4)
    assert receipt["complete"] is False
    assert [(trace["place"], trace["kinds"]) for trace in receipt["search"]["left"]] == [(str(copy), ["text"])]
    copy.unlink()
    parts.close()


def _erase_over_http(workspace: E2eWorkspace, key: str) -> Any:
    """Ask until no cycle is under way."""
    answers: list[httpx.Response] = []

    def done() -> bool:
        url = f"http://127.0.0.1:{workspace.api}/v1/erasures"
        answers.append(httpx.post(url, json={"key": key}, timeout=300))
        return answers[-1].status_code != 409

    wait_for(done, 240, "the cycle under way to end")
    assert answers[-1].status_code == 200, answers[-1].text
    return answers[-1].json()


def test_a_person_is_erased_over_http_while_triton_answers(initialised: E2eWorkspace) -> None:
    parts = open_parts(initialised.config)
    with initialised.serving(), initialised.client() as client:
        labels = [
            (client.predict([text], keys=["guest" if number % 2 else "other"])[0].prediction_id, label)
            for number, (text, label) in enumerate(requests_about(["card", "loan"], 40, seed=77))
        ]
        initialised.feedback(labels)
        wait_for(
            lambda: sum(row.example.key == "guest" for row in parts.ledger.examples("intent")) == 20, 60, "the join"
        )
        guest = _erase_over_http(initialised, "guest")
        assert (guest["complete"], guest["models"]["intent"]["traffic_rows"]) == (True, 20), guest["search"]
        assert guest["models"]["intent"]["examples"] == 20
        assert initialised.feedback(labels)["erased"] == 20
        learnt = next(r for r in parts.ledger.examples("intent", split=Split.TRAIN) if r.example.origin == Origin.SEED)
        seeded = _erase_over_http(initialised, str(learnt.example.key))
        assert seeded["complete"], seeded["search"]
        corrected = seeded["models"]["intent"]["corrected"]
        assert corrected is not None
        assert client.predict(["my card is lost"], keys=["guest"])[0].version == corrected
        wait_for(lambda: _keys(parts).count("guest") == 1, 30, "a new request of the guest, which is new data")
    parts.close()


def _keys(parts: Parts) -> list[str | None]:
    keys: list[str | None] = TrafficLog(parts.workspace.traffic("intent")).read(columns=["key"])["key"].to_pylist()
    return keys
