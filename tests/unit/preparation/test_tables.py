"""Files of rows in every kind, encoding and packing: the same rows come out of each, and a wrong one says why."""

import csv
import gzip
import io
import json
import sys
import zipfile
from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from pyarrow import parquet

from perennial.continual.errors import DataError, RowsRefused
from perennial.continual.preparation import FileReading, Role, read_labelled_file, read_table
from perennial.continual.preparation.tables import content, delimited
from perennial.continual.preparation.tables import parquet as tables_parquet

pytestmark = pytest.mark.slow

ENGLISH = [("one, two; three | four", "a"), ('he said "no"\nand left', "b"), ("Über café — naïve", "a")]
CHINESE = [("我的银行卡丢了，怎么办？", "挂失"), ("为什么我的余额不对", "查询"), ("请帮我冻结这张卡", "挂失")] * 5
ROLES = (Role("text"), Role("label"))


def as_csv(rows: list[tuple[str, str]], delimiter: str = ",", end: str = "\n", header: str = "text,label") -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end)
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue()


def as_json(rows: list[tuple[str, str]]) -> str:
    return json.dumps([{"text": text, "label": label} for text, label in rows], ensure_ascii=False, indent=1)


def as_lines(rows: list[tuple[str, str]]) -> str:
    return "\n".join(json.dumps({"text": text, "label": label}) for text, label in rows) + "\n"


def as_columns(rows: list[tuple[str, str]]) -> str:
    return json.dumps({"text": [text for text, _ in rows], "label": [label for _, label in rows]})


def as_parquet(rows: list[tuple[str, str]]) -> bytes:
    out = io.BytesIO()
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    parquet.write_table(table.append_column("vector", pa.array([[1.0, 2.0]] * len(rows))), out)
    return out.getvalue()


def as_workbook(rows: Sequence[tuple[str, object]], title: str = "Rows", others: tuple[str, ...] = ()) -> bytes:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = title
    sheet.append([])  # people leave rows empty above a table
    for row in [("text", "label"), *rows]:
        sheet.append(row)
    for other in others:
        book.create_sheet(other).append(["note"])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def named(value: object) -> str | None:
    """A test's name by its words alone: packed bytes hold the time."""
    return None if isinstance(value, str) else type(value).__name__


def zipped(data: bytes, **others: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/rows.dat", data)
        archive.writestr("__MACOSX/folder/._rows.dat", b"\0")
        for name, more in others.items():
            archive.writestr(name, more)
    return out.getvalue()


def zip_of(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def spoilt(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(data, asbytes=True)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    assert packed[:4] == sink.getvalue().to_pybytes()[:4]
    framed: bytes = sink.getvalue().to_pybytes()
    return framed


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzipped,
    ".zst": zstd,
    ".zip": zipped,
}
KINDS: dict[str, Callable[[list[tuple[str, str]]], bytes]] = {
    "rows.csv": lambda rows: as_csv(rows).encode(),
    "semicolon.csv": lambda rows: as_csv(rows, ";", "\r\n").encode(),
    "pipe.txt": lambda rows: as_csv(rows, "|").encode(),
    "rows.tsv": lambda rows: as_csv(rows, "\t").encode(),
    "excel.csv": lambda rows: b"sep=;\r\n" + as_csv(rows, ";", "\r\n").encode(),
    "mac.csv": lambda rows: as_csv(rows, end="\r").encode(),
    "marked.csv": lambda rows: as_csv(rows).encode("utf-8-sig"),
    "wide.csv": lambda rows: as_csv(rows, "\t").encode("utf-16"),
    "wide-le.csv": lambda rows: as_csv(rows).encode("utf-16-le"),
    "wide-be.csv": lambda rows: as_csv(rows).encode("utf-16-be"),
    "widest.csv": lambda rows: as_csv(rows).encode("utf-32"),
    "rows.json": lambda rows: as_json(rows).encode(),
    "wide.json": lambda rows: as_json(rows).encode("utf-16"),
    "inside.json": lambda rows: b'{"version": 1, "data": ' + as_json(rows).encode() + b"}",
    "columns.json": lambda rows: as_columns(rows).encode(),
    "rows.jsonl": lambda rows: as_lines(rows).encode(),
    "rows.parquet": as_parquet,
    "rows.xlsx": as_workbook,
    "no-ending": as_parquet,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [ENGLISH, CHINESE], ids=["english", "chinese"])
def test_the_same_rows_come_out_of_every_kind(
    tmp_path: Path, rows: list[tuple[str, str]], kind: str, packing: str
) -> None:
    path = tmp_path / f"{kind}{packing}"
    path.write_bytes(PACKINGS[packing](KINDS[kind](rows)))
    read = read_table(path, ROLES)
    assert [(row.fields["text"].replace("\r", "\n"), row.fields["label"], row.problem) for row in read.rows] == [
        (*row, None) for row in rows
    ]
    assert read.columns[:2] == ("text", "label")


@pytest.mark.parametrize("encoding", ["gb18030", "gbk", "gb2312"])
def test_simplified_chinese_needs_no_statement(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(as_csv(CHINESE).encode(encoding))
    assert [row.text for row in read_labelled_file(path)] == [text for text, _ in CHINESE]


@pytest.mark.parametrize(
    ("encoding", "rows", "guess"),
    [
        ("latin-1", [("Die Karte für meine Schwester ist verlören", "verlust"), ("größer", "x")], ""),
        ("cp1252", [("L'été a été très “chaud” à la plage", "météo"), ("déjà vu à Noël", "x")], ""),
        ("big5", [("我的銀行卡遺失了怎麼辦", "掛失"), ("為什麼我的餘額不對呢", "查詢")] * 9, "big5|cp950|big5hkscs"),
        (
            "euc_kr",
            [("카드를 잃어버렸는데 어떻게 해야 하나요", "분실"), ("잔액이 맞지 않습니다", "조회")] * 9,
            "cp949|euc-kr|johab",
        ),
        (
            "shift_jis",
            [("カードをなくしました。どうすればいいですか", "紛失"), ("残高が違います", "照会")] * 9,
            "cp932|shift-jis",
        ),
        (
            "euc_jp",
            [("カードをなくしました。どうすればいいですか", "紛失"), ("残高が違います", "照会")] * 9,
            "",
        ),
    ],
)
def test_what_bytes_alone_do_not_tell_is_refused_until_it_is_stated(
    tmp_path: Path, encoding: str, rows: list[tuple[str, str]], guess: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(as_csv(rows).encode(encoding))
    with pytest.raises(DataError, match=rf"rows.csv line 2: byte \d+ is not UTF-8 \(0x..\); .*--encoding ({guess})"):
        read_labelled_file(path)
    stated = read_labelled_file(path, reading=FileReading(encoding=encoding))
    assert [row.label for row in stated] == [label for _, label in rows]


@pytest.mark.parametrize(
    ("content", "reading", "words"),
    [
        (b"Body,Topic\na,b\n", {}, r"has the columns 'Body', 'Topic'; .*--column text=Body --column label=Topic"),
        (b"Sentence,Class id\na,b\n", {}, r"--column text=Sentence --column label='Class id'"),
        ("正文,类别\na,b\n".encode(), {}, r"has the columns '正文', '类别'"),
        (b"I lost my card,lost_card\nwhere is it,card_arrival\n", {}, "is no header, put one above it: text,label"),
        (b"text,label,category\na,b,c\n", {}, "'label' and 'category' could both hold the label; say which: --column"),
        (b"text,Text,label\na,b,c\n", {}, "'text' appears more than once"),
        (
            b"Body,Topic\na,b\n",
            {"columns": {"text": "Boby"}},
            r"no column 'Boby' .*'Body', 'Topic'; did you mean 'Body'",
        ),
        (b"Body,Topic\na,b\n", {"columns": {"txt": "Body"}}, "role that this command does not know; it knows text"),
        (b"text,label\na,b\n", {"columns": {"label": "text"}}, "would be both text and label"),
        (b"text,label\na,b\n", {"encoding": "klingon"}, "encoding 'klingon' is not known"),
        (b"text,label\na,b\n", {"encoding": "rot13"}, "encoding 'rot13' is none of texts"),
        (b"text,label\na,b\n", {"encoding": "utf-16"}, "UTF-16|utf-16"),
        (b"text,label\na,b\n", {"delimiter": "::"}, "delimiter '::' is not allowed"),
        (b"text,label\nhello, my card,b\n", {}, "line 2: 3 fields, but the header has 2; put quotes .* holds a comma"),
        (b"text;label\nhello; my card;b\n", {}, "line 2: 3 fields, .* holds a semicolon"),
        (b'text,label\na,b\n"open,b\nc,d\n', {}, "line 3: a field that begins .* never ends"),
        (b'text,label\n"a ""b"" c",x\n"a "b" c",x\n', {}, r"line 3: .* written twice \(\"\"\)"),
        (b'text,label\n"one\ntwo",a\n,b\n', {}, "line 4: column 'text' is empty"),
        (b'{"text": "a"', {}, "line 1 is not JSON"),
        (b'[{"text": "a", "label": "b"}, "c"]', {}, "row 2 is a text; each must be an object"),
        (b'{"text": "a", "label": "b"}\n{"text": "a", "label":\n', {}, "line 2: is no JSON object"),
        (b'{"text": "a", "label": "b"}\n[1]\n', {}, "line 2: is a list"),
        (b'{"text": ["a"], "label": "b"}\n{"text": "a", "label": "b"}', {}, "line 1: column 'text' holds a list"),
        (b'[{"text": "a", "text": "b", "label": "c"}]', {}, "an object names 'text' twice; rename one"),
        (b'{"model": "x", "weights": {}}\n', {}, r"has the columns 'model', 'weights'"),
        (b"[" * 100_000, {}, "nested too deeply"),
        (b"[]", {}, "holds no rows"),
        (b"", {}, "is empty; it needs a header line such as: text,label"),
        (b",,\n,,\n", {}, "holds nothing but empty fields"),
        (b'""\n', {}, "holds nothing but empty fields"),
        (b"text,label\na,b\n", {"encoding": "undefined"}, "rows.csv cannot be read as undefined"),
        (b"%PDF-1.7 ...", {}, "is a PDF; export"),
        (b"\n<!DOCTYPE html><html>", {}, "is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", {}, "git lfs pull"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "save it as .xlsx or CSV"),
        (b"\x1f\x8b\x08\x00junk", {}, "damaged gzip file"),
        (gzipped(b"text,label\na,b\n" * 99)[:-9], {}, "damaged gzip file"),
        (zstd(b"text,label\na,b\n" * 99)[:-9], {}, "damaged zstd file"),
        (zipped(b"text,label\na,b\n")[:40], {}, "damaged zip file"),
        (zipped(b"text,label\na,b\n", other=b"x"), {}, "holds 2 files: 'folder/rows.dat', 'other'; unpack it"),
        (gzipped(gzipped(b"text,label\na,b\n")), {}, "packed twice"),
        (b"PAR1 and nothing else", {}, "damaged Parquet file"),
        (as_parquet(ENGLISH)[:-20] + b"x" * 16 + b"PAR1", {}, "damaged Parquet file"),
        (as_workbook(ENGLISH, others=("Notes",)), {}, "2 sheets with rows: 'Rows', 'Notes'; say which: --sheet 'Rows'"),
        (as_workbook(ENGLISH), {"sheet": "Row"}, "no sheet 'Row'; its sheets are 'Rows'"),
        (as_workbook([("a", "b"), ("c", "")]), {}, r"row 4: column 'label' is empty"),
        (as_workbook([("a", "b"), ("c", "#N/A")]), {}, r"row 4: column 'label' holds #N/A, the error of a formula"),
        (zip_of(("mimetype", b"x"), ("content.xml", b"<x/>")), {}, "is an OpenDocument file; save it as .xlsx or CSV"),
        (zip_of(("xl/workbook.bin", b"x"), ("xl/a.bin", b"y")), {}, "is a binary Excel file; save it as .xlsx or CSV"),
        (zip_of(("\x1b[2J\u202e\n.csv", b"a,b\n")), {}, r"rows\.csv \(\\x1b\[2J\\u202e\\n\.csv\) has the columns"),
        *(
            (spoilt(zip_of(("a.csv", b"text,label\na,b\n" * 99), how=how), place), {}, "damaged zip file")
            for how in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
            for place in (50, 60)
        ),
    ],
    ids=named,
)
def test_a_wrong_file_says_what_is_wrong_and_what_to_do(
    tmp_path: Path, content: bytes, reading: dict[str, object], words: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_labelled_file(path, reading=FileReading(**reading))  # type: ignore[arg-type]
    assert (
        "rows.csv" in str(caught.value)
        or "encoding" in words
        or "delimiter" in words
        or "--column" in str(caught.value)
    )
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("content", "reading"),
    [
        (b"Body,Topic,label\na b,x,0\n", {"columns": {"text": "Body", "label": "topic"}}),
        (b"a,Body,Topic\n1,a b,x\n", {"columns": {"text": "Body", "label": "Topic"}}),
        (b"text#label\na b#x\n", {"delimiter": "#"}),
        (b"text\tlabel\na b\tx\n", {"delimiter": "tab"}),
        (b'text,"label"\r\n"a b","x"\r\n\r\n', {}),
        (b"\xef\xbb\xbftext,label\na b,x\n", {"encoding": "utf-8"}),
        (as_workbook([("a b", "x")], others=("Notes",)), {"sheet": "Rows"}),
    ],
)
def test_what_the_user_states_is_followed(tmp_path: Path, content: bytes, reading: dict[str, object]) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    rows = read_labelled_file(path, reading=FileReading(**reading))  # type: ignore[arg-type]
    assert [(row.text, row.label) for row in rows] == [("a b", "x")]


def test_tab_separated_files_without_quotes_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"Yes" he said\tx\nit is 5" long\tx\n"open\tx\n', encoding="utf-8")
    assert [row.text for row in read_labelled_file(path)] == ['"Yes" he said', 'it is 5" long', '"open']


def test_labels_that_are_numbers_are_read_alike_everywhere(tmp_path: Path) -> None:
    rows = [("a b", 3), ("c d", 4)]
    whole, floats = (
        pa.table({"text": ["a b", "c d"], "label": [3, 4]}),
        pa.table({"text": ["a b", "c d"], "label": [3.0, 4.0]}),
    )
    parquet.write_table(whole, tmp_path / "whole.parquet")
    parquet.write_table(floats, tmp_path / "floats.parquet")
    (tmp_path / "rows.csv").write_text("text,label\na b,3\nc d,4\n")
    (tmp_path / "rows.json").write_text(json.dumps([{"text": text, "label": label} for text, label in rows]))
    (tmp_path / "rows.xlsx").write_bytes(as_workbook(rows))  # type: ignore[arg-type]
    for path in sorted(tmp_path.iterdir()):
        assert [row.label for row in read_labelled_file(path)] == ["3", "4"], path


def test_parquet_of_a_data_set_with_class_names_has_their_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["fee", "loss"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
    table = pa.table({"text": ["a", "b"], "label": [1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "rows.parquet")
    assert [row.label for row in read_labelled_file(tmp_path / "rows.parquet")] == ["loss", "fee"]


@pytest.mark.parametrize(("number", "problem"), [(-1, "label"), (2, "row 2 is of class 2, and the file names 2")])
def test_a_class_number_without_a_name_makes_no_class(tmp_path: Path, number: int, problem: str) -> None:
    features = {"label": {"names": ["fee", "loss"], "_type": "ClassLabel"}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, number, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=problem) as refused:
        read_labelled_file(tmp_path / "rows.parquet")
    assert "row 2" in str(refused.value)


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_a_space_after_a_delimiter_is_no_part_of_a_quoted_field(tmp_path: Path, delimiter: str) -> None:
    rows = [f"text{delimiter} label", f'"one{delimiter} two"{delimiter} "a ""b"""', f"three{delimiter} 丢失"]
    (tmp_path / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
    read = [(row.text, row.label) for row in read_labelled_file(tmp_path / "rows.csv")]
    assert read == [(f"one{delimiter} two", 'a "b"'), ("three", "丢失")]


def test_a_quotation_mark_after_a_space_may_be_a_sign_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('text| label\n1 | a\n "so" he said | b\n')
    assert [row.text for row in read_labelled_file(tmp_path / "rows.csv")] == ["1", '"so" he said']
    (tmp_path / "rows.csv").write_text('text, label\n"so" he said, a\nno, "b"\n')
    with pytest.raises(DataError, match="line 2"):
        read_labelled_file(tmp_path / "rows.csv")


def test_a_day_in_a_workbook_has_no_time(tmp_path: Path) -> None:
    rows = [("one", date(2026, 1, 2)), ("two", datetime.fromisoformat("2026-01-02T08:30"))]
    (tmp_path / "rows.xlsx").write_bytes(as_workbook(rows))
    assert [row.label for row in read_labelled_file(tmp_path / "rows.xlsx")] == ["2026-01-02", "2026-01-02T08:30:00"]


def test_a_field_that_is_too_long_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_LONGEST_FIELD", 1_000)
    (tmp_path / "rows.csv").write_text(f"text,label\n{'long ' * 500},a\n")
    with pytest.raises(DataError, match="line 2: a field here has more than 1,000 characters"):
        read_labelled_file(tmp_path / "rows.csv")


@pytest.mark.parametrize("hidden", ["\ufeff", "\u200b", "\u2060", "\u00a0 "])
def test_signs_that_nobody_sees_are_no_part_of_a_columns_name(tmp_path: Path, hidden: str) -> None:
    (tmp_path / "rows.csv").write_text(f"\ufeff{hidden}text,{hidden}label\none,a\n", encoding="utf-8")
    (tmp_path / "rows.json").write_text(json.dumps([{f"{hidden}text": "one", f"label{hidden}": "a"}]))
    for path in sorted(tmp_path.iterdir()):
        assert [(row.text, row.label) for row in read_labelled_file(path)] == [("one", "a")], path


def test_fields_between_single_quotes_are_refused_and_apostrophes_are_not(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nis it 'so',a\n'tis so,b\n")
    assert len(read_labelled_file(path)) == 2
    path.write_text("text,label\n'one','pin'\n'two','card'\n")
    with pytest.raises(DataError, match="every text stands between single quotes, such as 'one'; CSV quotes"):
        read_labelled_file(path)


@pytest.mark.parametrize("encoding", ["idna", "punycode", "unicode_escape", "raw-unicode-escape", "utf-7"])
def test_what_only_programs_write_is_no_encoding_of_a_file(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na \\n b,c\n")
    with pytest.raises(DataError, match="is none of texts"):
        read_labelled_file(tmp_path / "rows.csv", reading=FileReading(encoding=encoding))


def test_an_infinite_number_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": 1e999}\n{"text": "b", "label": 1}\n')
    with pytest.raises(DataError, match="an infinite number"):
        read_labelled_file(tmp_path / "rows.jsonl")


def test_spaces_beside_a_table_of_a_workbook_are_no_cells(tmp_path: Path) -> None:
    book = Workbook()
    assert book.active is not None
    for row in (["text", "label"], ["one", "a", " "]):
        book.active.append(row)
    book.save(tmp_path / "rows.xlsx")
    assert [row.text for row in read_labelled_file(tmp_path / "rows.xlsx")] == ["one"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_that_repeat_over_many_batches_of_parquet_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr(content, "_FREE", 1 << 18)
    monkeypatch.setattr(content, "_MOST_GROWTH", 20)
    monkeypatch.setattr(tables_parquet, "_BATCH_ROWS", 100)
    words = [f"{n} {'word ' * 20}" for n in range(1_000)]
    texts = [words[n % len(words)] for n in range(20_000)]
    table = pa.table({"text": pa.array(texts, kind), "label": pa.array(["a", "b"] * 10_000, kind)})
    parquet.write_table(table, tmp_path / "rows.parquet")
    read = read_table(tmp_path / "rows.parquet", ROLES)
    assert [row.fields["text"] for row in read.rows] == [text.strip() for text in texts]
    bomb = pa.table({"text": pa.array(["a" * 4_000_000], kind), "label": ["x"]})
    parquet.write_table(bomb, tmp_path / "bomb.parquet", compression="zstd")
    with pytest.raises(DataError, match="unpacks to more than"):
        read_table(tmp_path / "bomb.parquet", ROLES)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array([-(10**17)] * 3, pa.timestamp("us")), "damaged Parquet file"),
        (pa.array([1] * 3, pa.timestamp("s", "Mars/Phobos")), "damaged Parquet file"),
    ],
)
def test_times_that_no_calendar_has_are_refused(tmp_path: Path, values: pa.Array, words: str) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "at": values})
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=words):
        read_labelled_file(tmp_path / "rows.parquet")


def test_a_parquet_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    whole, path = as_parquet(ENGLISH * 3), tmp_path / "rows.parquet"
    for place in range(max(4, len(whole) - 700), len(whole) - 4):
        path.write_bytes(spoilt(whole, place))
        try:
            read_table(path, ROLES)
        except DataError as error:
            assert "rows.parquet" in str(error)  # noqa: PT017 - whether it is refused depends on the byte


def test_standard_input_is_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(b"text,label\na b,x\n"))))
    assert [row.text for row in read_labelled_file("-")] == ["a b"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text\na\n")))
    with pytest.raises(DataError, match="standard input has the columns 'text'"):
        read_labelled_file("-")


def test_a_folder_offers_its_files(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"is a folder; give one of its files: 'train.csv'"):
        read_labelled_file(tmp_path)


@pytest.mark.parametrize("pack", [gzipped, zstd, zipped])
def test_a_bomb_is_defused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]) -> None:
    monkeypatch.setattr(content, "_FREE", 1 << 16)
    path = tmp_path / "bomb"
    path.write_bytes(pack(b"text,label\n" + b"\0" * (8 << 20)))
    assert path.stat().st_size < 12_000
    with pytest.raises(DataError, match="unpacks to more than"):
        read_labelled_file(path)


def test_a_workbook_that_is_a_bomb_is_defused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_FREE", 1 << 16)
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(as_workbook([("a" * 30_000, "x")] + [("b", "x")] * 9))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/theme/more.xml", b" " * (16 << 20))
    with pytest.raises(DataError, match="unpacks to more than"):
        read_labelled_file(path)


def test_wrong_rows_of_every_kind_are_named_and_leave_their_neighbours(tmp_path: Path) -> None:
    rows = [("one", "a"), ("", "a"), ("two", "b" * 300), ("three", "a")]
    for name in ("rows.csv", "rows.jsonl", "rows.parquet", "rows.xlsx"):
        path, refused = tmp_path / name, list[dict[str, object]]()
        path.write_bytes(KINDS[name](rows))
        assert [row.text for row in read_labelled_file(path, refused=refused)] == ["one", "three"]
        assert len(refused) == 2, name
        with pytest.raises(RowsRefused, match=r"2 of 4 rows are wrong: (line|row) \d: column 'text'"):
            read_labelled_file(path)


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1).filter(
                lambda t: t.strip()
            ),
            st.text("abc", min_size=1),
        ),
        min_size=1,
    ),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_text_comes_back_whatever_delimits_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str, encoding: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "rows.csv"
    path.write_bytes(as_csv(rows, delimiter).encode(encoding))
    assert [(row.fields["text"], row.fields["label"]) for row in read_table(path, ROLES).rows] == [
        (text.strip(), label) for text, label in rows
    ]
