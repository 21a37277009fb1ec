"""Tables in the forms that other programs write them: read as they are meant, or refused with the line and the fix."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.chart import BarChart, Reference

from perennial.continual.errors import DataError
from perennial.continual.preparation import FileReading, KnownLabels, read_labelled_file

ROWS = [("where is my card", "arrival"), ("I lost it | help", "loss"), ("my card was stolen", "theft")]
PLAIN = [(text.replace(" | ", " "), label) for text, label in ROWS]


def _frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["text", "label"], index=["a", "b", "c"])


def _lines(rows: list[tuple[str, str]], sign: str = ",") -> str:
    return "".join(f"{text}{sign}{label}\n" for text, label in rows)


def _read(folder: Path, content: str | bytes, name: str = "rows.csv", **stated: Any) -> list[tuple[str, str]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.text, row.label) for row in read_labelled_file(path, reading=FileReading(**stated))]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("orient", ["split", "index", "columns", "table", "records", "tight"])
def test_json_of_pandas_is_read_however_it_is_oriented(tmp_path: Path, orient: str, indent: int | None) -> None:
    frame = _frame()
    text = (
        json.dumps(frame.to_dict(orient), indent=indent)
        if orient == "tight"
        else frame.to_json(orient=orient, indent=indent)
    )
    assert _read(tmp_path, text, "rows.json") == ROWS


def test_columns_of_pandas_are_columns_under_any_name(tmp_path: Path) -> None:
    frame = _frame().reset_index(drop=True).set_axis(["utterance", "kind"], axis=1)
    with pytest.raises(DataError, match=r"has the columns 'utterance', 'kind'"):
        _read(tmp_path, frame.to_json(), "rows.json")
    columns = {"text": "utterance", "label": "kind"}
    assert _read(tmp_path, frame.to_json(), "rows.json", columns=columns) == ROWS


@pytest.mark.parametrize("names", ["abc", "123"])
def test_rows_whose_columns_are_numbers_stay_rows(tmp_path: Path, names: str) -> None:
    text = pd.DataFrame(ROWS, index=list(names)).to_json(orient="index")
    if names == "abc":
        assert _read(tmp_path, text, "rows.json", columns={"text": "0", "label": "1"}) == ROWS
    with pytest.raises(DataError, match=r"has the columns '0', '1'" if names == "123" else r"has the columns 'a', 'b'"):
        _read(tmp_path, text, "rows.json")


def test_a_column_that_is_named_twice_beside_its_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'text' appears more than once in 'text', 'text', 'label'; rename one"):
        _read(tmp_path, '{"columns": ["text", "text", "label"], "data": [["a", "b", "x"]]}', "rows.json")


def test_a_row_of_another_width_than_the_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2 has 1 values, and there are 2 columns"):
        _read(tmp_path, '{"columns": ["text", "label"], "data": [["a", "x"], ["b"]]}', "rows.json")


@pytest.mark.parametrize(
    "above",
    [
        "My labelled requests\n",
        "My labelled requests,\n",
        "Export of 2026-11-28\n\n",
        "# made by me, on Monday\n# and again\n",
        "sep=,\n",
        '"sep=,"\r\n',
        "SEP=, \n",
    ],
)
def test_titles_and_remarks_above_the_header_are_passed_over(tmp_path: Path, above: str) -> None:
    assert _read(tmp_path, f"{above}text,label\n{_lines(PLAIN)}# not a remark,x\n") == [*PLAIN, ("# not a remark", "x")]


def test_a_remark_above_tabs_does_not_hide_the_delimiter(tmp_path: Path) -> None:
    assert _read(tmp_path, "# a, b, c\ntext\tlabel\none, two\tx\n", "rows.tsv") == [("one, two", "x")]


@given(
    above=st.lists(st.tuples(*2 * [st.text("ab", min_size=1, max_size=3)]).map(",".join), min_size=1, max_size=3).map(
        "\n".join
    )
)
def test_rows_above_a_header_are_never_dropped(tmp_path_factory: pytest.TempPathFactory, above: str) -> None:
    line = above.count("\n") + 2
    with pytest.raises(DataError, match=rf"line {line} looks like the header, but line 1 holds other cells"):
        _read(tmp_path_factory.mktemp("rows"), f"{above}\ntext,label\nc,y\n")


@pytest.mark.parametrize("sign", [",", "\t", " "])
def test_row_numbers_that_the_header_does_not_name_are_no_texts(tmp_path: Path, sign: str) -> None:
    rows = "".join(f'"{n}"{sign}"{text}"{sign}"{label}"\n' for n, (text, label) in enumerate(PLAIN, start=1))
    assert _read(tmp_path, f'"text"{sign}"label"\n{rows}') == PLAIN


@pytest.mark.parametrize("header", ["label,text", '"label","text"'])
def test_a_number_before_a_comma_without_quotes_is_no_number_of_a_row(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"every row has one field more .* or put quotes around a field"):
        _read(tmp_path, f"{header}\n1,Hi, there\n2,Bye, now\n")
    with pytest.raises(DataError, match=r"every row has one field more .* or put quotes around a field"):
        _read(tmp_path, 'label,text\n"1",Hi, there\n"2",Bye, now\n')


def test_a_space_between_fields_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: 4 fields, .* put quotes around a field that holds a space"):
        _read(tmp_path, '"text" "label"\n"1" "a" "b" "x"\n')


@pytest.mark.parametrize("rows", ["a,where is it,x\nb,I lost it,y\n", "well, where is it,x\nhelp, I lost it,y\n"])
def test_rows_that_are_all_wider_than_the_header_get_both_fixes(tmp_path: Path, rows: str) -> None:
    with pytest.raises(
        DataError, match=r"every row has one field more .* 'row,text,label', or put quotes around a field"
    ):
        _read(tmp_path, f"text,label\n{rows}")


@pytest.mark.parametrize("begin", ["<!DOCTYPE html>", "<HTML>", "\ufeff<table border=1>", "\n<html xmlns:x='y'>"])
def test_a_table_of_a_web_page_is_refused_with_the_fix(tmp_path: Path, begin: str) -> None:
    with pytest.raises(DataError, match=r"is a web page; .* a table of a page is saved as CSV"):
        _read(tmp_path, f"{begin}<table><tr><td>text</td></tr></table>", "rows.xls")


def _book(make: Callable[[Workbook], None]) -> bytes:
    book, out = Workbook(), io.BytesIO()
    make(book)
    book.save(out)
    return out.getvalue()


def _fill(sheet: object, *rows: tuple[object, ...]) -> None:
    for row in rows:
        sheet.append(row)  # type: ignore[attr-defined]


def _chart(book: Workbook, place: int) -> None:
    chart = BarChart()
    chart.add_data(Reference(book.worksheets[0], min_col=2, min_row=1, max_row=2))
    book.create_chartsheet("Chart", place).add_chart(chart)


def _chart_first(book: Workbook) -> None:
    _fill(book.active, ("text", "label"), *ROWS)
    _chart(book, 0)


def _titled(book: Workbook) -> None:
    _fill(book.active, ("My requests",), (), ("text", "label"), *ROWS)


def _empty_first(book: Workbook) -> None:
    _fill(book.create_sheet("Rows"), ("text", "label"), *ROWS)


@pytest.mark.parametrize("make", [_chart_first, _titled, _empty_first])
def test_a_workbook_is_read_past_charts_titles_and_empty_sheets(
    tmp_path: Path, make: Callable[[Workbook], None]
) -> None:
    assert _read(tmp_path, _book(make), "rows.xlsx") == ROWS


def _only_chart(book: Workbook) -> None:
    _chart(book, 1)
    book.remove(book.worksheets[0])


def _note_first(book: Workbook) -> None:
    _fill(book.active, ("Please read this",))
    _empty_first(book)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_only_chart, "has no sheet with cells, only 'Chart'"),
        (_note_first, "2 sheets with rows: 'Sheet', 'Rows'; say which: --sheet 'Rows'"),
        (
            lambda book: _fill(book.active, ("x", "y"), ("text", "label"), *ROWS),
            r"\(sheet 'Sheet'\) row 2 looks like the header, but row 1 holds other cells",
        ),
    ],
)
def test_a_workbook_that_is_not_clear_says_why(tmp_path: Path, make: Callable[[Workbook], None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path, _book(make), "rows.xlsx")


@pytest.mark.parametrize("error", ["#N/A", "#REF!", "#¿NOMBRE?"])
def test_the_error_of_a_formula_is_no_text_and_no_class(tmp_path: Path, error: str) -> None:
    with pytest.raises(DataError, match=rf"line 2: its label is {error.replace('?', '.')}, the error of a formula"):
        _read(tmp_path, f"text,label\na,{error}\n")
    with pytest.raises(DataError, match=r"column 'text' holds .*, the error of a formula"):
        _read(tmp_path, _book(lambda book: _fill(book.active, ("text", "label"), (error, "x"))), "rows.xlsx")


@pytest.mark.parametrize("word", ["#NV", "#N/D"])
def test_a_word_that_is_an_error_in_sheets_alone_is_a_class_elsewhere(tmp_path: Path, word: str) -> None:
    assert _read(tmp_path, f"text,label\na,{word}\n") == [("a", word)]
    with pytest.raises(DataError, match=r"column 'label' holds .*, the error of a formula"):
        _read(tmp_path, _book(lambda book: _fill(book.active, ("text", "label"), ("a", word))), "rows.xlsx")


WORDS = [("None", "NA"), ("null", "NaN"), ("NA", "None"), ("nan", "null"), ("N/A", "n/a")]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "xlsx"])
def test_words_that_programs_take_for_nothing_are_texts_and_classes(tmp_path: Path, kind: str) -> None:
    frame, out = pd.DataFrame(WORDS, columns=["text", "label"]), io.BytesIO()
    if kind == "csv":
        frame.to_csv(out, index=False)
    elif kind == "json":
        frame.to_json(out, orient="records")
    elif kind == "parquet":
        frame.to_parquet(out)
    else:
        out.write(_book(lambda book: _fill(book.active, ("text", "label"), *WORDS)))
    assert _read(tmp_path, out.getvalue(), f"rows.{kind}") == WORDS


@pytest.mark.parametrize("pair", [("１", "1"), ("True", "TRUE"), ("1.5", "１.5")])
def test_one_value_written_twice_is_one_class_or_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    first, second = pair
    with pytest.raises(DataError, match=r"line 3: label .* differs from the known .* only in case or form; send "):
        _read(tmp_path, f"text,label\na,{first}\nb,{second}\n")
    assert KnownLabels(["1.5", "1"]).admit("1.05") == "1.05"


@pytest.mark.parametrize("pair", [("1", "1.0"), ("1.0", "1"), ("-2.00", "-2"), ("0.0", "0")])
def test_a_whole_number_is_the_known_label_however_it_is_written(tmp_path: Path, pair: tuple[str, str]) -> None:
    first, second = pair
    assert _read(tmp_path, f"text,label\na,{first}\nb,{second}\n") == [("a", first), ("b", first)]
    both = KnownLabels(pair)
    assert (both.admit(f" {first}"), both.admit(f" {second}")) == pair


@pytest.mark.parametrize("kind", ["json", "parquet", "xlsx"])
def test_a_model_that_knows_a_fraction_of_nought_takes_its_numbers(tmp_path: Path, kind: str) -> None:
    path, frame = tmp_path / f"rows.{kind}", pd.DataFrame({"text": ["a", "b"], "label": [1.0, 2.0]})
    if kind == "json":
        frame.to_json(path, orient="records")
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_excel(path, index=False)
    known = KnownLabels(["1.0", "2.0"])
    assert [row.label for row in read_labelled_file(path, known=known)] == ["1.0", "2.0"]


def test_labels_of_any_kind_are_kept_in_one_form(tmp_path: Path) -> None:
    names = {"card/lost": "card/lost", '"card\nlost"': "card lost", "💳 lost": "💳 lost", " \u3000x\u00a0": "x"}
    names |= {"../../x": "../../x", "=cmd()": "=cmd()", "y" * 200: "y" * 200, "２": "２"}
    rows = [(f"text {n}", written) for n, written in enumerate(names)]
    assert [label for _, label in _read(tmp_path, f"text,label\n{_lines(rows)}")] == list(names.values())
    with pytest.raises(DataError, match=r"line 2: label .* has 201 characters; .* so shorten it"):
        _read(tmp_path, f"text,label\na,{'y' * 201}\n")


CODE_PAGES = {
    "cp1256": ["أين بطاقتي المصرفية", "لقد فقدت بطاقتي", "هل تمت سرقتها"],
    "cp1255": ["איפה הכרטיס שלי", "איבדתי את הכרטיס", "הכרטיס נגנב"],
    "shift_jis": ["私のカードはどこですか", "残高照会", "暗証番号変更"],
    "euc-jp": ["私のカードはどこですか", "残高照会", "暗証番号変更"],
    "euc-kr": ["내 카드는 어디에 있나요", "카드를 잃어버렸어요", "잔액 조회"],
    "big5": ["我的銀行卡在哪裡", "我的卡遺失了", "餘額查詢"],
    "cp874": ["บัตรของฉันอยู่ที่ไหน", "ฉันทำบัตรหาย", "ถูกขโมย"],
    "cp1254": ["kartım nerede", "kartımı kaybettim", "çalındı"],
    "koi8-r": ["где моя карта", "я потерял карту", "изменить пароль"],
    "gb18030": ["我的银行卡在哪里呢", "我的银行卡丢失了", "有人偷了我的卡"],
}


@pytest.mark.parametrize("encoding", CODE_PAGES)
@pytest.mark.parametrize("times", [1, 2, 8])
def test_a_code_page_is_read_as_stated_and_else_never_as_another(tmp_path: Path, encoding: str, times: int) -> None:
    rows = [(text, "x") for text in CODE_PAGES[encoding]] * times
    for chosen in (rows, *([row] for row in rows[:3])):
        content = f"text,label\n{_lines(chosen)}".encode(encoding)
        assert _read(tmp_path, content, encoding=encoding) == chosen
        assert _found_out(tmp_path, content) in (chosen, [])


def _found_out(folder: Path, content: bytes) -> list[tuple[str, str]]:
    """The rows of a file whose encoding is not stated; none where it is refused, with the line and a guess."""
    try:
        return _read(folder, content)
    except DataError as error:
        if re.search(r"line 2: byte .* state its encoding: --encoding [a-z0-9-]+, if this line is right", str(error)):
            return []
        raise


def test_the_line_to_judge_an_encoding_by_shows_the_byte_in_question(tmp_path: Path) -> None:
    content = f"text,label\n{'please ' * 20}caf\xe9 closed,x\n".encode("latin-1")
    with pytest.raises(DataError, match=r"line 2: .* if this line is right then: '.*please caf. closed,x'"):
        _read(tmp_path, content)
