"""Attributes of people: declared ones alone come in, in one form, and no job that learns is told them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import DataError
from perennial.continual.preparation import (
    FileReading,
    KnownLabels,
    admit_attributes,
    check_attribute_names,
    read_labelled_file,
)
from perennial.continual.records import Example
from perennial.continual.tasks import task_named
from perennial.ops.ledger import FeedbackRow
from perennial.ops.settings import ModelSettings
from perennial.ops.store.feedback import GivenLabel, admit_given

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"age": "old"}, "attribute 'age' is not declared"),
        ({"region": "x" * 61}, "at most 60"),
        ({"region": 7}, "must be text"),
        ({"region": "a\0"}, "holds the control"),
        (["north"], "attributes are list"),
        ("north", "attributes are 'north'"),
    ],
)
@pytest.mark.parametrize("whose", [{"text": "my card"}, {"prediction_id": "0" * 32}])
def test_what_is_undeclared_or_no_short_text_is_refused(given: Any, why: str, whose: dict[str, str]) -> None:
    label = GivenLabel(label="fee", attributes=given, **whose)
    with pytest.raises(DataError, match=why):
        admit_given(label, known=KnownLabels(), now=NOON, attributes=("region",))


@pytest.mark.parametrize("whose", [{"text": "my card"}, {"prediction_id": "0" * 32}])
def test_a_declared_attribute_comes_with_a_label_of_either_kind(whose: dict[str, str]) -> None:
    label = GivenLabel(label="fee", attributes={"region": " nort\u200bh", "age": ""}, **whose)
    row = admit_given(label, known=KnownLabels(), now=NOON, attributes=("region", "age"))
    assert isinstance(row, Example | FeedbackRow)
    assert row.attributes == {"region": "north"}
    none = admit_given(GivenLabel(label="fee", **whose), known=KnownLabels(), now=NOON)
    assert none.attributes == {}


def test_a_files_columns_are_read_where_they_are_declared(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label,Land,age\ncard,fee,north,\nloan,fee,,old\n", encoding="utf-8")
    reading = FileReading(columns={"region": "Land"})
    rows = read_labelled_file(path, reading=reading, attributes=("region", "age"))
    assert [row.attributes for row in rows] == [{"region": "north"}, {"age": "old"}]
    assert [row.attributes for row in read_labelled_file(path)] == [{}, {}]


@pytest.mark.parametrize("task", ["text_classification", "opinion", "replies"])
def test_what_a_job_is_given_of_a_row_says_nothing_of_its_person(task: str) -> None:
    row = Example(text="my card", label="fee", at=NOON, attributes={"region": "north"})
    assert "north" not in str(task_named(task).write_row(row))
    assert task_named(task).keep(row).attributes == {"region": "north"}
    assert task_named(task).read_kept(task_named(task).keep(row)) == row


@pytest.mark.parametrize("names", [("text",), ("Region",), ("re gion",), ("region", "region")])
def test_a_name_that_could_be_no_column_of_its_own_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="attribute"):
        check_attribute_names(names)
    with pytest.raises(ValueError, match="attribute"):
        ModelSettings.model_validate({"fairness": {"attributes": list(names)}})


def test_a_limit_names_a_declared_attribute() -> None:
    limit = {"attribute": "region", "figure": "accuracy_ratio", "bound": 0.8}
    with pytest.raises(ValueError, match="attributes declares none; add it there"):
        ModelSettings.model_validate({"fairness": {"limits": [limit]}})
    settings = ModelSettings.model_validate({"fairness": {"attributes": ["region"], "limits": [limit]}})
    assert settings.fairness.as_limits()[0].by_ratio


@pytest.mark.parametrize("limits", [{"typo": 1.0}, {"typos": 101.0}])
def test_a_limit_on_a_change_that_there_is_not_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="typos"):
        ModelSettings.model_validate({"robustness": {"most_lost_points": limits}})


@pytest.mark.parametrize("task", ["image_classification", "ranking"])
def test_a_limit_on_changed_texts_is_of_labelled_texts_alone(task: str) -> None:
    limits: dict[str, dict[str, object]] = {
        "robustness": {"most_lost_points": {"typos": 1.0}},
        "fairness": {"most_changed_by_names": 0.0},
    }
    with pytest.raises(ValueError, match=rf"robustness\.most_lost_points, .*task '{task}' is asked about none; take"):
        ModelSettings.model_validate({"task": task, **limits})
    assert ModelSettings.model_validate({"task": "opinion", **limits}).robustness.most_lost_points == {"typos": 1.0}


@pytest.mark.parametrize("task", ["generation", "ranking"])
def test_attributes_are_refused_where_no_row_keeps_them(task: str) -> None:
    fairness = {"attributes": ["region"]}
    with pytest.raises(ValueError, match=rf"declares region, and rows of task '{task}' keep none: .*take it out"):
        ModelSettings.model_validate({"task": task, "fairness": fairness})
    assert ModelSettings.model_validate({"task": task}).fairness.attributes == ()
    assert ModelSettings.model_validate({"task": "replies", "fairness": fairness}).fairness.attributes == ("region",)


def test_a_blank_value_says_nothing() -> None:
    assert admit_attributes({"region": " ", "age": None}, ("region", "age")) == {}
    assert admit_attributes(None, ()) == {}
