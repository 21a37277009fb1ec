"""A person is erased from every model of a workspace, and a search names whatever is left, on both databases."""

import gzip
import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update

from perennial.continual.errors import LeaseLost
from perennial.continual.preparation import row_hash
from perennial.continual.records import Example, Origin, Split
from perennial.ops.api.origin import REQUEST_HEADER
from perennial.ops.commands.erasing.erasure import erase
from perennial.ops.commands.erasing.person import erase_person
from perennial.ops.commands.erasing.search import SearchReport, Sought, search
from perennial.ops.ledger import DriftReportRow, FeedbackRow, schema
from perennial.ops.parts import Parts
from perennial.ops.serving.router.answer_log import AnswerLog
from perennial.ops.traffic import TrafficLog, TrafficWriter
from tests.component.api_server import TOKENS, RunningApi, answering
from tests.component.databases import BACKENDS, fresh_url
from tests.component.traffic_rows import columns

pytestmark = pytest.mark.component

ME = "kundin-77@bücher"
TEXT = 'my "Müller" card is gone'
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_FRESH = itertools.count(1_000, 10)  # an erased prediction never comes back, so each person has predictions of its own


@pytest.fixture(scope="module", params=BACKENDS)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    folder = tmp_path_factory.mktemp("erasing")
    with answering(folder, tokens=True, ledger_url=fresh_url(request.param, folder)) as running:
        running.parts.ledger.register_model("dropped", {})  # a model that the settings name no more
        yield running


def ask(api: RunningApi, role: str = "operator", **body: Any) -> Any:
    headers = {REQUEST_HEADER: "1", "authorization": f"Bearer {TOKENS[role]}"}
    return api.ask("POST", "/v1/erasures", json=body, headers=headers)


def fill(parts: Parts, model: str, *, key: str = ME, text: str = TEXT, first: int = 0) -> str:
    """A logged request with a label, an example and one that nobody labelled; returns the first one's id."""
    given = columns([0, 1, 2], first=first, key=key, dimension=3) | {
        "text": [text, f"{text} again", "a text of somebody else"]
    }
    given["key"] = [key, key, "somebody"]
    with_ids = TrafficWriter(parts.workspace.traffic(model), "router")
    with_ids.append(given)
    with_ids.close()
    mine, _, theirs = given["prediction_id"]
    rows = [FeedbackRow(prediction_id=name, label="fee", at=NOW) for name in (mine, theirs)]
    parts.ledger.add_feedback(model, rows)
    facts = {"label": "fee", "at": NOW, "origin": Origin.FEEDBACK}
    examples = [
        Example(text=text, key=key, prediction_id=mine, **facts),
        Example(text="a text of somebody else", key="somebody", prediction_id=theirs, **facts),
    ]
    parts.ledger.add_examples(model, examples, lambda _: Split.TRAIN)
    return str(mine)


def test_one_request_erases_a_person_from_every_model_and_repeating_it_is_harmless(api: RunningApi) -> None:
    parts = api.parts
    ids = {model: fill(parts, model) for model in ("intent", "dropped")}
    parts.ledger.put_state("intent", "label_queue", [{"id": ids["intent"], "p": 1.0}, {"id": "other", "p": 1.0}])
    parts.ledger.put_state("intent", "watch", {"version": 2, "cursor": NOW.isoformat(), "cursor_id": ids["intent"]})
    parts.ledger.add_drift_report(
        DriftReportRow(
            model="intent", version=2, at=NOW, rows=3, state="ok", payload={"after_id": ids["intent"], "p": [1]}
        )
    )
    assert ask(api, "labeller", key=ME).status_code == 403
    assert ask(api, key=" ").status_code == 422
    assert ask(api, key=ME, model="nonesuch").status_code == 404
    plan = ask(api, key=f" {ME} ", dry_run=True).json()
    assert {name: (counts["traffic_rows"], counts["examples"]) for name, counts in plan["models"].items()} == {
        "intent": (2, 1),
        "dropped": (2, 1),
    }
    cycle = parts.ledger.open_cycle("intent", "test", {})
    assert ask(api, key=ME).status_code == 409
    assert len(parts.ledger.examples("intent")) == 2, "nothing was touched"
    parts.ledger.save_cycle(cycle, "probation", {})  # it may last a week

    receipt = ask(api, key=ME).json()
    parts.ledger.close_cycle(cycle, "promoted")
    assert {
        name: (done["traffic_rows"], done["feedback"], done["examples"]) for name, done in receipt["models"].items()
    } == {
        "intent": (2, 1, 1),
        "dropped": (2, 1, 1),
    }
    assert (receipt["complete"], receipt["search"]["left"], receipt["search"]["texts"]) == (True, [], 2)
    assert any("backups" in place for place in receipt["search"]["not_reached"])
    for model in ("intent", "dropped"):
        assert TrafficLog(parts.workspace.traffic(model)).read(columns=["key"])["key"].to_pylist() == ["somebody"]
        assert [row.example.key for row in parts.ledger.examples(model)] == ["somebody"]
    assert parts.ledger.get_state("intent", "label_queue") == [{"id": "other", "p": 1.0}]
    assert parts.ledger.get_state("intent", "watch")["cursor_id"] == ids["intent"][:12]
    assert parts.ledger.drift_reports("intent")[0].payload == {"after_id": ids["intent"][:12], "p": [1]}
    again = ask(api, key=ME).json()
    assert (again["complete"], again["models"]["intent"]["examples"]) == (True, 0)
    late = [FeedbackRow(prediction_id=ids["intent"], label="fee", at=datetime.now(UTC))]
    assert parts.ledger.add_feedback("intent", late).erased == 1
    newcomer = Example(text="old row", label="fee", at=NOW, key=ME)
    parts.ledger.register_model("newcomer", {})
    assert parts.ledger.add_examples("newcomer", [newcomer], lambda _: Split.TRAIN).erased == 1


def _sums(bundle: Path, *texts: str) -> None:
    from safetensors.numpy import save_file

    bundle.mkdir(parents=True)
    keys = np.array([row_hash(text) for text in texts], dtype=np.uint64)
    save_file({"known_keys": keys}, str(bundle / "statistics.safetensors"))


def test_embeddings_leave_the_caches_of_every_encoder_also_of_one_that_was_never_published(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perennial.continual.learning.embedding_cache import EmbeddingCache, texts_held
    from perennial.continual.learning.encoder import fingerprint, hidden_size, resolve_encoder
    from perennial.exporters.text_classification.known_embeddings import KnownEmbeddings

    parts, key, text = api.parts, "me in caches", "ＡＰＰ: what caches keep of me by its hash"
    as_read = "APP: what caches keep of me by its hash"
    theirs = "what caches keep of somebody else"
    fill(parts, "intent", key=key, text=text, first=next(_FRESH))
    learning = parts.workspace.model("intent").learning
    assert learning.encoder == "auto"
    base = resolve_encoder("packaged:minilm")
    which: dict[str, Any] = {
        "encoder": fingerprint(base),
        "max_length": learning.max_length,
        "dimension": hidden_size(base),
    }
    known = EmbeddingCache(parts.workspace.embeddings, **which)
    exact = KnownEmbeddings(parts.workspace.embeddings / "exact", **which)._cache
    never = EmbeddingCache(parts.workspace.embeddings, encoder="sha256:tuned and killed", max_length=8, dimension=3)
    elsewhere = EmbeddingCache(parts.workspace.state / "kept", encoder="sha256:another", max_length=8, dimension=5)
    untouched = EmbeddingCache(parts.workspace.embeddings, encoder="sha256:of others", max_length=8, dimension=3)
    for cache in (known, exact, never, elsewhere):
        cache.remember([theirs, text, as_read], np.ones((3, cache.dimension), np.float32))
    untouched.remember([theirs], np.ones((1, 3), np.float32))
    half_rewritten = never.path.with_name(f".{never.path.name}.123.tmp")
    half_rewritten.write_bytes(never.path.read_bytes())
    left = search(parts, Sought(keys=frozenset({key}), texts=frozenset({text}))).left
    caches = {known.path, exact.path, never.path, elsewhere.path, half_rewritten}
    assert {str(path) for path in caches} <= {trace.place for trace in left}

    asked: list[str] = []

    def seen(parts: Parts, model: str, *given: Any, **named: Any) -> Any:
        """Sums take back what they were given: no model is corrected after its embeddings went with another's."""
        asked.append(model)
        assert texts_held(known.path, [text, as_read]) == {text, as_read}
        return erase(parts, model, *given, **named)

    monkeypatch.setattr("perennial.ops.commands.erasing.person.erase", seen)
    receipt = ask(api, key=key).json()

    assert {"intent", "dropped"} <= set(asked)
    assert (receipt["complete"], receipt["search"]["left"]) == (True, [])
    held = {path: texts_held(path, [text, as_read, theirs]) for path in (*caches, untouched.path) if path.exists()}
    assert held == {known.path: {theirs}, exact.path: {theirs}, untouched.path: {theirs}}


@pytest.mark.parametrize("readable", [True, False], ids=["sums", "damaged sums"])
def test_sums_of_a_removed_model_are_told_as_left_until_they_are_gone(api: RunningApi, readable: bool) -> None:
    """Nobody can correct them; a model that is named again would answer by them."""
    parts, text, key = api.parts, f"what a removed model learnt of me, {readable}", f"me at a removed model {readable}"
    fill(parts, "dropped", key=key, text=text, first=next(_FRESH))
    engine = parts.workspace.engine_model("dropped")
    holds, other = (parts.repository.root / engine / str(version) for version in (31, 32))
    _sums(holds, "somebody else's", text)
    _sums(other, "somebody else's")
    if not readable:
        (holds / "statistics.safetensors").write_bytes(b"torn")
    (parts.repository.staging / f"{engine}-33").mkdir()
    (parts.repository.staging / f"{engine}s-33").mkdir()
    work = parts.workspace.run("dropped", 33)
    work.mkdir(parents=True)
    receipt = ask(api, key=key).json()
    left = [trace["place"] for trace in receipt["search"]["left"]]
    assert (receipt["complete"], receipt["models"]["dropped"]["held"]) == (False, [31])
    assert any(place.endswith(f"{engine}/31") for place in left)
    assert not any(place.endswith(f"{engine}/32") for place in left)
    assert [path.name for path in parts.repository.staging.iterdir()] == [f"{engine}s-33"], "staged for others"
    assert not work.exists()
    assert ask(api, key=key).json()["models"]["dropped"]["held"] == [31], "it is known until it is done"
    for folder in (holds, other, parts.repository.staging / f"{engine}s-33"):
        shutil.rmtree(folder)
    done = ask(api, key=key).json()
    assert (done["complete"], done["models"]["dropped"]["held"]) == (True, [])
    assert not list((parts.workspace.state / "erasure" / "dropped").iterdir())


@pytest.mark.parametrize("kept", ["  old caller 5%", "old caller 5%\t", "\u3000old caller 5%\n"], ids=ascii)
def test_a_key_that_was_kept_with_outer_spaces_is_found_by_the_trimmed_one(api: RunningApi, kept: str) -> None:
    parts = api.parts
    text = f"a text under {kept!r} of an older release"
    fill(parts, "intent", key=kept, text=text, first=next(_FRESH))
    fill(parts, "intent", key="old caller 5%, another one", text="somebody else wrote this", first=next(_FRESH))
    plan = ask(api, key="old caller 5%", dry_run=True).json()["models"]["intent"]
    assert (plan["traffic_rows"], plan["examples"]) == (2, 1)
    receipt = ask(api, key="old caller 5%").json()
    done = receipt["models"]["intent"]
    assert (done["traffic_rows"], done["feedback"], done["examples"]) == (2, 1, 1)
    assert receipt["complete"], receipt["search"]["left"]
    assert kept not in TrafficLog(parts.workspace.traffic("intent")).distinct_keys()
    assert {row.example.key for row in parts.ledger.examples("intent")} >= {"old caller 5%, another one"}


def _parquet(path: Path, texts: list[str], *, damaged: bool) -> None:
    pq.write_table(pa.table({"text": texts, "key": ["somebody"] * len(texts)}), path, compression="zstd")
    if damaged:
        path.write_bytes(path.read_bytes()[:-9])


def _stream(path: Path, texts: list[str], *, damaged: bool) -> None:
    writer = TrafficWriter(path.parent / "made", "router")
    writer.append(columns(range(len(texts)), key="somebody", dimension=3) | {"text": texts})
    writer.close()
    [made] = (path.parent / "made").glob("*/*.arrows")
    content = made.read_bytes()
    shutil.rmtree(path.parent / "made")
    path.write_bytes(content + b"no message at all" if damaged else content)


def _folder(path: Path, texts: list[str], *, damaged: bool) -> None:
    path.mkdir()
    _parquet(path / "inside.parquet", texts, damaged=damaged)


def _words(path: Path, texts: list[str], *, damaged: bool) -> None:
    path.write_bytes(json.dumps(texts).encode() + b"\0\xff" * damaged)


@pytest.mark.parametrize(
    ("write", "suffix"), [(_parquet, ".parquet"), (_stream, ".arrows"), (_folder, ".old"), (_words, ".json")]
)
def test_damaged_files_that_hold_a_persons_rows_or_cannot_tell_are_deleted(
    api: RunningApi, write: Callable[..., None], suffix: str
) -> None:
    text = f"a text of mine in a damaged {suffix} file"
    log = TrafficLog(api.parts.workspace.traffic("intent"))
    fill(api.parts, "intent", key=f"damaged {suffix}", text=text, first=next(_FRESH))
    aside = api.parts.workspace.traffic("intent") / "quarantine"
    aside.mkdir(exist_ok=True)
    for name, texts, damaged in (
        ("mine", ["nothing to see", text], False),
        ("torn", ["whose is this"], True),
        ("whole", ["of somebody else alone"], False),
    ):
        write(aside / f"{name}{suffix}", texts, damaged=damaged)
        (aside / f"{name}{suffix}.why.json").write_text("{}")
    plan = ask(api, key=f"damaged {suffix}", dry_run=True).json()["models"]["intent"]
    gone = {f"mine{suffix}", f"torn{suffix}"}
    assert gone <= set(plan["damaged_files"])
    assert {found.name for found in log.quarantined()} == gone | {f"whole{suffix}"}, "a dry run changed something"
    receipt = ask(api, key=f"damaged {suffix}").json()
    assert receipt["complete"], receipt["search"]["left"]
    left = {path.name for path in aside.iterdir()}
    assert not left & {*gone, *(f"{name}.why.json" for name in gone)}
    assert gone <= set(receipt["models"]["intent"]["damaged_files"])
    finished = [e.detail for e in api.parts.ledger.audit_entries("intent") if e.action == "erase.finished"]
    assert gone <= set(finished[-1]["damaged_files"])
    assert f"whole{suffix}" in left, "it holds nothing of this person"
    shutil.rmtree(aside)


def test_a_damaged_file_that_cannot_be_deleted_is_named_as_left(api: RunningApi) -> None:
    aside = api.parts.workspace.traffic("intent") / "quarantine"
    aside.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", aside], check=True)
    try:
        _parquet(aside / "torn.parquet", ["whose is this"], damaged=True)
        subprocess.run(["mount", "-o", "remount,ro", aside], check=True)
        receipt = ask(api, key="nobody in particular").json()
        assert not receipt["complete"]
        assert receipt["search"]["left"] == [{"place": str(aside / "torn.parquet"), "kinds": ["unreadable rows"]}]
        assert receipt["models"]["intent"]["damaged_files"] == []
    finally:
        subprocess.run(["umount", "--lazy", aside], check=True)
    assert ask(api, key="nobody in particular").json()["complete"]


def zstd(path: Path, content: bytes) -> None:
    with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as out:
        out.write(content)


PLANTED: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "plain.log": (lambda path, text: path.write_text(f"seen: {text}!"), "text"),
    "far.bin": (lambda path, text: path.write_bytes(b"\0" * (4 * 2**20 - 5) + text.encode() + b"\1" * 99), "text"),
    "sixteen.txt": (lambda path, text: path.write_text(text, encoding="utf-16"), "text"),
    "escaped.json": (lambda path, text: path.write_text(json.dumps({"t": text})), "text"),
    "page.html": (lambda path, text: path.write_text("<p>my &quot;Müller&quot; card is gone</p>"), "text"),
    "old.gz": (lambda path, text: path.write_bytes(gzip.compress(text.encode())), "text"),
    "old.zst": (lambda path, text: zstd(path, text.encode()), "text"),
    "words.npz": (lambda path, text: np.savez_compressed(path, a=np.array([text, "x"])), "text"),
    "bytes.npz": (lambda path, text: np.savez_compressed(path, a=np.frombuffer(text.encode(), np.uint8)), "text"),
    "copy.parquet": (lambda path, text: pq.write_table(pa.table({"any": [text]}), path, compression="zstd"), "text"),
    "keys.csv": (lambda path, _: path.write_text(f"id,key\n7,{ME},x\n"), "key"),
}


def left(report: SearchReport, parts: Parts) -> dict[str, tuple[str, ...]]:
    return {Path(trace.place).name: trace.kinds for trace in report.left}


def test_a_search_finds_a_text_in_every_form_and_says_where_it_could_not_look(api: RunningApi) -> None:
    parts = api.parts
    sought = Sought(keys=frozenset({ME}), texts=frozenset({TEXT, "yes"}), prediction_ids=frozenset({"0" * 31 + "7"}))
    clean = search(parts, sought)
    assert (clean.left, clean.texts, clean.common_texts) == ((), 1, 1)
    folder = parts.workspace.state / "planted"
    folder.mkdir()
    for name, (plant, _) in PLANTED.items():
        plant(folder / name, TEXT)
    (parts.workspace.repository / "id.json").parent.mkdir(exist_ok=True)
    (parts.workspace.repository / "id.json").write_text(json.dumps({"after": "0" * 31 + "7"}))
    (folder / "another.csv").write_text(f"x{ME}y {TEXT[:-1]}")  # a longer word, and a shorter text
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    (folder / "link").symlink_to(folder / "plain.log")
    parts.ledger.put_state("intent", "odd", {"deep": [{"text": TEXT}]})
    found = search(parts, sought)
    kinds = {name: (kind,) for name, (_, kind) in PLANTED.items()} | {"id.json": ("prediction id",)}
    seen = left(found, parts)
    assert seen.pop("ledger model_state.value") == ("text",)
    seen = {name: what for name, what in seen.items() if not name.startswith("ledger.db")}  # SQLite's own file
    assert seen == kinds
    assert {line.partition(":")[0].rpartition("/")[2] for line in found.not_searched} == {"broken.parquet", "link"}
    report = json.dumps([trace.place for trace in found.left])
    assert TEXT not in report
    assert ME not in report
    parts.ledger.put_state("intent", "odd", {})
    for path in (*folder.iterdir(), parts.workspace.repository / "id.json"):
        path.unlink()
    folder.rmdir()


def test_what_somebody_else_sent_too_is_not_sought(api: RunningApi) -> None:
    parts = api.parts
    shared = "where is my new card please"
    longer = Example(text=f"hello, {shared}, thanks", label="fee", at=NOW, key="somebody", origin=Origin.FEEDBACK)
    parts.ledger.add_examples("intent", [longer], lambda _: Split.TRAIN)
    fill(parts, "intent", key="person-8", text=shared, first=100)
    done = erase_person(parts, "person-8", actor="test")
    assert (done.complete, done.search.common_texts) == (True, 1)
    assert done.models["intent"].traffic_rows == 2


def test_a_killed_erasure_is_finished_with_what_it_had_found(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = api.parts
    fill(parts, "intent", key="person-9", text="a sentence that only person nine wrote", first=200)
    copy = parts.workspace.state / "copy.txt"
    copy.write_text("a sentence that only person nine wrote")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("perennial.ops.commands.erasing.person.search", killed)
        with pytest.raises(KeyboardInterrupt):
            erase_person(parts, "person-9", actor="test")
    assert parts.ledger.erasure_under_way("intent") is None
    receipt = erase_person(parts, "person-9", actor="test")
    assert [Path(trace.place).name for trace in receipt.search.left] == ["copy.txt"], "the text is known from the note"
    copy.unlink()
    assert not list((parts.workspace.state / "erasure").rglob("*.json")), "the note is gone"


def test_an_erasure_while_rows_are_written_compacted_and_joined_leaves_nothing(api: RunningApi) -> None:
    parts, over, errors = api.parts, threading.Event(), []
    log = TrafficLog(parts.workspace.traffic("intent"))
    before = datetime.now(UTC) - timedelta(minutes=1)

    def rows(number: int) -> dict[str, Any]:
        given = columns([0, 0], first=number, dimension=3) | {"key": ["person-10", "somebody"], "at": [before] * 2}
        name = f"{int(before.timestamp() * 1000):012x}"
        return given | {"prediction_id": [f"{name}{number:020x}", f"{name}{number + 1:020x}"]}

    def write() -> None:
        writer = TrafficWriter(parts.workspace.traffic("intent"), "busy", rotate_rows=8)
        for number in range(10_000, 1_000_000, 2):
            if over.wait(0.02):  # a pace at which reading keeps up
                break
            writer.append(rows(number))
        writer.close()

    def compact() -> None:
        while not over.wait(0.02):
            log.compact()

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (write, compact)]
    for thread in threads:
        thread.start()
    while log.count() < 60:
        over.wait(0.05)
    done = erase_person(parts, "person-10", actor="test", model="intent")
    after = log.read(columns=["key"])["key"].to_pylist()
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert done.models["intent"].traffic_rows > 0
    assert "person-10" not in after
    assert "person-10" not in log.read(columns=["key"])["key"].to_pylist(), "nor what was written afterwards"


class Stuck(TrafficWriter):
    """A writer on a disk that is full for a while."""

    full = True

    def append(self, columns: Any) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().append(columns)


def test_rows_that_a_router_holds_in_memory_for_a_full_disk_do_not_come_back(api: RunningApi) -> None:
    parts, root = api.parts, api.parts.workspace.traffic("held")
    parts.ledger.register_model("held", {})
    writer = Stuck(root, "router")
    answers = AnswerLog(writer, wait_s=0.01)
    answers.write(columns([0, 1], first=300, dimension=3) | {"key": ["person-11", "somebody"]})
    assert answers.figures.rows_waiting == 2
    done = erase_person(parts, "person-11", actor="test")
    assert done.models["held"].traffic_rows == 0, "it is nowhere yet"
    writer.full = False
    answers.close()
    assert answers.figures.rows_lost == 0
    assert TrafficLog(root).read(columns=["key"])["key"].to_pylist() == ["somebody"]


def test_an_erasure_taken_for_dead_leaves_the_folder_of_a_running_training_alone(api: RunningApi) -> None:
    parts = api.parts
    fill(parts, "intent", key="person-12", text="what person twelve asked of us", first=400)
    at_work = parts.workspace.run("intent", 3) / "examples.jsonl"
    at_work.parent.mkdir(parents=True)
    at_work.write_text("rows of a training")
    opened: list[int] = []

    def slow(progress: dict[str, Any]) -> None:
        if progress["stage"] == "deleting rows" and not opened:
            with parts.ledger.engine.begin() as connection:  # as if it had given no sign for an hour
                connection.execute(update(schema.erasure).values(seen_at=datetime.now(UTC) - timedelta(hours=1)))
            opened.append(parts.ledger.open_cycle("intent", "test", {}))

    with pytest.raises(LeaseLost, match="taken for dead"):
        erase(parts, "intent", "person-12", actor="test", on_progress=slow)
    assert at_work.is_file()
    assert not [row for row in parts.ledger.examples("intent") if row.example.key == "person-12"]
    parts.ledger.close_cycle(opened[0], "aborted")
    assert erase_person(parts, "person-12", actor="test").complete
    assert not at_work.exists()
