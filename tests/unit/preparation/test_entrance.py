"""The rule of the entrance: what comes out can be kept, is found again, and passes unchanged."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.errors import DataError
from perennial.continual.preparation import (
    KnownLabels,
    admit_example,
    admit_key,
    admit_label,
    admit_name,
    admit_note,
    admit_prediction_id,
    admit_text,
    admit_time,
    clean,
    key_spellings,
    normalise,
    row_hash,
    shown,
    split_of,
)
from perennial.continual.preparation.characters import has_visible
from perennial.continual.records import Example, Origin

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_ODD = (
    "a\0\x1b\n\t\u00ad\u0301\u034f\u061c\u0627\u06cc\u0915\u094d\u115f\u180e\u200b\u200c\u200d\u200e\u202e\u2066\u2800"
)
_ODDER = "\u3000\u3164\ufe0f\ufeff\uffa0\ufffe\U0001f3f4\U0001f468\U000e0067\U000e007f\ud800\udfff@.0159 -"
texts = st.text(st.one_of(st.characters(codec=None), st.sampled_from(_ODD + _ODDER)), max_size=40)


def nested(depth: int) -> Any:
    """A list in a list in a list, too deep to be printed."""
    return reduce(lambda inner, _: [inner], range(depth), [])


@given(texts)
def test_an_admitted_text_passes_again_and_goes_through_everything_behind_the_entrance(text: str) -> None:
    try:
        admitted = admit_text(text)
    except DataError:
        return
    assert admit_text(admitted.text).text == admitted.text
    assert clean(admitted.text) == admitted.text
    assert admitted.text.encode().decode() == admitted.text
    assert "\0" not in admitted.text
    assert has_visible(admitted.text)
    assert 0 <= row_hash(admitted.text) < 1 << 64
    assert split_of(admitted.text) is split_of(normalise(admitted.text))


@given(texts)
def test_an_admitted_label_passes_again_and_makes_an_example(label: str) -> None:
    try:
        admitted = admit_label(label)
    except DataError:
        return
    assert admit_label(admitted) == admitted
    assert Example(text="t", label=admitted, at=NOW).label == admitted
    assert json.loads(json.dumps(admitted).encode()) == admitted


@given(texts)
def test_an_admitted_key_passes_again(key: str) -> None:
    try:
        admitted = admit_key(key)
    except DataError:
        return
    assert admitted is None or (admit_key(admitted) == admitted and len(admitted.encode()) <= 256)


@given(st.lists(texts, max_size=8))
def test_no_two_known_labels_look_alike(labels: list[str]) -> None:
    known, kept = KnownLabels(), set[str]()
    for label in labels:
        try:
            kept.add(known.admit(label))
        except DataError:
            continue
    assert len({normalise(label) for label in kept}) == len(kept)
    assert all(known.admit(label) == label for label in kept)


@given(texts)
def test_a_message_quotes_in_ascii_on_one_line(text: str) -> None:
    printed = shown(text)
    assert printed.isascii()
    assert printed.isprintable()
    assert len(printed) < 500


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("my\0 card", "my card"),
        ("\x1b[31mred\x07", "[31mred"),
        ("\u202eevil\u202c txt", "evil txt"),
        ("zero\u200bwidth\u2060\ufeff", "zerowidth"),
        ("Auf\u200clage", "Auflage"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("می\u200c\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("👩\u200d💻 here", "👩\u200d💻 here"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"),
        ("hidden\U000e0067\U000e0062", "hidden"),
        ("cafe\u0301", "café"),
        ("你好\u3000世界", "你好 世界"),
        ("\u05e9\u200f\u05dc", "\u05e9\u05dc"),
        ("mail jo@example.org now", "mail [email] now"),
    ],
)
def test_a_text_is_kept_without_what_hides_and_with_what_shapes(raw: str, kept: str) -> None:
    assert admit_text(raw).text == kept


def test_a_text_tells_whether_it_was_redacted() -> None:
    assert admit_text("call +44 20 7946 0958").redacted
    assert not admit_text("[EXTERNAL] call me\0").redacted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bad \ud83d", "character 4 is U\\+D83D, half of a surrogate pair"),
        ("", "nothing that can be seen"),
        ("\0\u200b\u3164\u2800\ufe0f \n", "nothing that can be seen"),
        ("x" * 100_001, "100001 bytes; at most 100000"),
        ("中" * 33_334, "100002 bytes"),
        (None, "text is NoneType; it must be text"),
        (7, "text is int"),
        (b"raw", "text is bytes"),
    ],
)
def test_a_text_is_refused_with_its_cause(text: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        admit_text(text)


@pytest.mark.parametrize(
    "twin", ["Café au lait", "Cafe\u0301 au lait", " Café  au\tlait ", "Café\u200b au lait", "\u202aCafé au lait\u202c"]
)
def test_twins_that_look_alike_are_one_label(twin: str) -> None:
    assert KnownLabels(["Café au lait"]).admit(twin) == "Café au lait"
    assert KnownLabels().admit(twin) == "Café au lait"


def test_a_label_that_was_kept_before_the_rule_keeps_its_spelling() -> None:
    old = "Cafe\u0301"
    known = KnownLabels([old])
    assert known.admit("Café") == old
    assert known.admit(old) == old
    both = KnownLabels(["may", "May"])
    assert (both.admit("may"), both.admit("May")) == ("may", "May")


@pytest.mark.parametrize("near", ["REFUND", "refund", "Ｒｅｆｕｎｄ", "Re\u200dfund\u034f", "𝐑efund"])
def test_a_label_that_is_almost_a_known_one_is_refused_by_its_name(near: str) -> None:
    with pytest.raises(DataError, match="from the known 'Refund' only in case or form; send 'Refund'"):
        KnownLabels(["Refund"]).admit(near)
    assert KnownLabels(["Refund"]).settle(near) == "Refund"


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "is empty"),
        (" \u200b\u2800", "is empty"),
        ("a\0b", r"control U\+0000"),
        ("\x1b[31m", r"control U\+001B"),
        ("a\ud800", "half of a surrogate pair"),
        ("x" * 201, "201 characters; at most 200"),
        ("😀" * 201, "804 bytes; at most 800"),
        (None, "must be text"),
        (True, "must be text"),
    ],
)
def test_a_label_is_refused_with_its_cause(label: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        admit_label(label)


@pytest.mark.parametrize("key", ["a\0b", "a\nb", "a\u200bb", "\u202ea", "a\ud800", "k" * 257, "é" * 129, "\u3164", 5])
def test_a_key_is_refused(key: Any) -> None:
    with pytest.raises(DataError, match="key"):
        admit_key(key)


@pytest.mark.parametrize(
    "written",
    [
        "0199ABCD0123456789AB0123456789AB",
        " 0199abcd0123456789ab0123456789ab\n",
        "0199abcd-0123-4567-89ab-0123456789ab",
        "0199abcd0123456789ab0123456789ab",
    ],
)
def test_a_prediction_id_is_brought_into_its_form(written: str) -> None:
    assert admit_prediction_id(written) == "0199abcd0123456789ab0123456789ab"


@pytest.mark.parametrize(
    "wrong", ["", "p1", "g" * 32, "0" * 31, "0" * 33, "0-" * 16, "0" * 1_000_000, None, 7, "\ud800" * 32, "٠" * 32]
)
def test_an_impossible_prediction_id_is_refused(wrong: Any) -> None:
    with pytest.raises(DataError, match="32 hexadecimal digits"):
        admit_prediction_id(wrong)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (None, NOW),
        ("2026-06-01T12:04:59Z", NOW),
        ("2026-06-01T11:00:00+00:00", NOW - timedelta(hours=1)),
        ("2026-06-01T13:00:00+02:00", NOW - timedelta(hours=1)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        (datetime(2026, 6, 1, 9, tzinfo=timezone(timedelta(hours=9))), datetime(2026, 6, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_kept_in_utc_and_never_ahead(written: Any, wanted: datetime) -> None:
    assert admit_time(written, now=NOW) == wanted
    assert admit_time(written, now=NOW).tzinfo is UTC


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("2026-06-01T12:05:01Z", "in the future"),
        ("9999-12-31T23:59:59-14:00", "beyond the calendar"),
        ("0001-01-01T00:00:00+14:00", "beyond the calendar"),
        ("1999-12-31T23:59:59Z", "before 2000"),
        ("2026-06-01T12:00:00", "no time zone"),
        ("yesterday", "is no time"),
        ("", "is no time"),
        ("2026-13-01T00:00:00Z", "is no time"),
        ("1" * 10_000, "is no time"),
        (float("inf"), "inf is no time"),
        (float("nan"), "nan is no time"),
        (1_780_000_000, "int is no time"),
        pytest.param(10**5_000, "int is no time", id="huge"),
        pytest.param(nested(100_000), "list is no time", id="nested"),
        (True, "is no time"),
        (["2026"], "is no time"),
        ("\ud800", "is no time"),
    ],
)
def test_a_time_is_refused_with_its_cause(written: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        admit_time(written, now=NOW)


def test_a_file_may_leave_the_zone_out() -> None:
    assert admit_time("2026-06-01 09:30", now=NOW, without_zone_is_utc=True) == datetime(2026, 6, 1, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "a b", "a\0", "x" * 5_000, "é" * 51, "größe", "_-", ".", "\ud800", None]
)
def test_a_model_name_is_never_a_path(name: Any) -> None:
    with pytest.raises(DataError, match="letters, digits"):
        admit_name(name)


@pytest.mark.parametrize("note", ["", " \n", "x" * 501, "\ud800", None])
def test_a_note_is_bounded(note: Any) -> None:
    with pytest.raises(DataError, match="reason"):
        admit_note(note)


def test_an_example_is_made_in_one_place() -> None:
    made = admit_example(
        text="I am jo@example.org\0", label=" lost  card", at=NOW, origin=Origin.IMPORT, key=" k ", known=KnownLabels()
    )
    assert (made.text, made.label, made.at, made.key, made.redacted) == ("I am [email]", "lost card", NOW, "k", True)
    known = admit_example(text="[email] writes", label="fee", at=NOW, origin=Origin.IMPORT, known=KnownLabels())
    assert not known.redacted
    assert replace(known, redacted=True) == admit_example(
        text="[email] writes", label="fee", at=NOW, origin=Origin.IMPORT, known=KnownLabels(["fee"]), redacted=True
    )


@pytest.mark.parametrize(
    ("key", "spellings"),
    [
        ("k", ("k",)),
        (" Jos\u00e9", ("Jos\u00e9", " Jos\u00e9", "Jose\u0301")),
        ("Jose\u0301", ("Jos\u00e9", "Jose\u0301")),
        ("k\u200bk", ("k\u200bk",)),
        ("k" * 400, ("k" * 400,)),
        ("  ", ()),
        ("a\0", ()),
        ("\ud800", ()),
    ],
)
def test_a_key_is_looked_for_in_every_spelling_that_may_have_been_kept(key: str, spellings: tuple[str, ...]) -> None:
    assert key_spellings(key) == spellings


@pytest.mark.parametrize("field", ["text", "label", "key", "prediction_id"])
@pytest.mark.parametrize("bad", ["a\0b", "a\ud800", "a\udfffb"])
def test_no_example_can_be_made_that_a_database_cannot_keep(field: str, bad: str) -> None:
    fields = {"text": "t", "label": "l", "key": "k", "prediction_id": "p", field: bad}
    with pytest.raises(DataError, match=f"{field} holds U\\+"):
        Example(at=NOW, **fields)


def test_a_note_of_a_person_keeps_nobody_elses_address() -> None:
    assert admit_note("Jo asked: jo@example.com, 138-1234-5678") == "Jo asked: [email], [number]"
