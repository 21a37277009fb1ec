"""The training process: its result, its repetition, its interruption."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError, TrainingFailed
from perennial.continual.learning import embedding_cache
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Cancelled, Context
from perennial.continual.learning.embedding_cache import EmbeddingCache, cache_files, texts_held
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.job import main
from perennial.continual.learning.kernel_lda import KernelLda
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.sums import SumsFile
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import read_head
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

Write = Callable[..., Path]


def train(path: Path) -> Path:
    spec = JobSpec.read(path)
    train_fast(spec, Context())
    return spec.out


def test_job_learns_and_goes_on(make_spec: Write) -> None:
    first = train(make_spec("one", examples=make_rows("card loan", 60, 1), holdout=make_rows("card loan", 40, 9)))
    card = read_card(first)
    assert card.labels == ("card", "loan")
    assert card.metrics["holdout_accuracy"] > 0.9
    second = train(
        make_spec(
            "two",
            previous=first,
            examples=make_rows("trip", 60, 2),
            replay=make_rows("card loan", 10, 1),
            holdout=make_rows("card loan trip", 40, 9),
        )
    )
    card = read_card(second)
    assert card.labels == ("card", "loan", "trip")
    assert card.data["rows"] == 180
    assert card.metrics["replay_accuracy"] >= card.metrics["replay_accuracy_before"] - 0.05
    assert card.metrics["holdout_accuracy"] > 0.85


def test_update_equals_learning_everything_at_once(make_spec: Write) -> None:
    settings = {"features": 200, "gamma": 0.5, "shrinkage": 1e-4}
    old, new = make_rows("card loan", 50, 1), make_rows("trip", 50, 2)
    first = train(make_spec("one", examples=old, params=settings))
    updated = train(make_spec("two", previous=first, examples=new, params=settings))
    joint = train(make_spec("joint", examples=[*new, *old], params=settings))
    np.testing.assert_allclose(read_head(updated).weight, read_head(joint).weight, rtol=0, atol=1e-4)


def test_rerun_of_a_job_gives_the_same_files(make_spec: Write) -> None:
    first = train(make_spec("one", examples=make_rows("card loan", 60, 1)))
    path = make_spec("two", previous=first, examples=make_rows("trip", 30, 2), replay=make_rows("card loan", 9, 1))
    out = train(path)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    train(path)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_rows_learnt_before_are_not_added_twice(make_spec: Write) -> None:
    rows = make_rows("card loan", 40, 1)
    first = train(make_spec("one", examples=rows))
    second = train(make_spec("two", previous=first, examples=rows[:50]))
    assert read_card(second).data["rows_added"] == 0
    assert read_card(second).data["rows"] == 80


def test_erased_rows_are_as_if_never_learnt(make_spec: Write) -> None:
    settings = {"features": 200, "gamma": 0.5, "shrinkage": 1e-4}
    rows = make_rows("card loan", 40, 1)
    first = train(make_spec("one", examples=rows, params=settings))
    erased = train(make_spec("two", previous=first, examples=[], erase=rows[:7], params=settings))
    never = train(make_spec("never", examples=rows[7:], params=settings))
    assert read_card(erased).data["rows_removed"] == 7
    kept, expected = (KernelLda.load(folder / "statistics.safetensors") for folder in (erased, never))
    np.testing.assert_allclose(kept.named.arrays["outer"], expected.named.arrays["outer"], rtol=0, atol=1e-9)
    assert kept.known_keys == expected.known_keys


@pytest.mark.parametrize("lost", [False, True])
def test_a_row_that_is_taken_back_by_another_embedding_than_it_came_with_is_told(
    make_spec: Write, caplog: pytest.LogCaptureFixture, lost: bool
) -> None:
    rows, strange = make_rows("card loan", 10, 1), make_rows("trip", 2, 1)
    first = train(make_spec("one", examples=rows, params={"features": 50, "gamma": 0.5, "shrinkage": 1e-4}))
    path = make_spec("two", previous=first, examples=[], erase=[*rows[:7], *strange])
    for kept in JobSpec.read(path).cache_folder.glob("*.embeddings") if lost else ():
        kept.unlink()
    train(path)
    told = [record.__dict__["rows"] for record in caplog.records if "taken_back_by_new" in record.message]
    assert told == ([7] if lost else [])


def test_changed_encoder_rebuilds_old_classes_from_replay(make_spec: Write) -> None:
    first = train(make_spec("one", examples=make_rows("card loan", 40, 1)))
    other = make_spec("two", previous=first, examples=make_rows("trip", 40, 2), replay=make_rows("card loan", 8, 1))
    spec = json.loads(other.read_text())
    other.write_text(json.dumps(spec | {"max_length": 16}))
    card = read_card(train(other))
    assert card.labels == ("card", "loan", "trip")
    assert card.data["rows"] == 56


def test_described_class_is_answered_before_it_has_rows(make_spec: Write) -> None:
    params = {"features": 200, "descriptions": {"trip": "flight hotel visa trip"}}
    out = train(make_spec("one", examples=make_rows("card loan", 40, 1), params=params))
    assert read_card(out).labels == ("card", "loan", "trip")


@pytest.mark.parametrize("learner", ["ridge", "kernel_lda"])
def test_what_is_of_no_class_is_learnt_from_held_out_rows_and_carried_where_there_are_none(
    make_spec: Write, learner: str, tmp_path: Path
) -> None:
    common = {"learner": learner, "params": {"features": 200}}
    first, held = make_rows("card loan", 60, 1), make_rows("card loan", 60, 9)
    own = train(make_spec("one", examples=first, holdout=held, **common))
    texts = [row.text for row in make_rows("trip fees", 60, 3)]
    refused = {}
    for name, asked in (("own", [row.text for row in make_rows("card loan", 60, 4)]), ("others", texts)):
        refused[name] = 1.0 - known_of(own, asked, tmp_path).mean()
    assert refused["own"] <= 0.15
    assert refused["others"] >= 0.3
    second = train(make_spec("two", previous=own, examples=make_rows("trip", 30, 2), **common))
    assert known_of(second, texts[:60], tmp_path).mean() > 0.6, "the new class is known by the old limit"
    assert open_set_of(second).limit == open_set_of(own).limit
    off = train(make_spec("off", examples=first, holdout=held, learner=learner, params={"false_refusals": 0}))
    assert OpenSet.read(off) is None


@pytest.mark.parametrize("learner", ["ridge", "kernel_lda"])
def test_sums_of_an_earlier_release_go_on_by_the_logits_alone(make_spec: Write, learner: str) -> None:
    common = {"learner": learner, "params": {"features": 200}, "holdout": make_rows("card loan", 60, 9)}
    first = train(make_spec("one", examples=make_rows("card loan", 60, 1), **common))
    assert open_set_of(first).near is not None
    path = first / "statistics.safetensors"
    file = SumsFile.read(path)
    kept = {name: array for name, array in file.tensors.items() if not name.startswith("plain_")}
    SumsFile(format=file.format, tensors=kept, about=file.about).write(path)
    (first / "open-set.safetensors").unlink()
    second = train(make_spec("two", previous=first, examples=make_rows("trip", 30, 2), **common))
    assert read_card(second).data["rows"] == 150
    assert open_set_of(second).near is None


def open_set_of(folder: Path) -> OpenSet:
    found = OpenSet.read(folder)
    assert found is not None
    return found


def known_of(folder: Path, texts: list[str], tmp_path: Path) -> np.ndarray:
    """What a trained folder knows of texts."""
    card = read_card(folder)
    spec = JobSpec(learner=LearnerName.RIDGE, examples=None, out=folder, encoder=card.encoder, cache=tmp_path / "cache")
    X = Texts(spec, Context())(texts)
    return open_set_of(folder).known(replace(read_head(folder), link=None).logits(X, texts), X)


def test_held_out_rows_that_were_learnt_do_not_count(make_spec: Write) -> None:
    rows = make_rows("card loan", 40, 1)
    out = train(make_spec("one", examples=rows, holdout=[*rows[:30], *make_rows("card", 1, 8)]))
    assert read_card(out).metrics["holdout_rows"] == 1


def test_job_without_rows_fails_with_its_reason(make_spec: Write) -> None:
    with pytest.raises(TrainingFailed, match="no rows to learn from"):
        train(make_spec("one", examples=[]))


def test_cancelled_job_keeps_what_it_embedded(make_spec: Write, tmp_path: Path) -> None:
    spec = JobSpec.read(make_spec("one", examples=make_rows("card loan trip", 200, 1)))
    with pytest.raises(Cancelled):
        train_fast(spec, Context(cancelled=True))
    assert not (spec.out / "model.json").exists()
    files = list((tmp_path / "cache").glob("*.embeddings"))
    assert len(files) == 1
    assert files[0].stat().st_size == 256 * (16 + 32 * 4)
    batches: list[int] = []

    def embedder(texts: object) -> np.ndarray:
        batches.append(len(texts))  # type: ignore[arg-type]
        return np.eye(32, dtype=np.float32)[np.arange(len(texts)) % 32]  # type: ignore[arg-type]

    train_fast(spec, Context(), embedder)
    assert sum(batches) == 600 - 256


def test_process_stopped_by_sigterm_exits_143_and_finishes_when_run_again(make_spec: Write) -> None:
    path = make_spec("one", examples=make_rows("card loan trip fees", 150, 1))
    command = [sys.executable, "-m", "perennial.continual.learning.job", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        assert process.wait(timeout=120) == 143
    assert first == {"stage": "embed", "done": 256, "total": 600}
    assert not (path.parent / "one-out" / "model.json").exists()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["total"] < 600
    assert lines[-1]["stage"] == "done"
    assert read_card(path.parent / "one-out").data["rows"] == 600


def test_main_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none.json")]) == 2
    assert json.loads(capsys.readouterr().out)["stage"] == "failed"


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        ("[]", DataError, "one JSON object"),
        ("{", DataError, "not JSON"),
        ('{"learner": "kernel_lda"}', ConfigurationError, "missing keys"),
        ('{"learner": "x", "examples": null, "out": "o"}', ConfigurationError, "must be one of"),
        ('{"learner": "kernel_lda", "examples": null, "out": "o", "colour": 1}', ConfigurationError, "colour"),
        ('{"learner": "kernel_lda", "examples": null, "out": "o", "nice": 99}', ConfigurationError, "nice 99"),
    ],
)
def test_wrong_spec_is_refused(tmp_path: Path, content: str, error: type[Exception], words: str) -> None:
    path = tmp_path / "spec.json"
    path.write_text(content)
    with pytest.raises(error, match=words):
        JobSpec.read(path)


def test_wrong_row_is_named(make_spec: Write, tmp_path: Path) -> None:
    path = make_spec("one", examples=make_rows("card", 2, 1))
    with (tmp_path / "one-examples.jsonl").open("a") as stream:
        stream.write('{"text": "x", "at": "2026-01-01T00:00:00+00:00"}\n')
    with pytest.raises(DataError, match="row 3 has no 'label'"):
        train(path)


def test_rows_may_come_as_parquet(make_spec: Write, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = make_rows("card loan", 20, 1)
    table = pa.table({"text": [r.text for r in rows], "label": [r.label for r in rows], "at": [r.at for r in rows]})
    pq.write_table(table, tmp_path / "rows.parquet")
    path = make_spec("one")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"examples": "rows.parquet"}))
    assert read_card(train(path)).data["rows"] == 40


def test_torn_cache_record_is_cut_off(tmp_path: Path) -> None:
    def ones(texts: object) -> np.ndarray:
        return np.ones((len(texts), 2), np.float32)  # type: ignore[arg-type]

    cache = EmbeddingCache(tmp_path, encoder="e", max_length=8, dimension=2)
    cache.embed(["a", "b"], ones)
    with cache.path.open("ab") as stream:
        stream.write(b"torn")
    cache.embed(["c"], ones)
    again = EmbeddingCache(tmp_path, encoder="e", max_length=8, dimension=2)
    assert [again.holds(text) for text in "abc"] == [True] * 3, "it was torn while another writer had it open"
    with again.path.open("ab") as stream:
        stream.write(b"torn")
    again = EmbeddingCache(tmp_path, encoder="e", max_length=8, dimension=2)
    assert len(again) == 3
    again.embed(["d"], ones)
    assert len(EmbeddingCache(tmp_path, encoder="e", max_length=8, dimension=2)) == 4
    assert again.erase(["a", "never"]) == 1
    assert len(EmbeddingCache(tmp_path, encoder="e", max_length=8, dimension=2)) == 3
    assert len(EmbeddingCache(tmp_path, encoder="other", max_length=8, dimension=2)) == 0


@pytest.mark.parametrize("dimension", [1, 2, 384])
def test_what_a_cache_holds_is_found_without_knowing_its_encoder(tmp_path: Path, dimension: int) -> None:
    texts = [f"text {number}" for number in range(50)]
    cache = EmbeddingCache(tmp_path / "deep", encoder="e", max_length=8, dimension=dimension)
    cache.embed(texts, lambda some: np.full((len(some), dimension), 0.5, np.float32))
    (tmp_path / "other.bin").write_bytes(cache.path.read_bytes())
    assert cache_files(tmp_path) == (cache.path,)
    assert texts_held(cache.path, ["never", texts[0], texts[-1]]) == {texts[0], texts[-1]}
    assert texts_held(cache.path, ["never"]) == texts_held(cache.path, []) == set()


def test_what_a_cache_holds_is_found_where_two_pieces_of_reading_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_cache, "_PIECE_BYTES", 10)
    cache = EmbeddingCache(tmp_path, encoder="e", max_length=8, dimension=2)
    cache.embed(["a", "b", "c"], lambda some: np.ones((len(some), 2), np.float32))
    assert texts_held(cache.path, ["a", "c", "d"]) == {"a", "c"}
