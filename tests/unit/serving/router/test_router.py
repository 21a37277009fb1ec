import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import ConfigurationError, DataError, DependencyUnreachable, NotFound
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.records import Arm, Route
from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.text_classification.tokens import token_inputs
from perennial.ops.serving.router.answers import Wanted, columns
from perennial.ops.serving.router.questions import Question, prediction_id, read_questions
from perennial.ops.serving.router.route import pick_arm
from perennial.ops.serving.router.router import (
    Answered,
    Batch,
    Placed,
    Router,
    RouterSettings,
    _in_parts,
    _in_time,
    _written,
)
from perennial.ops.serving.tasks.text_classification import SIDE
from tests.unit.serving.router.test_questions import request


class _Sink:
    """A log in memory that refuses while `full`."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.full = False
        self.refused = "\0"

    def append(self, columns: Mapping[str, Any]) -> None:
        if self.refused in columns["text"]:
            raise DataError(f"{self.refused!r} does not fit")
        if self.full:
            raise OSError(28, "No space left on device")
        names = [name for name in columns if name != "embedding"]
        self.rows += [dict(zip(names, row, strict=True)) for row in zip(*(columns[n] for n in names), strict=True)]


class _Engines:
    """Two small engines: version 1 knows two labels, version 2 three. Each answers by the first token."""

    def __init__(self) -> None:
        self.broken: set[int] = set()
        self.hanging: set[int] = set()
        self.go_on = threading.Event()
        self.slow: dict[int, float] = {}
        self.failing_late: dict[int, float] = {}
        self.spoilt: dict[int, float] = {}
        self.calls: list[tuple[int, tuple[int, ...]]] = []

    def __call__(self, version: int, inputs: Inputs) -> Outputs:
        ids = inputs["input_ids"]
        self.calls.append((version, ids.shape))
        if version in self.broken:
            raise DependencyUnreachable(f"engine version {version} is away")
        time.sleep(self.slow.get(version, 0.0) + self.failing_late.get(version, 0.0))
        if version in self.failing_late:
            raise DependencyUnreachable(f"engine version {version} is away")
        if version in self.hanging:
            assert self.go_on.wait(120)
        classes = version + 1
        logits = np.zeros((len(ids), classes), dtype=np.float32)
        logits[np.arange(len(ids)), ids[:, 0] % classes] = 3.0
        if version in self.spoilt:
            logits[-1, 0] = self.spoilt[version]
        return {"logits": logits, "embedding": np.ones((len(ids), 4), dtype=np.float32) / 2}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for version, labels in ((1, ["no", "yes"]), (2, ["no", "yes", "maybe"])):
        folder = tmp_path / "repository" / "intent_engine" / str(version)
        folder.mkdir(parents=True)
        tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "yes": 1, "no": 2}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.enable_truncation(8)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "labels.json").write_text(json.dumps(labels))
    _route(tmp_path)
    return tmp_path


def _route(place: Path, **changes: Any) -> None:
    content = {"model": "intent", "epoch": 1, "champion": 1, "previous": None, "challenger": None, "share": 0.0}
    write_atomically(place / "route.json", json.dumps({**content, "resident": [1, 2], **changes}))


def _settings(place: Path) -> RouterSettings:
    return RouterSettings(
        model="intent",
        engine_model="intent_engine",
        route_path=place / "route.json",
        repository=place / "repository",
        traffic_dir=place / "traffic",
        max_characters=100,
    )


def _router(place: Path) -> tuple[Router, _Sink, _Engines]:
    sink, engines = _Sink(), _Engines()
    return Router(_settings(place), SIDE, sink, engines), sink, engines


def _eventually(what: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, f"not so within {within_s} s"
        time.sleep(0.01)


def _answer(router: Router, questions: list[Question]) -> list[Answered]:
    return router.answer(router.place(questions))


def test_answers_name_version_and_are_logged_first(place):
    router, sink, _ = _router(place)
    answers = _answer(router, [Question("yes yes", "me"), Question("something")])
    assert [(a.answer.kept, a.version, a.arm) for a in answers] == [("yes", 1, Arm.CHAMPION), ("no", 1, Arm.CHAMPION)]
    assert [row["prediction_id"] for row in sink.rows] == [a.prediction_id for a in answers]
    assert [row["key"] for row in sink.rows] == ["me", None]
    assert sink.rows[0]["confidence"] == pytest.approx(1 / (1 + np.exp(-3.0)), abs=1e-5)
    assert sink.rows[0]["tokens"] == 2


def test_stored_text_is_deidentified(place):
    router, sink, _ = _router(place)
    _answer(router, [Question("yes write to jo.doe@example.org")])
    _answer(router, [Question("[EXTERNAL] yes")])
    assert [(row["text"], row["redacted"]) for row in sink.rows] == [
        ("yes write to [email]", True),
        ("[EXTERNAL] yes", False),
    ]


def test_a_probe_is_answered_and_not_logged(place):
    router, sink, _ = _router(place)
    answers = _answer(router, [Question("yes", logged=False), Question("no")])
    assert len(answers) == 2
    assert [row["prediction_id"] for row in sink.rows] == [answers[1].prediction_id]


def test_empty_and_long_texts_get_answers(place):
    router, _, engines = _router(place)
    assert [a.version for a in _answer(router, [Question(""), Question("yes " * 25_000)])] == [1, 1]
    assert engines.calls == [(1, (2, 8))]


def test_rows_are_grouped_by_version_and_come_back_in_order(place):
    _route(place, challenger=2, share=0.5)
    router, _, engines = _router(place)
    keys = [f"k{number}" for number in range(40)]
    answers = _answer(router, [Question("yes", key) for key in keys])
    route = router._current()
    expected = [2 if pick_arm(route, key) is Arm.CHALLENGER else 1 for key in keys]
    assert [a.version for a in answers] == expected
    assert sorted(version for version, _ in engines.calls) == [1, 2]


def test_a_failing_challenger_leaves_its_rows_to_the_champion(place):
    _route(place, challenger=2, share=1.0)
    router, sink, engines = _router(place)
    engines.broken = {2}
    answers = _answer(router, [Question("yes"), Question("no")])
    assert [(a.version, a.arm) for a in answers] == [(1, Arm.FALLBACK)] * 2
    assert [row["arm"] for row in sink.rows] == ["fallback"] * 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_given_to_nobody(place, value):
    router, sink, engines = _router(place)
    engines.spoilt = {1: value}
    with pytest.raises(DependencyUnreachable, match="not finite"):
        _answer(router, [Question("yes"), Question("no")])
    assert sink.rows == []

    _route(place, challenger=2, share=1.0, epoch=2)
    engines.spoilt = {2: value}
    answers = _answer(router, [Question("yes"), Question("no")])
    assert [(answer.version, answer.arm) for answer in answers] == [(1, Arm.FALLBACK)] * 2
    assert np.isfinite([answer.answer.confidence for answer in answers]).all()


def test_a_failing_champion_is_an_error_and_logs_nothing(place):
    router, sink, engines = _router(place)
    engines.broken = {1}
    with pytest.raises(DependencyUnreachable, match="version 1"):
        _answer(router, [Question("yes")])
    assert sink.rows == []


def test_a_flipped_route_answers_with_the_other_version(place):
    router, _, _ = _router(place)
    assert _answer(router, [Question("yes")])[0].version == 1
    _route(place, champion=2, previous=1, epoch=2)
    assert _answer(router, [Question("yes")])[0].version == 2


def test_a_missing_version_folder_is_named(place):
    _route(place, champion=7, resident=[7])
    router, _, _ = _router(place)
    with pytest.raises(NotFound, match="intent_engine/7"):
        _answer(router, [Question("yes")])


def test_a_full_disk_fails_no_answer_and_gets_the_rows_later(place):
    router, sink, _ = _router(place)
    sink.full = True
    first = _answer(router, [Question("yes")])
    assert (len(first), sink.rows, router.log_figures.rows_waiting) == (1, [], 1)
    assert router.log_figures.write_failures >= 1
    sink.full = False
    second = _answer(router, [Question("no")])
    _eventually(lambda: len(sink.rows) == 2)
    assert [row["prediction_id"] for row in sink.rows] == [first[0].prediction_id, second[0].prediction_id]
    _eventually(lambda: router.log_figures.rows_waiting == 0)
    third = _answer(router, [Question("no")])
    assert sink.rows[-1]["prediction_id"] == third[0].prediction_id, "all is well: logged before it is answered"
    assert router.log_figures.rows_lost == 0


def test_what_a_full_disk_refused_is_written_at_the_end_where_there_is_space(place, caplog):
    router, sink, _ = _router(place)
    sink.full = True
    first = _answer(router, [Question("yes")])
    sink.full = False
    router.close()
    assert [row["prediction_id"] for row in sink.rows] == [first[0].prediction_id]
    sink.full = True
    _answer(router, [Question("no")])
    router.close()
    assert "traffic.lost" in caplog.text
    assert router.log_figures.rows_lost == 1
    sink.full = False
    router.close()
    assert len(sink.rows) == 1


def test_rows_that_the_log_refuses_do_not_hold_up_the_others(place):
    router, sink, _ = _router(place)
    sink.refused = "no"
    assert len(_answer(router, [Question("no")])) == 1
    second = _answer(router, [Question("yes")])
    assert [row["prediction_id"] for row in sink.rows] == [second[0].prediction_id]
    figures = router.log_figures
    assert (figures.write_failures, figures.rows_lost, figures.rows_waiting) == (1, 1, 0)


def test_bookkeeping_that_breaks_in_an_unforeseen_way_fails_no_answer(place, monkeypatch, caplog):
    router, _, _ = _router(place)

    def broken(*_: object, **__: object) -> dict[str, Any]:
        raise RuntimeError("no such thing was foreseen")

    monkeypatch.setattr("perennial.ops.serving.router.router.answer_columns", broken)
    assert len(_answer(router, [Question("yes")])) == 1
    assert "traffic.not_handed_over" in caplog.text


def test_settings_survive_the_way_through_config(place):
    settings = _settings(place)
    assert RouterSettings.from_parameters("intent", settings.to_parameters()) == settings
    with pytest.raises(ConfigurationError, match="route_path"):
        RouterSettings.from_parameters("intent", {"engine_model": "e"})


def test_invalid_utf8_names_row_and_byte():
    with pytest.raises(DataError, match=r"TEXT of row 1 is not UTF-8: byte 0xff at offset 2"):
        read_questions(SIDE, request(b"fine", b"ab\xffcd"), 10)


def test_a_key_may_not_be_too_long():
    assert read_questions(SIDE, request(b"t", keys=[b"k" * 10]), 10)[0].key == "k" * 10
    with pytest.raises(DataError, match=r"11 bytes \(limit 10\)"):
        read_questions(SIDE, request(b"t", keys=[b"k" * 11]), 10)


def test_prediction_ids_sort_by_time_and_differ():
    ids = [prediction_id(now) for now in (1_700_000_000_000_000, 1_700_000_000_001_000, 1_800_000_000_000_000)]
    assert ids == sorted(ids)
    assert int(ids[0][:12], 16) == 1_700_000_000_000
    assert len({prediction_id(5) for _ in range(1_000)}) == 1_000


def test_scores_of_versions_with_other_classes_share_one_width(place):
    _route(place, challenger=2, share=0.5)
    router, _, _ = _router(place)
    answers = _answer(router, [Question("yes", f"k{number}") for number in range(20)])
    arrays = columns(SIDE, answers, frozenset({"SCORES", "LABELS"}))
    assert set(arrays) == {"SCORES", "LABELS"}
    assert arrays["SCORES"].shape == arrays["LABELS"].shape == (20, 3)
    np.testing.assert_allclose(arrays["SCORES"].sum(axis=1), 1.0, atol=1e-5)
    two = [answer.version == 1 for answer in answers]
    assert 0 < sum(two) < 20
    assert all(names[2] == b"" for names, small in zip(arrays["LABELS"], two, strict=True) if small)


def test_no_listed_outputs_means_the_usual_four():
    usual = {"LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID"}
    wanted = Wanted(SIDE.signature).of
    assert wanted([]) == usual
    assert wanted([*usual, "SCORES", "LABELS", "KNOWN", "ARM"]) == usual
    assert wanted([*usual, "SCORES", "LABELS"]) == {*usual, "SCORES", "LABELS"}
    assert wanted(["LABEL"]) == {"LABEL"}


def test_a_failing_champions_rows_are_answered_by_the_one_before_it_and_a_probe_is_told(place):
    _route(place, champion=2, previous=1, epoch=2)
    router, sink, engines = _router(place)
    engines.broken = {2}
    answers = _answer(router, [Question("yes"), Question("no")])
    assert [(a.version, a.arm) for a in answers] == [(1, Arm.FALLBACK)] * 2
    assert [row["arm"] for row in sink.rows] == ["fallback"] * 2
    assert [a.arm for a in _answer(router, [Question("yes", logged=False)])] == [Arm.FALLBACK]
    engines.broken = {1, 2}
    with pytest.raises(DependencyUnreachable, match="version 2"):
        _answer(router, [Question("yes")])
    assert len(sink.rows) == 2


def test_a_hanging_champions_rows_are_answered_by_the_one_before_it_until_its_call_has_ended(place, monkeypatch):
    monkeypatch.setattr("perennial.ops.serving.router.router._CHAMPION_PAUSE_S", 0.1)
    _route(place, champion=2, previous=1, epoch=2)
    sink, engines = _Sink(), _Engines()
    router = Router(replace(_settings(place), champion_limit_s=0.2), SIDE, sink, engines)
    engines.hanging = {2}
    started = time.monotonic()
    first = _answer(router, [Question("yes")])
    waited = time.monotonic()
    later = [_answer(router, [Question("no")])[0] for _ in range(20)]
    assert [(a.version, a.arm) for a in (*first, *later)] == [(1, Arm.FALLBACK)] * 21
    assert waited - started >= 0.2
    assert [version for version, _ in engines.calls].count(2) == 1, "it is not asked again while it hangs"
    engines.hanging = set()
    engines.go_on.set()
    while (again := _answer(router, [Question("yes")])[0]).version == 1:
        assert time.monotonic() < waited + 120
    assert again.arm is Arm.CHAMPION


def test_what_spoils_a_batch_of_several_callers_is_raised_so_that_each_is_asked_alone(place):
    _route(place, champion=2, previous=1, epoch=2)
    router, sink, engines = _router(place)
    engines.broken = {2}
    batch = router.place([Question("yes"), Question("no")])
    with pytest.raises(DependencyUnreachable, match="version 2"):
        router.answer(batch, alone=False)
    assert sink.rows == []
    engines.broken = set()
    assert [a.version for a in router.answer(batch.part([1]))] == [2]


def test_each_version_is_told_its_own_time_and_a_fallback_the_whole(place):
    _route(place, challenger=2, share=0.5)
    router, sink, engines = _router(place)
    engines.slow = {2: 0.05}
    _answer(router, [Question("yes", f"k{number}") for number in range(20)])
    times = {row["version"]: row["latency_ms"] for row in sink.rows}
    assert times[2] >= 50.0
    assert times[1] < 50.0
    engines.slow, engines.failing_late = {}, {2: 0.05}
    sink.rows.clear()
    _answer(router, [Question("yes", f"k{number}") for number in range(20)])
    assert all((row["latency_ms"] >= 50.0) == (row["arm"] == "fallback") for row in sink.rows)
    assert {row["arm"] for row in sink.rows} == {"champion", "fallback"}


def test_a_challengers_surprise_costs_its_callers_nothing(place, monkeypatch):
    _route(place, challenger=2, share=1.0)
    router, _, _ = _router(place)
    monkeypatch.setattr(
        router, "_within", lambda _: lambda *_: {"logits": np.zeros((1, 3)), "embedding": np.zeros((0, 4))}
    )
    assert [a.version for a in _answer(router, [Question("yes")])] == [1]
    monkeypatch.setattr(router, "_within", lambda _: lambda *_: 1 // 0)
    assert [a.version for a in _answer(router, [Question("yes")])] == [1]


def test_a_champion_that_refuses_one_text_is_asked_the_next_one(place):
    _route(place, champion=2, previous=1, epoch=2)
    router, _, engines = _router(place)
    engines.broken = {2}
    assert _answer(router, [Question("yes")])[0].version == 1
    engines.broken = set()
    assert _answer(router, [Question("yes")])[0].version == 2


def test_many_long_rows_are_asked_in_parts_and_come_back_in_order(place, monkeypatch):
    monkeypatch.setattr("perennial.ops.serving.router.router._PART_CELLS", 10)
    router, _, engines = _router(place)
    texts = ["yes yes yes", "no", "yes no", "no no", "yes", "yes yes", "no"]
    answers = _answer(router, [Question(text) for text in texts])
    assert [answer.answer.kept for answer in answers] == [text.split()[0] for text in texts]
    assert engines.calls == [(1, (3, 3)), (1, (3, 3)), (1, (1, 3))]


def _to_be_written(*gone: Callable[[], bool] | None) -> list[Placed]:
    usual = {"input": "", "key": "", "arm": Arm.CHAMPION, "logged": True}
    return [Placed(**usual, prediction_id=prediction_id(5), gone=each) for each in gone]


def test_rows_that_are_written_are_asked_one_by_one_some_tokens_at_a_time_until_who_waits_has_left():
    calls, left = [], False

    def ask(version, inputs):
        nonlocal left
        calls.append((version, int(inputs["approved"][0, 0])))
        left = left or len(calls) == 4  # within the second row
        steps = int(inputs["steps"][0, 0])
        return {"tokens": np.full((1, steps), 9, dtype=np.int64), "logits": np.ones((1, 16), dtype=np.float32)}

    inputs = {"approved": np.array([[1], [2], [3]]), "steps": np.array([[30], [64], [64]])}
    rows = _to_be_written(None, lambda: left, lambda: left)
    outputs = _written(ask, 7, inputs, rows, limit_s=60)
    assert calls == [(7, 1), (7, 1), (7, 2), (7, 2)]
    assert (outputs["tokens"] > 0).sum(axis=1).tolist() == [30, 32, 0]
    assert outputs["logits"].any(axis=1).tolist() == [True, True, False]
    with pytest.raises(DependencyUnreachable, match="version 7 did not write an answer within 0 s"):
        _written(ask, 7, inputs, _to_be_written(None, None, None), limit_s=0)


def test_what_nobody_waits_for_any_more_is_not_logged(place):
    router, sink, _ = _router(place)
    left, stays = _answer(router, [Question("yes", gone=lambda: True), Question("no", gone=lambda: False)])
    assert (left.late, stays.late) == (True, False)
    assert [row["text"] for row in sink.rows] == ["no"]


def test_parts_of_several_widths_come_together():
    widths = iter((3, 5, 1))

    def ask(version, inputs):
        return {"tokens": np.full((1, next(widths)), version, dtype=np.int64)}

    ids = np.ones((3, 2), dtype=np.int64)
    tokens = _in_parts(ask, 7, token_inputs(ids, ids), 1)["tokens"]
    assert (tokens > 0).sum(axis=1).tolist() == [3, 5, 1]


def test_an_answer_after_its_deadline_is_marked_and_not_logged(place):
    router, sink, engines = _router(place)
    engines.slow = {1: 0.2}
    late, timely = _answer(
        router, [Question("yes", deadline=time.monotonic() + 0.1), Question("no", deadline=time.monotonic() + 60)]
    )
    assert (late.late, timely.late) == (True, False)
    assert [row["prediction_id"] for row in sink.rows] == [timely.prediction_id]


def test_what_config_does_not_say_is_as_documented(place):
    parameters = {name: str(place) for name in ("engine_model", "route_path", "repository", "traffic_dir")}
    read = RouterSettings.from_parameters("intent", parameters)
    written = RouterSettings(
        model="intent", engine_model=str(place), route_path=place, repository=place, traffic_dir=place
    )
    assert read == written
    assert {name: value for name, value in written.to_parameters().items() if name not in parameters} == {
        "task": "text_classification", "max_characters": "20000",
        "max_key_bytes": "256", "rotate_rows": "5000", "rotate_s": "60.0",
        "challenger_limit_s": "1.0", "champion_limit_s": "10.0", "queue_limit_s": "10.0", "queue_rows": "8192",
        "max_batch_size": "64", "cache_rows": "0",
    }  # fmt: skip


def test_each_setting_is_read_from_its_own_parameter(place):
    numbers = {
        "max_characters": 1, "max_key_bytes": 2, "rotate_rows": 3, "rotate_s": 4.5, "challenger_limit_s": 5.5,
        "champion_limit_s": 6.5, "queue_limit_s": 7.5, "queue_rows": 8, "max_batch_size": 9,
        "cache_rows": 10,
    }  # fmt: skip
    parameters = {"engine_model": "e", "route_path": "/a", "repository": "/b", "traffic_dir": "/c"}
    read = RouterSettings.from_parameters("intent", parameters | {name: str(value) for name, value in numbers.items()})
    assert {name: getattr(read, name) for name in numbers} == numbers
    assert (read.model, read.engine_model) == ("intent", "e")
    assert (read.route_path, read.repository, read.traffic_dir) == (Path("/a"), Path("/b"), Path("/c"))
    assert RouterSettings.from_parameters("intent", read.to_parameters()) == read


@pytest.mark.parametrize("wrong", ["rotate_rows", "queue_limit_s"])
def test_a_parameter_that_is_no_number_is_told(place, wrong):
    with pytest.raises(ConfigurationError, match=r"router intent: parameter .*many"):
        RouterSettings.from_parameters("intent", _settings(place).to_parameters() | {wrong: "many"})


def test_versions_are_made_ready_when_the_route_changes_and_not_at_each_request(place, monkeypatch):
    router, _, _ = _router(place)
    prepared: list[tuple[int, ...]] = []
    monkeypatch.setattr(router._versions, "prepare", lambda versions: prepared.append(tuple(versions)))
    for _ in range(2):
        _answer(router, [Question("yes")])
    assert prepared == [(1, 2)]
    _route(place, champion=2, epoch=2, resident=[2])
    for _ in range(2):
        _answer(router, [Question("yes")])
    assert prepared == [(1, 2), (2,)]


def test_a_router_tells_that_another_version_stood_in_until_the_champion_answers_again(place):
    _route(place, champion=2, previous=1, epoch=2)
    router, _, engines = _router(place)
    assert router.substituted is False
    for broken, substituted in (((2,), True), ((), False), ((2,), True)):
        engines.broken = set(broken)
        _answer(router, [Question("yes")])
        assert router.substituted is substituted
    engines.broken = {1, 2}
    with pytest.raises(DependencyUnreachable):
        _answer(router, [Question("yes")])
    assert router.substituted is True
    engines.broken = set()
    _route(place, champion=2, epoch=3)
    _answer(router, [Question("yes")])
    assert router.substituted is False


@pytest.mark.parametrize(
    ("logits", "embeddings"), [((2, 2), 1), ((1, 2), 2), ((2, 3), 2), ((2, 1), 2), ((3, 2), 2), ((2, 2), 3)]
)
def test_an_answer_of_another_shape_is_given_to_nobody(place, logits, embeddings):
    sink = _Sink()
    answer = {"logits": np.zeros(logits, np.float32), "embedding": np.zeros((embeddings, 4), np.float32)}
    router = Router(_settings(place), SIDE, sink, lambda *_: answer)
    with pytest.raises(DependencyUnreachable, match=r"intent_engine version 1 gave (logits|embedding) of shape"):
        _answer(router, [Question("yes"), Question("no")])
    assert sink.rows == []


def test_probabilities_of_large_logits_are_numbers(place):
    logits = np.array([[300.0, 299.0], [-300.0, -301.0]], np.float32)
    outputs = {"logits": logits, "embedding": np.zeros((2, 4), np.float32)}
    router = Router(_settings(place), SIDE, _Sink(), lambda *_: outputs)
    for answered in _answer(router, [Question("yes"), Question("no")]):
        answer = answered.answer
        np.testing.assert_allclose(answer.scores, [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-5)
        assert (answer.kept, answer.confidence) == ("no", pytest.approx(float(answer.scores[0])))


def test_a_row_of_a_challenger_that_left_the_route_is_answered_by_the_champion(place):
    router, sink, _ = _router(place)
    row = Placed(input="yes", key="k", prediction_id=prediction_id(5), arm=Arm.CHALLENGER, logged=True)
    route = Route(model="intent", epoch=1, champion=1, resident=(1,))
    (answer,) = router.answer(Batch(route=route, at_us=5, rows=(row,)))
    assert (answer.version, answer.arm, answer.answer.kept) == (1, Arm.FALLBACK, "yes")
    assert [row["arm"] for row in sink.rows] == ["fallback"]


def test_an_answer_at_its_deadline_is_late_and_one_without_a_deadline_never(place):
    router, _, _ = _router(place)
    soon, never = _answer(router, [Question("yes", deadline=time.monotonic() + 60), Question("no")])
    deadline = soon.placed.deadline
    assert deadline is not None
    assert [_in_time(soon, now).late for now in (deadline - 1e-3, deadline, deadline + 1)] == [False, True, True]
    assert _in_time(never, 1e12).late is False


@pytest.mark.parametrize(
    ("rows", "length", "parts"),
    [
        (64, 256, [64]),
        (65, 256, [64, 1]),
        (5, 16_384, [1] * 5),
        (3, 20_000, [1] * 3),
        (1, 1, [1]),
        (4, 8_000, [2, 2]),
        (150, 2, [70, 70, 10]),
    ],
)
def test_a_call_of_an_engine_holds_so_many_tokens_and_at_least_one_row(rows, length, parts):
    calls: list[tuple[int, int, int]] = []

    def ask(version, inputs):
        ids, mask = inputs.values()
        calls.append((version, len(ids), len(mask)))
        return {"logits": ids[:, :2].astype(np.float32), "embedding": ids[:, :1].astype(np.float32)}

    ids = np.arange(rows, dtype=np.int64)[:, None].repeat(length, axis=1)
    logits, embeddings = _in_parts(ask, 3, token_inputs(ids, np.ones_like(ids)), 70).values()
    assert calls == [(3, part, part) for part in parts]
    assert logits[:, 0].tolist() == embeddings[:, 0].tolist() == list(range(rows))


def test_each_kind_of_version_has_its_limit_and_its_pauses(place, monkeypatch):
    built: list[dict[str, float]] = []
    monkeypatch.setattr("perennial.ops.serving.router.router.VersionGuard", lambda **limits: built.append(limits))
    Router(replace(_settings(place), challenger_limit_s=2.0, champion_limit_s=3.0), SIDE, _Sink(), _Engines())
    assert built == [
        {"limit_s": 2.0, "pause_s": 5.0, "hang_pause_s": 5.0},
        {"limit_s": 3.0, "pause_s": 0.0, "hang_pause_s": 30.0},
    ]


def test_every_output_has_one_row_an_answer_and_its_type(place):
    router, _, _ = _router(place)
    answers = _answer(router, [Question("yes"), Question("no"), Question("yes")])
    names = frozenset({"LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID", "ARM", "LABELS", "SCORES"})
    arrays = columns(SIDE, answers, names)
    assert {name: array.shape for name, array in arrays.items()} == {
        **dict.fromkeys(("LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID", "ARM"), (3, 1)),
        **dict.fromkeys(("LABELS", "SCORES"), (3, 2)),
    }
    assert arrays["LABEL"].ravel().tolist() == [b"yes", b"no", b"yes"]
    assert arrays["PREDICTION_ID"].ravel().tolist() == [answer.prediction_id.encode() for answer in answers]
    assert arrays["ARM"].ravel().tolist() == [b"champion"] * 3
    assert arrays["LABELS"].tolist() == [[b"no", b"yes"]] * 3
    assert (arrays["VERSION"].dtype, arrays["VERSION"].ravel().tolist()) == (np.int64, [1, 1, 1])
    assert (arrays["CONFIDENCE"].dtype, arrays["SCORES"].dtype) == (np.float32, np.float32)
    assert arrays["CONFIDENCE"].ravel().tolist() == [answer.answer.confidence for answer in answers]


def test_a_version_that_reads_words_adds_them_to_what_its_engine_gives(place):
    """The engine says no to every text; of this version's words, one says yes."""
    features = LexicalFeatures(size=256)
    weight = np.zeros((2, 256), dtype=np.float32)
    weight[1] = 20.0 * features(["please"])[0]
    folder = place / "repository" / "intent_engine" / "1"
    save_file({"lexical": weight}, folder / "head.safetensors")
    router, sink, _ = _router(place)
    texts = ["unheard", "unheard please", ""]
    answers = _answer(router, [Question(text) for text in texts])
    assert [row.answer.kept for row in answers] == ["no", "yes", "no"]
    assert [row["prediction"] for row in sink.rows] == ["no", "yes", "no"]
    logits = np.array([[3.0, 0.0]] * 3) + features(texts) @ weight.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([row.answer.scores for row in answers], expected, rtol=0, atol=1e-5)


def test_a_version_whose_words_cannot_be_read_is_named(place):
    (place / "repository" / "intent_engine" / "1" / "head.safetensors").write_bytes(b"broken")
    router, _, _ = _router(place)
    with pytest.raises(NotFound, match=r"intent_engine.1 cannot be read"):
        _answer(router, [Question("yes")])


def test_the_same_text_is_computed_once_a_version_and_logged_each_time(place):
    sink, engines = _Sink(), _Engines()
    router = Router(replace(_settings(place), cache_rows=8), SIDE, sink, engines)
    first = _answer(router, [Question("yes")])
    again = _answer(router, [Question("no"), Question("yes", "me"), Question("yes ")])
    assert engines.calls == [(1, (1, 1)), (1, (2, 1))], "what differs by a space is another text"
    assert [answer.answer.kept for answer in again] == ["no", "yes", "yes"]
    assert [row["prediction_id"] for row in sink.rows] == [answer.prediction_id for answer in (*first, *again)]
    assert router.repeated == 1
    _answer(router, [Question("yes", logged=False)])
    assert len(engines.calls) == 3, "a probe asks the engine itself"
    _route(place, epoch=2, champion=2)
    assert [answer.version for answer in _answer(router, [Question("yes")])] == [2]
    assert engines.calls[-1][0] == 2


def test_a_task_whose_answers_depend_on_what_is_remembered_has_none_given_again(place, monkeypatch):
    monkeypatch.setattr(type(SIDE), "remembers", True)
    engines = _Engines()
    router = Router(replace(_settings(place), cache_rows=8), SIDE, _Sink(), engines)
    for _ in range(2):
        _answer(router, [Question("yes")])
    assert (len(engines.calls), router.repeated) == (2, 0)


def test_an_answer_that_is_given_again_does_not_say_that_the_champions_engine_answers(place):
    _route(place, champion=2, previous=1, epoch=2)
    engines = _Engines()
    router = Router(replace(_settings(place), cache_rows=8), SIDE, _Sink(), engines)
    _answer(router, [Question("yes")])
    engines.broken = {2}
    assert _answer(router, [Question("no")])[0].version == 1
    assert _answer(router, [Question("yes")])[0].version == 2
    assert router.substituted is True
    engines.broken = set()
    _answer(router, [Question("other")])
    assert router.substituted is False


def test_a_challengers_answers_are_its_own_also_where_the_champion_answered_the_same_text(place):
    engines = _Engines()
    router = Router(replace(_settings(place), cache_rows=8), SIDE, _Sink(), engines)
    _answer(router, [Question("yes")])
    _route(place, challenger=2, share=1.0, epoch=2)
    for _ in range(2):
        [answered] = _answer(router, [Question("yes")])
        assert (answered.version, answered.arm, len(answered.answer.scores)) == (2, Arm.CHALLENGER, 3)
    assert [version for version, _ in engines.calls] == [1, 2]
