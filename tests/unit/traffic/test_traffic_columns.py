"""What may become a row of the traffic log, and how rows of several kinds fit into one table."""

from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from perennial.continual.errors import DataError
from perennial.ops.prediction_ids import id_time_us
from perennial.ops.traffic import columns_of, schema
from perennial.ops.traffic.columns import conform, in_order, span_us, to_batch
from perennial.ops.traffic.formats import FileFormat
from tests.component.traffic_rows import START, at, columns, row_id


def test_schema_is_the_one_that_architecture_promises() -> None:
    assert [f"{field.name} {field.type}" for field in schema(384)] == [
        "prediction_id string",
        "at timestamp[us, tz=UTC]",
        "key string",
        "version int64",
        "arm string",
        "latency_ms float",
        "redacted bool",
        "text string",
        "prediction string",
        "confidence float",
        "margin float",
        "entropy float",
        "tokens int32",
        "known bool",
        "embedding fixed_size_list<item: halffloat>[384]",
    ]
    assert schema().field("embedding").type == pa.null()
    assert list(columns_of()) == schema().names[:-1]


def test_batch_keeps_values_and_halves_embeddings() -> None:
    given = columns([0.0, 1.5], key="k") | {"embedding": np.array([[0.1, -2.0], [3.0, 0.0]])}
    batch = to_batch(given, None)
    assert batch.schema == schema(2)
    assert batch["at"].to_pylist() == [at(0.0), at(1.5)]
    assert batch["embedding"].to_pylist() == np.array([[0.1, -2.0], [3.0, 0.0]], dtype=np.float16).tolist()
    assert batch["key"].to_pylist() == ["k", "k"]


def test_batch_without_embeddings_has_nulls_of_the_given_dimension() -> None:
    assert to_batch(columns([0.0], dimension=None), 5).schema == schema(5)
    assert to_batch(columns([0.0], dimension=None), 5)["embedding"].null_count == 1
    assert to_batch(columns([0.0], dimension=None), None).schema == schema()


def test_batch_takes_numpy_and_arrow_columns() -> None:
    given = columns([0.0, 1.0])
    arrays = given | {
        "confidence": np.array([0.25, 0.5]),
        "version": np.array([3, 4]),
        "at": np.array(["2026-03-01T12:00", "2026-03-01T12:01"], dtype="datetime64[us]"),
        "prediction": pa.array(["a", "b"]),
    }
    batch = to_batch(arrays, None)
    assert batch["confidence"].to_pylist() == [0.25, 0.5]
    assert batch["at"].to_pylist() == [at(0), at(60)]
    assert batch["prediction"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": ["only one"]}, "'prediction' has 1 values for 2"),
        ({"colour": ["red", "blue"]}, "unknown ['colour']"),
        ({"confidence": ["high", "low"]}, "'confidence' doesn't hold float"),
        ({"text": ["fine", None]}, "'text' has 1 nulls of 2"),
        ({"at": [START, datetime(2026, 3, 1, 12)]}, "without a time zone"),  # noqa: DTZ001
        ({"prediction_id": ["abc", "def"]}, "prediction id 'abc'"),
        ({"prediction_id": ["not-hexadecimal!", row_id(0, 0)]}, "prediction id 'not-hexadecimal!'"),
        ({"embedding": np.zeros(2)}, "shape (2,)"),
        ({"embedding": np.zeros((3, 4))}, "shape (3, 4)"),
        ({"version": [2**70, 1]}, "'version' doesn't hold int64"),
    ],
)
def test_batch_refuses_what_is_no_row_and_names_it(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as refused:
        to_batch(columns([0.0, 1.0]) | change, None)
    assert message in str(refused.value)


def test_batch_refuses_a_missing_column() -> None:
    given = columns([0.0])
    del given["arm"]
    with pytest.raises(DataError, match=r"lack \['arm'\]"):
        to_batch(given, None)


def test_id_time_is_the_first_48_bits_in_milliseconds() -> None:
    assert id_time_us("0000000003e8" + "f" * 20) == 1_000_000
    assert id_time_us("0000000003e") is None
    assert id_time_us("zzzzzzzzzzzz") is None


def test_span_covers_ids_and_logging_times() -> None:
    first, last = span_us(to_batch(columns([5.0, 2.0, 9.0]), None))
    begin = int(START.timestamp() * 1e6)
    assert (first - begin, last - begin) == (2_000_000 - 2_000, 9_000_000)


def test_conform_keeps_the_newest_dimension_and_nulls_the_others() -> None:
    tables = [
        pa.Table.from_batches([to_batch(columns([float(i)], first=i, dimension=d), None)])
        for i, d in enumerate([2, None, 4, None])
    ]
    table = conform(tables, [*columns_of(), "embedding"])
    assert table.schema.field("embedding").type == pa.list_(pa.float16(), 4)
    assert [row is None for row in table["embedding"].to_pylist()] == [True, True, False, True]


def test_conform_of_nothing_is_an_empty_table_of_the_asked_columns() -> None:
    table = conform([], ["text", "at"])
    assert (table.num_rows, table.column_names) == (0, ["text", "at"])


def test_order_is_by_time_and_then_id() -> None:
    table = pa.table({"at": [at(1), at(0), at(0)], "prediction_id": ["a", "c", "b"]})
    assert in_order(table)["prediction_id"].to_pylist() == ["b", "c", "a"]


@pytest.mark.parametrize("number", [b"0", b"-1", b"", b"two", b"9" * 5_000])
def test_a_file_that_states_no_format_at_all_makes_no_sense(number: bytes) -> None:
    with pytest.raises(ValueError, match=r"format|invalid literal|digits"):
        FileFormat.of({b"perennial.format": number})
