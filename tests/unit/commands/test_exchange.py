"""The queue goes to Label Studio and Argilla, and what people gave there comes back as labels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.records import Example
from perennial.ops.commands.exchange import Exchange, exported, labelling_config, read_exchange
from perennial.ops.commands.label_file import read_label_file
from perennial.ops.commands.label_queue import QueueItem
from perennial.ops.ledger import ClassDescription, FeedbackRow

IDS = [f"{number:032x}" for number in range(1, 5)]
ITEMS = [
    QueueItem(
        prediction_id=name,
        text=f"my <card> & {number}",
        answered="card",
        confidence=0.5 if number else None,
        version=3,
        reason="uniform",
        probability=1.0,
    )
    for number, name in enumerate(IDS)
]


class Known:
    """What the entrance asks of the ledger."""

    def route(self, _: str) -> None:
        return None

    def labels(self, _: str) -> Sequence[str]:
        return ("card", "loan")

    def descriptions(self, _: str) -> Sequence[ClassDescription]:
        return ()


def read(tmp_path: Path, document: Any, **more: Any) -> Any:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(document))
    return read_path(path, **more)


def read_path(path: Path, **more: Any) -> Any:
    return read_label_file(path, Known(), "intent", **more)  # type: ignore[arg-type]


def annotated(task: dict[str, Any], *labels: str, cancelled: bool = False) -> dict[str, Any]:
    """A task as Label Studio exports it, once each of several people gave a label."""
    made = [
        {
            "id": number,
            "was_cancelled": cancelled,
            "created_at": "2026-03-01T12:00:00.000000Z",
            "result": [{"type": "choices", "from_name": "label", "to_name": "text", "value": {"choices": [label]}}],
        }
        for number, label in enumerate(labels)
    ]
    return {"id": 7, **task, "annotations": made}


def test_labels_of_label_studio_come_back_to_their_requests(tmp_path: Path) -> None:
    tasks = exported(ITEMS, Exchange.LABEL_STUDIO, model="intent")
    assert tasks[1]["predictions"][0]["score"] == 0.5
    assert "score" not in tasks[0]["predictions"][0]
    done = [
        annotated(tasks[0], "loan"),
        annotated(tasks[1], "card", "card"),
        annotated(tasks[2]),
        annotated(tasks[3], "loan", cancelled=True),
        annotated({"data": {"text": "a text of their own"}}, "card"),
    ]
    rows = read(tmp_path, done).rows
    assert [(type(row), row.label) for row in rows] == [(FeedbackRow, "loan"), (FeedbackRow, "card"), (Example, "card")]
    assert [row.prediction_id for row in rows[:2]] == IDS[:2]
    assert rows[0].at.isoformat() == "2026-03-01T12:00:00+00:00"


def test_labels_of_argilla_come_back_to_their_requests(tmp_path: Path) -> None:
    records = exported(ITEMS, Exchange.ARGILLA, model="intent")
    assert records[1]["suggestions"]["label"] == {"value": "card", "score": 0.5, "agent": "intent 3"}
    records[0]["responses"] = {"label": [{"value": "loan", "user_id": "u"}]}
    own = {"id": "row-1", "fields": {"text": "a text of their own"}, "responses": {"label": [{"value": "card"}]}}
    rows = read(tmp_path, [*records, own]).rows
    assert [(type(row), row.label) for row in rows] == [(FeedbackRow, "loan"), (Example, "card")]
    assert rows[0].prediction_id == IDS[0]


def test_attributes_that_somebody_adds_there_come_with_the_label(tmp_path: Path) -> None:
    """A request has none before it is labelled, so the export holds none; undeclared ones are not read."""
    task = exported(ITEMS[:1], Exchange.LABEL_STUDIO, model="intent")[0]
    record = exported(ITEMS[1:2], Exchange.ARGILLA, model="intent")[0]
    whose = {"region": " 北方 ", "age": ""}
    task["data"] |= whose | {"religion": "none of ours"}
    record["metadata"] |= whose
    record["responses"] = {"label": [{"value": "loan"}]}
    for done in ([annotated(task, "card")], [record]):
        (row,) = read(tmp_path, done, attributes=("region", "age")).rows
        assert row.attributes == {"region": "北方"}
        (row,) = read(tmp_path, done).rows
        assert row.attributes == {}
    task["data"]["age"] = ["old"]
    with pytest.raises(RowsRefused, match="task 1: attribute age"):
        read(tmp_path, [annotated(task, "card")], attributes=("age",))


def test_people_who_disagree_are_named_and_decide_nothing(tmp_path: Path) -> None:
    task = exported(ITEMS[:1], Exchange.LABEL_STUDIO, model="intent")[0]
    done = [annotated(task, "card", "loan"), annotated(task, "card")]
    with pytest.raises(RowsRefused, match="task 1: people gave 2 labels"):
        read(tmp_path, done)
    kept = read(tmp_path, done, skip_refused=True)
    assert (len(kept.rows), len(kept.refused), kept.unit) == (1, 1, "task")


def test_the_interface_names_every_class_whatever_its_name_holds() -> None:
    view = ElementTree.fromstring(labelling_config(["card", 'a "quoted" <&> 类']))
    assert [choice.get("value") for choice in view.iter("Choice")] == ["card", 'a "quoted" <&> 类']
    assert view.find("Text").get("value") == "$text"  # type: ignore[union-attr]


@pytest.mark.parametrize("document", [[], {}, [1], [{"text": "x", "label": "y"}], "x"])
def test_other_files_are_read_as_before(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(document))
    assert read_exchange(path) is None


def test_labels_of_answers_come_in_the_forms_of_other_tables(tmp_path: Path) -> None:
    path = tmp_path / "labels.md"
    path.write_text(f"| prediction_id | label |\n|---|---|\n| {'a' * 32} | loss |\n")
    assert [row.label for row in read_path(path).rows] == ["loss"]
    path.write_text(f"Labels of Monday\nprediction_id,label\n{'a' * 32},#N/A\n")
    with pytest.raises(DataError, match="line 3: its label is #N/A, the error of a formula"):
        read_path(path)
