"""What every served task promises the router: its questions, its answers, and what of them is sent and logged."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.images import read_image
from perennial.continual.learning.ranking import Item
from perennial.continual.records import Arm
from perennial.continual.tasks import TASKS, task_named
from perennial.continual.tasks.generation import Rewrite
from perennial.continual.tasks.opinion import Headline, Symbol
from perennial.continual.tasks.replies import Message, Turn
from perennial.exporters.bundle import read_manifest
from perennial.exporters.contract import KEY, all_inputs, all_outputs, usual_outputs
from perennial.exporters.engine import Engine
from perennial.exporters.ranking.asked import Asked
from perennial.exporters.runtime import load_engine
from perennial.exporters.signature import Array
from perennial.exporters.text_classification.signature import KNOWN
from perennial.ops.serving.port import Answer, Given, ServingSide, VersionSide
from perennial.ops.serving.router.answer_log import answer_columns
from perennial.ops.serving.router.answers import columns
from perennial.ops.serving.router.questions import read_questions
from perennial.ops.serving.router.router import Answered, Placed
from perennial.ops.serving.tasks import SIDES, serving_side
from perennial.ops.serving.tasks.image_classification import Asked as ImageAsked
from perennial.ops.traffic import TrafficLog, TrafficWriter
from tests.component.generation_fixtures import REWRITES, write_version
from tests.component.image_fixtures import COLOURS, coloured, write_image_bundle
from tests.component.ranking_fixtures import ITEMS, export_ranking, train_ranking
from tests.component.triton_fixtures import LABELS, write_bundle

ID = f"{1_760_000_000_000:012x}{'0' * 20}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A served task with a bundle of it. The versions that `write` makes are of different sizes."""

    write: Callable[[Path, int], object]
    inputs: Sequence[Any]  # at least three, of different lengths where they have one
    personal: Any
    secret: str  # what of `personal` may not be kept
    wrong: Sequence[Mapping[str, Array]]
    names_caller: bool  # whether a question itself says whose it is
    known_and_not: Sequence[Any] = ("card lost", "something else")  # of a class of version 1, and of none


def strings(*values: bytes) -> Array:
    return np.array(values, dtype=object).reshape(-1, 1)


def write_text(folder: Path, version: int, task: str = "text_classification") -> None:
    labels, limit = (LABELS, 1.0) if version == 1 else ((*LABELS, "other", "none"), None)
    write_bundle(folder, version, labels=labels, task=task, limit=limit)


def write_ranking(folder: Path, version: int) -> None:
    items = ITEMS if version == 1 else (*ITEMS, Item(name="brand new", text="garden roses"))
    trained = train_ranking(folder.with_name(f"trained-{version}"), items=items)
    export_ranking(folder, trained, version)


def write_generation(folder: Path, version: int) -> None:
    write_version(folder, version, guided=version == 1)


def write_image(folder: Path, version: int) -> None:
    labels = ("red", "green", "blue") if version == 1 else ("red", "green", "blue", "grey", "black")
    write_image_bundle(folder, version, labels=labels)


def asked(content: bytes) -> ImageAsked:
    picture = read_image(content)
    return ImageAsked(name=picture.name, picture=picture, sent=content)


_PICTURE = coloured("red", 0)

CASES: dict[str, Case] = {
    "image_classification": Case(
        write=write_image,
        inputs=[asked(coloured(label, 7)) for label in COLOURS],
        personal=None,
        secret="",
        wrong=[{}, {"IMAGE": strings()}, {"IMAGE": strings(_PICTURE, b"GIF89a")}, {"IMAGE": strings(_PICTURE[:99])}],
        names_caller=False,
        known_and_not=[asked(_PICTURE), asked(coloured("red", 0, brightness=0.2))],
    ),
    "text_classification": Case(
        write=write_text,
        inputs=["card lost", "money", "hello hello hello money", "", "something else"],
        personal="my card lost, mail jo.doe@example.org",
        secret="jo.doe@example.org",
        wrong=[{}, {"TEXT": strings()}, {"TEXT": strings(b"fine", b"\xff")}],
        names_caller=False,
    ),
    "opinion": Case(
        write=partial(write_text, task="opinion"),
        inputs=[
            Headline(text="card lost"),
            Headline(text="money", source="wire", published_at=datetime(2026, 1, 1, 8, tzinfo=UTC)),
            Headline(text="hello hello hello money", symbols=(Symbol(name="AAPL", names=("hello",)),)),
            Headline(text="something else"),
        ],
        personal=Headline(text="my card lost, mail jo.doe@example.org", source="jo.doe@example.org"),
        secret="jo.doe@example.org",
        wrong=[
            {},
            {"TEXT": strings()},
            {"TEXT": strings(b"fine"), "SOURCE": strings(b"\xff")},
            {"TEXT": strings(b"fine"), "PUBLISHED_AT": strings(b"yesterday")},
            {"TEXT": strings(b"fine", b"good"), "SOURCE": strings(b"wire")},
            *(
                {"TEXT": strings(b"fine"), "SYMBOLS": strings(raw)}
                for raw in (
                    b"AAPL",
                    b"[1]",
                    b'{"AAPL": "Apple"}',
                    b'["A","B","C","D","E","F","G","H","I"]',
                    b'["' + b"A" * 5_000 + b'"]',
                )
            ),
        ],
        names_caller=False,
    ),
    "replies": Case(
        write=partial(write_text, task="replies"),
        inputs=[
            Message(text="card lost", customer="c1"),
            Message(text="money", customer="c2", language="en", turns=(Turn(text="hello", intent="card"),)),
            Message(text="hello hello hello money", customer="c1", values={"name": "Jo"}),
            Message(text="something else", customer="c3", turns=(Turn(reply="r1"), Turn(text="Grüße"))),
        ],
        personal=Message(text="my card lost, mail jo.doe@example.org", customer="c4"),
        secret="jo.doe@example.org",
        wrong=[
            {},
            {"TEXT": strings()},
            {"TEXT": strings(b"fine"), "CUSTOMER": strings(b"\xff")},
            {"TEXT": strings(b"fine", b"good"), "LANGUAGE": strings(b"en")},
            *(
                {"TEXT": strings(b"fine"), "TURNS": strings(raw)}
                for raw in (b"hello", b'{"text": "hello"}', b"[1]", b'[{"text": 1}]', b'[{"said": "x"}]', b"[" * 60_000)
            ),
            *({"TEXT": strings(b"fine"), "VALUES": strings(raw)} for raw in (b"Jo", b'["Jo"]', b'{"name": 1}')),
        ],
        names_caller=True,
    ),
    "generation": Case(
        write=write_generation,
        inputs=REWRITES,
        personal=Rewrite(approved="Mail jo.doe@example.org about it.", name="Jo"),
        secret="jo.doe@example.org",
        wrong=[
            {},
            {"TEXT": strings()},
            {"TEXT": strings(b" ")},
            {"TEXT": strings(b"fine", b"\xff")},
            {"TEXT": strings(b"fine", b"good"), "TONE": strings(b"warm")},
            *({"TEXT": strings(b"fine"), name: strings(b"n" * 81)} for name in ("TONE", "LANGUAGE", "NAME")),
        ],
        names_caller=False,
    ),
    "ranking": Case(
        write=write_ranking,
        inputs=[
            Asked(user="u00"),
            Asked(user="u01", count=3, context="roses in spring", segment="north"),
            Asked(user="somebody new", candidates=("i07", "i02", "nothing known"), language="en"),
            Asked(user="u02", count=100, withheld=("i04",), candidates=()),
        ],
        personal=Asked(user="u03", context="roses for jo.doe@example.org"),
        secret="jo.doe@example.org",
        wrong=[
            {},
            {"USER": strings()},
            {"USER": strings(b" ")},
            {"USER": strings(b"\xff")},
            {"USER": strings(b"u"), "K": np.array([[0]], dtype=np.int32)},
            {"USER": strings(b"u"), "K": np.array([[101]], dtype=np.int32)},
            {"USER": strings(b"u", b"v"), "K": np.array([[3]], dtype=np.int32)},
            {"USER": strings(b"u", b"v"), "CONTEXT": strings(b"tea")},
            {"USER": strings(b"u"), "CANDIDATES": strings(b"i01")},
            {"USER": strings(b"u"), "CANDIDATES": strings(b'{"i01": 1}')},
            {"USER": strings(b"u"), "WITHHELD": strings(b"[1]")},
            {"USER": strings(b"u"), "CANDIDATES": strings(b"[" + b'"i",' * 10_000 + b'"i"]')},
        ],
        names_caller=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """A task's side with two versions of it."""

    case: Case
    side: ServingSide
    bundles: Mapping[int, Path]
    versions: Mapping[int, VersionSide]
    engines: Mapping[int, Engine]

    def answers(self, inputs: Sequence[Any], version: int = 1, **more: Any) -> Sequence[Answer]:
        side = self.versions[version]
        rows = side.encode(inputs)
        return side.answers(inputs, rows, self.engines[version].infer(rows), **more)

    def answered(self, inputs: Sequence[Any], version: int = 1) -> list[Answered]:
        return [
            Answered(
                placed=Placed(input=task_input, key="me", prediction_id=ID, arm=Arm.CHAMPION, logged=True),
                answer=answer,
                arm=Arm.CHAMPION,
                version=version,
                took_ms=1.0,
            )
            for task_input, answer in zip(inputs, self.answers(inputs, version), strict=True)
        ]


@pytest.fixture(scope="module", params=sorted(SIDES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    case, side = CASES[request.param], serving_side(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    bundles = {version: folder / str(version) for version in (1, 2)}
    for version, bundle in bundles.items():
        case.write(bundle, version)
    return World(
        case=case,
        side=side,
        bundles=bundles,
        versions={version: side.open(bundle) for version, bundle in bundles.items()},
        engines={version: load_engine(bundle, threads=1) for version, bundle in bundles.items()},
    )


def test_every_served_task_is_a_task_and_is_tried() -> None:
    assert set(CASES) == set(SIDES) <= set(TASKS)
    with pytest.raises(ConfigurationError, match="'image' cannot be served here; use one of "):
        serving_side("image")


def test_a_side_has_its_tasks_name_and_tensors_that_are_not_the_routers(world: World) -> None:
    assert SIDES[world.side.name].endswith(world.side.name)
    for tensors in (all_inputs(world.side.signature), all_outputs(world.side.signature)):
        names = [tensor.name for tensor in tensors]
        assert len(names) == len(set(names))


def test_the_bundles_of_a_task_have_its_engines_tensors(world: World) -> None:
    for version, bundle in world.bundles.items():
        manifest = read_manifest(bundle)
        assert manifest.task == world.side.name
        for signature in (manifest.signature, world.versions[version].signature):
            assert signature.input_names == world.side.engine.input_names
            assert signature.output_names == world.side.engine.output_names
            assert (signature.proved, signature.padding) == (world.side.engine.proved, world.side.engine.padding)


def test_a_side_is_imported_without_torch(world: World) -> None:
    code = f"import sys, {SIDES[world.side.name]}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_sent_is_what_is_asked(world: World) -> None:
    tensors = world.side.request(world.case.inputs)
    assert set(tensors) <= {tensor.name for tensor in world.side.signature.inputs}
    required = {tensor.name for tensor in world.side.signature.inputs if not tensor.optional}
    assert required <= set(tensors)
    sizes = world.side.sizes(tensors)
    assert len(sizes) == len(world.case.inputs)
    assert min(sizes) >= 0
    assert list(world.side.questions(tensors, max_characters=20_000)) == list(world.case.inputs)
    read = read_questions(world.side, tensors | {KEY: strings(*[b"me"] * len(world.case.inputs))}, 256)
    assert [question.input for question in read] == list(world.case.inputs)
    callers = [world.side.caller(task_input) for task_input in world.case.inputs]
    assert [bool(caller) for caller in callers] == [world.case.names_caller] * len(callers)
    assert [question.key for question in read] == [caller or "me" for caller in callers]


def test_a_probe_keeps_the_key_that_it_is_sent_with(world: World) -> None:
    tensors = {**world.side.request([world.side.probe]), KEY: strings(b"champions")}
    (question,) = read_questions(world.side, tensors, 256, logged=False)
    assert question.key == "champions"


def test_a_memory_that_is_not_there_costs_no_answer(world: World, tmp_path: Path) -> None:
    for path in (None, tmp_path / "nothing.db"):
        memory = world.side.memory(path)
        recalled = memory.recalled(world.case.inputs)
        assert len(world.answers(recalled)) == len(world.case.inputs)
        reads = path is not None and recalled is not world.case.inputs
        assert memory.unread == (len(world.case.inputs) if reads else 0)


def test_what_is_remembered_of_answers_leaves_them_as_they_are_kept(world: World, tmp_path: Path) -> None:
    memory, answers = world.side.memory(tmp_path / "new" / "file.db"), world.answers(world.case.inputs)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    given = [
        Given(asked, "", f"{place:032x}", at, answer)
        for place, (asked, answer) in enumerate(zip(world.case.inputs, answers, strict=True))
    ]
    assert [answer.kept for answer in memory.noted(given)] == [answer.kept for answer in answers]
    assert memory.unread == 0
    assert list(memory.noted([])) == []


def _taken(side: ServingSide, tensors: Mapping[str, Array]) -> Sequence[Any]:
    """As a router does it: measured first, then decoded."""
    side.sizes(tensors)
    return side.questions(tensors, max_characters=20_000)


def test_a_request_that_breaks_a_rule_is_refused(world: World) -> None:
    for tensors in world.case.wrong:
        with pytest.raises(DataError):
            _taken(world.side, tensors)


def test_a_probe_is_an_input_like_any_other(world: World) -> None:
    probe = world.side.probe
    assert list(world.side.questions(world.side.request([probe]), max_characters=20_000)) == [probe]
    assert len(world.answers([probe])) == 1


def test_an_engine_gets_rows_of_its_signature_and_its_outputs_fit(world: World) -> None:
    for version, side in world.versions.items():
        rows = side.encode(world.case.inputs)
        assert set(rows) == set(side.signature.input_names)
        for tensor in side.signature.inputs:
            assert rows[tensor.name].dtype == np.dtype(tensor.numpy_type)
            assert tensor.fits(rows[tensor.name].shape)
            assert len(rows[tensor.name]) == len(world.case.inputs)
        outputs = world.engines[version].infer(rows)
        assert side.signature.misfit(outputs, len(world.case.inputs)) == ""
        assert side.signature.misfit(outputs, len(world.case.inputs) + 1)


def test_answers_can_be_scored_and_are_the_same_alone_and_in_company(world: World) -> None:
    task = task_named(world.side.name)
    together = world.answers(world.case.inputs)
    assert len(together) == len(world.case.inputs)
    for task_input, answer in zip(world.case.inputs, together, strict=True):
        (alone,) = world.answers([task_input])
        assert task.same(task.read_answer(answer.kept), task.read_answer(alone.kept))
        assert answer.confidence is None or 0.0 <= answer.confidence <= 1.0
        assert answer.embedding is None or answer.embedding.ndim == 1


def test_a_vocabulary_can_be_narrowed(world: World) -> None:
    vocabulary = world.versions[2].vocabulary
    if vocabulary is None:
        assert [answer.kept for answer in world.answers(world.case.inputs, 2, within=frozenset())] == [
            answer.kept for answer in world.answers(world.case.inputs, 2)
        ]
        return
    assert {answer.kept for answer in world.answers(world.case.inputs, 2)} <= vocabulary
    for allowed in vocabulary:
        narrowed = world.answers(world.case.inputs, 2, within=frozenset({allowed}))
        assert {answer.kept for answer in narrowed} == {allowed}


def test_answers_become_the_tensors_that_are_wanted_even_of_versions_of_other_sizes(world: World) -> None:
    signature = world.side.signature
    served = [*world.answered(world.case.inputs, 1), *world.answered(world.case.inputs, 2)]
    made = columns(world.side, served, frozenset(tensor.name for tensor in all_outputs(signature)))
    assert set(made) == {tensor.name for tensor in all_outputs(signature)}
    for tensor in all_outputs(signature):
        assert made[tensor.name].dtype == np.dtype(tensor.numpy_type)
        assert tensor.fits(made[tensor.name].shape)
        assert len(made[tensor.name]) == len(served)
        assert set(columns(world.side, served, frozenset({tensor.name}))) == {tensor.name}


def test_a_caller_reads_one_record_a_row_with_and_without_the_further_outputs(world: World) -> None:
    served = world.answered(world.case.inputs)
    for names in (usual_outputs(world.side.signature), [tensor.name for tensor in all_outputs(world.side.signature)]):
        received = world.side.received(columns(world.side, served, frozenset(names)))
        assert [(row.prediction_id, row.version) for row in received] == [(ID, 1)] * len(served)


def test_what_is_of_no_class_is_told_whatever_else_is_in_the_batch(world: World) -> None:
    if KNOWN not in {tensor.name for tensor in world.side.signature.further}:
        assert "known" not in task_named(world.side.name).log_columns
        return
    inputs = world.case.known_and_not
    served = [*world.answered(inputs), *world.answered(inputs, 2), *world.answered(inputs[1:])]
    asked = columns(world.side, served, frozenset({*usual_outputs(world.side.signature), KNOWN}))
    assert asked[KNOWN].tolist() == [[True], [False], [True], [True], [False]], "version 2 cannot tell"
    assert [row.known for row in world.side.received(asked)] == [True, False, True, True, False]
    inputs_of = [row.placed.input for row in served]
    kept = world.side.columns(inputs_of, [row.answer for row in served])["known"]
    assert list(kept) == [True, False, None, None, False]


def test_answers_are_logged_whole_and_without_personal_data(world: World, tmp_path: Path) -> None:
    personal = [] if world.case.personal is None else [world.case.personal]
    inputs = [*world.case.inputs, *personal]
    made = answer_columns(
        world.side,
        world.answered(inputs),
        at_us=int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6),
        latency_ms=2.0,
    )
    assert not personal or world.case.secret not in str(made)
    assert made["redacted"] == [False] * len(world.case.inputs) + [True] * len(personal)
    writer = TrafficWriter(tmp_path, "router", task=world.side.name)
    writer.append(made)
    writer.close()
    kept = TrafficLog(tmp_path).read(last=100)
    assert kept.num_rows == len(inputs)
    assert kept["redacted"].to_pylist() == made["redacted"]


def test_a_bundle_that_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="7"):
        world.side.open(tmp_path / "7")
