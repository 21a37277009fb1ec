"""Several questions as one, and one answer as several."""

import json
from typing import Any

import pytest

from perennial.ops.serving.door.answers import Reply
from perennial.ops.serving.door.inference import Question, checked_request
from perennial.ops.serving.door.together import Pieces, joined, split


def _question(data: str, rows: int) -> Question:
    tensor = f'"name": "TEXT", "datatype": "BYTES", "shape": [{rows}, 1], "data": {data}'
    body = f'{{"id": "x", "inputs": [{{{tensor}}}]}}'
    checked = checked_request(body.encode(), None)
    assert isinstance(checked, Question)
    return checked


def _reply(*outputs: dict[str, Any]) -> Reply:
    reply = Reply()
    reply.status = 200
    reply.body.append(json.dumps({"model_name": "intent", "model_version": "1", "outputs": outputs}).encode())
    return reply


def test_the_values_stand_one_after_the_other_as_they_were_written():
    data = ('["a, [\\"b\\"] \\u00e9"]', '  [ "c" ,\n"" ] ')
    together = joined([_question(data[0], 1).inference, _question(data[1], 2).inference])
    read = json.loads(together)
    assert read["inputs"] == [{"name": "TEXT", "datatype": "BYTES", "shape": [3, 1], "data": ['a, ["b"] é', "c", ""]}]
    assert read["parameters"] == {"callers": 2}
    assert "id" not in read


def test_each_gets_the_rows_that_are_its_own():
    scores = {
        "name": "SCORES",
        "datatype": "FP32",
        "shape": [3, 2],
        "data": [0.1, 0.9, 0.2, 0.8, 0.30000001192092896, 0.7],
    }
    label = {"name": "LABEL", "datatype": "BYTES", "shape": [3, 1], "data": ["a", "b", "c"]}
    first, second = split(_reply(label, scores), [Pieces(1, ""), Pieces(2, "mine")]) or ()
    assert json.loads(first.body[0])["outputs"] == [
        {**label, "shape": [1, 1], "data": ["a"]},
        {**scores, "shape": [1, 2], "data": [0.1, 0.9]},
    ]
    answer = json.loads(second.body[0])
    assert (answer["id"], answer["model_name"]) == ("mine", "intent")
    assert answer["outputs"][1] == {**scores, "shape": [2, 2], "data": scores["data"][2:]}


@pytest.mark.parametrize(
    "output",
    [
        {"name": "LABEL", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "b"]},
        {"name": "LABEL", "datatype": "BYTES", "shape": [3, 1], "data": ["a", "b"]},
        {"name": "LABEL", "datatype": "BYTES", "shape": [], "data": []},
        {"name": "LABEL", "datatype": "BYTES", "shape": [3, 1], "parameters": {"binary_data_size": 4}},
    ],
)
def test_an_answer_without_a_part_for_each_row_is_not_split(output):
    assert split(_reply(output), [Pieces(1, ""), Pieces(2, "")]) is None
