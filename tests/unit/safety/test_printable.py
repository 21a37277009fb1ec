"""Nothing that comes from data acts on an operator's terminal, by whatever way a command prints it."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.ops.app.logs import JsonFormatter
from perennial.ops.cli.console import print_json, print_table, say, say_error
from perennial.ops.cli.demo import _Panel
from perennial.ops.cli.progress import stages
from perennial.ops.safety.printable import json_text, printable

HOSTILE = {
    "clears the screen": "\x1b[2J\x1b[H",
    "writes the clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "makes a link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "changes the title": "\x1b]0;root\x07",
    "one-byte sequence": "\x9b31mred\x9c",
    "one-byte string": "\x9d52;c;ZXZpbA==\x9c",
    "device control": "\x1bP1$r\x1b\\",
    "goes back": "paid\rdue ",
    "erases": "paid\x08\x08\x08\x08due",
    "bell": "\x07",
    "turns around": "\u202egnp.exe\u202c",
    "isolates": "\u2066\u2067\u2068\u2069",
    "marks": "\u200e\u200f\u061c",
    "hides": "a\u200bb\ufeffc\u2060d",
    "separates lines": "a\u2028b\u2029c\x85d",
    "vertical": "\x0b\x0c",
    "delete": "\x7f",
    "half a pair": "\ud83d",
    "tags": "\U000e0041\U000e007f",
    "nul": "\0",
}
_ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ud800-\udfff\U000e0000-\U000e0fff]"
)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_no_way_of_printing_lets_it_through(hostile: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"label {hostile}")
    say_error("DataError", hostile)
    print_json({hostile: [hostile]})
    print_table(hostile, ("text",), [[hostile], [[hostile]], [None]])
    with stages(hostile) as on_progress:
        on_progress({"stage": hostile, "done": 1, "total": 2})
    output = capsys.readouterr()
    for line in (*output.out.split("\n"), *output.err.split("\n")):
        assert not _ACTING.search(line), ascii(line)
    shown = "".join(output.out.split())
    assert printable(hostile).split()[0] in shown


def test_markup_in_data_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with stages("[red]title[/]") as on_progress:
        on_progress({"stage": "[link=http://evil.example]x[/link]"})
    say("[bold]a[/]")
    print_table("[red]t[/]", ("text",), [["[red]a[/] [/nothing]"]])
    output = capsys.readouterr()
    assert "[bold]a[/]" in output.err
    assert "[red]t[/]" in output.out
    assert "[red]a[/] [/nothing]" in output.out


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_no_log_line_lets_it_through(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("test.printable")
    monkeypatch.setattr(logger, "propagate", False)  # pytest would keep the line, and its workers cannot pass it on
    logger.addHandler(handler)
    try:
        int(hostile)
    except ValueError:
        logger.exception("event %s", hostile, extra={"text": hostile, hostile: 1})
    logger.removeHandler(handler)
    (line,) = stream.getvalue().rstrip("\n").split("\n")
    assert not _ACTING.search(line)
    assert json.loads(line)["text"] == hostile


def test_the_demos_panel_lets_nothing_through() -> None:
    from rich.console import Console

    panel = _Panel()
    for hostile in HOSTILE.values():
        panel.show("event", {"name": "route.rolled_back", "facts": {"version": 1, "reason": hostile}})
        panel.show("event", {"name": "training.progress", "facts": {"stage": hostile}})
        stream = io.StringIO()
        Console(file=stream, width=200).print(panel.render())
        assert not _ACTING.search(stream.getvalue())


def test_an_error_that_nobody_foresaw_is_cleaned_too(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom perennial.ops.cli import main\nfrom perennial.ops.cli.main import app\n"
        "@app.command()\ndef broken() -> None:\n    raise RuntimeError('\\x1b]52;c;ZXZpbA==\\x07')\nsys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "broken"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "RuntimeError: \\x1b]52" in done.stderr
    assert not _ACTING.search(done.stderr.replace("\n", ""))


@given(st.text(st.characters(exclude_categories=())))
def test_json_reads_back_the_same_and_a_text_keeps_all_that_is_harmless(text: str) -> None:
    assert json.loads(json_text({"a": [text]}, indent=1)) == {"a": [text]}
    assert not _ACTING.search(re.sub("[\u200c\u200d]", "", printable(text)))
    assert printable(printable(text)) == printable(text)


def test_other_scripts_are_left_alone() -> None:
    joined = ("می\u200cخواهم", "क्\u200dष", "👩\u200d👩\u200d👧", "❤\ufe0f\u200d🔥")
    for text in ("Überweisung", "转账失败", "تحويل", "नमस्ते", "🙂", "a\tb\nc", *joined):
        assert printable(text) == text
        assert json.loads(json_text(text)) == text


@pytest.mark.parametrize("text", ["re\u200dfund", "\u200d", "\u200c👩", "👩\u200d", "می\u200c\u200cخ", "a\u200cب"])
def test_a_joiner_that_joins_nothing_is_made_visible(text: str) -> None:
    assert "\\u200" in printable(text)


WIDE = (
    "我的银行卡",
    "カード（新）",
    "한국어",
    "मेरा कार्ड",
    "تحويل",
    "บัตรหาย",
    "😀👍🏽 ok",
    "👩\u200d👩\u200d👧",
    "plain",
)


def test_columns_of_wide_and_joined_letters_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.cells import cell_len

    print_table("表", ("label", "rows"), [[text, 7] for text in WIDE])
    lines = capsys.readouterr().out.rstrip().split("\n")[1:]
    assert len({cell_len(line) for line in lines}) == 1
    for text in WIDE:
        assert any(text in line for line in lines)


def test_a_terminal_of_another_encoding_shows_what_it_lacks(tmp_path: Path) -> None:
    script = "import sys\nfrom perennial.ops.cli import main\nsys.exit(main())\n"
    done = subprocess.run(
        [sys.executable, "-c", script, "init", "银行", "--data", "没有.csv"],
        capture_output=True, cwd=tmp_path, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 2
    assert b"\\u94f6" in done.stderr or b"\\u6ca1" in done.stderr
    assert b"Traceback" not in done.stderr
