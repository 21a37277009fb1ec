"""A newcomer's first hour: kinds of files and mistakes, each with the answer of `perennial init --dry-run`."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from openpyxl import Workbook
from pyarrow import parquet
from typer.testing import CliRunner

from perennial.ops.cli.main import app

ROWS = [(f"where is the card number {n} that I ordered", "arrival") for n in "abcdefghij"]
ROWS += [(f"I lost the card number {n} on my way", "loss") for n in "abcdefghij"]


def _csv(delimiter: str = ",", header: str = "text,label") -> str:
    rows = [header, *(f"{text},{label}" for text, label in ROWS)]
    return "\n".join(row.replace(",", delimiter) for row in rows) + "\n"


def _lines() -> str:
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS)


def _parquet() -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}), out)
    return out.getvalue()


def _workbook(*names: str) -> bytes:
    book = Workbook()
    assert book.active is not None
    book.remove(book.active)
    for name in names:
        sheet = book.create_sheet(name)
        for row in [("text", "label"), *ROWS]:
            sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _init(path: Path, *words: str) -> Any:
    settings = str(path.parent / "perennial.toml")
    return CliRunner().invoke(app, ["init", "cards", "--data", str(path), *words, "--dry-run", "--config", settings])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("semicolons.csv", _csv(";").encode(), []),
        ("excel-export.csv", _csv("\t").encode("utf-16"), []),
        ("packed.jsonl.gz", gzip.compress(_lines().encode(), mtime=0), []),
        ("rows.parquet", _parquet(), []),
        ("book.xlsx", _workbook("Rows"), []),
        ("own-names.csv", _csv(header="Body,Topic").encode(), ["--column", "text=Body", "--column", "label=Topic"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_as_people_have_it_is_taken(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    done = _init(path, *words)
    assert done.exception is None, done.exception
    plan = json.loads(done.stdout)
    assert (plan["rows"], plan["labels"]) == (20, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "own-names.csv",
            _csv(header="Body,Topic").encode(),
            (
                "own-names.csv has the columns 'Body', 'Topic'; it needs the columns 'text' and 'label' "
                "('category' and 'intent' also name the label); rename one, or say which it is, for example: "
                "--column text=Body --column label=Topic; if its first line is no header, put one above it: text,label"
            ),
        ),
        (
            "two-labels.csv",
            b"text,label,category\nhello,0,greeting\n",
            (
                "two-labels.csv: the columns 'label' and 'category' could both hold the label; say which: "
                "--column label=label"
            ),
        ),
        (
            "comma.csv",
            b"text,label\nhello,greeting\nhello, my card is lost,loss\n",
            "comma.csv line 3: 3 fields, but the header has 2; put quotes around a field that holds a comma",
        ),
        (
            "latin.csv",
            "text,label\nmeine Karte ist verloren für immer,loss\n".encode("latin-1"),
            "latin.csv line 2: byte 37 is not UTF-8 (0xfc); save the file as UTF-8, or state its encoding: --encoding ",
        ),
        (
            "sheets.xlsx",
            _workbook("2025", "2026"),
            "sheets.xlsx has 2 sheets with rows: '2025', '2026'; say which: --sheet '2025'",
        ),
        (
            "quote.csv",
            b'text,label\nhello,greeting\n"my card,loss\n',
            (
                "quote.csv line 3: a field that begins with a quotation mark here never ends; check the quotes: "
                'close it, or write a quote inside a field twice ("")'
            ),
        ),
    ],
)
def test_a_mistake_is_answered_with_the_place_and_the_fix(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    error = _init(path).exception
    assert str(error).removeprefix(f"{tmp_path}/").startswith(message)
    assert getattr(error, "exit_code", None) == 2


def _rows(*rows: tuple[str, str]) -> bytes:
    return "".join(f"{text},{label}\n" for text, label in [("text", "label"), *ROWS, *rows]).encode()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (_rows(("is it on its way", "arival")), "labels 'arival' (1 row) and 'arrival' (10 rows) look alike"),
        (
            _rows(("it was stolen", "theft"), ("somebody took it", "theft")),
            "1 class has too few rows to be learnt: 'theft' (2 rows); add rows, or begin with `perennial learn",
        ),
        (
            _rows((ROWS[0][0], "loss")),
            f"1 text comes with more than one label, and the last one counts: '{ROWS[0][0]}' as 'loss' and 'arrival'",
        ),
        (
            _rows(*((f"{text}!", label) for text, label in ROWS)),
            "held-out rows repeat a training row but for signs and digits, so that the figures flatter: ",
        ),
        (_rows(), "20 rows, 20 of them different, 2 labels; letters: 100% Latin"),
        (_rows(), "rows are held out for proof; figures on so few are rough"),
        (
            "".join(["text,label\n", *(f"银行卡丢了怎么办{n},卡\n" for n in range(12))]).encode("gb18030")
            + "".join(f"我想问一下房贷利率{n},贷款\n" for n in range(12)).encode("gb18030"),
            "24 rows, 24 of them different, 2 labels; letters: 100% Han",
        ),
        (
            "".join(
                ["text,label\n", *(f"question {n} of class {n % 800},class {n % 800}\n" for n in range(1_600))]
            ).encode(),
            "800 classes have too few rows to be learnt: 'class 0' (2 rows), ",
        ),
    ],
    ids=["slip", "small", "contradiction", "leak", "language", "few", "gb18030", "800 classes"],
)
def test_what_is_wrong_with_rows_is_said_before_anything_is_learnt(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    done = _init(path)
    assert done.exception is None, done.exception
    assert line in done.stderr
    assert json.loads(done.stdout)["then"] == "train and publish version 1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"text,label\nhello,greeting\nbye,greeting\n",
            "2 different rows with 1 labels are too few for a first version",
        ),
        (b"", "is empty"),
        (
            b"text,label\n,greeting\nhello,\n",
            "2 of 2 rows are wrong: line 2: column 'text' is empty; fill it or drop the row; line 3: column 'label'",
        ),
        (b"%PDF-1.7\n\x00\x01\xff\xfe", "is a PDF; export its table as CSV"),
    ],
    ids=["too few", "empty", "empty fields", "no table"],
)
def test_what_cannot_begin_a_model_is_refused_in_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    done = _init(path)
    said = done.stdout + str(done.exception)
    assert message in said
    assert "Traceback" not in said + done.stderr
    assert done.exception is None or getattr(done.exception, "exit_code", None) == 2
