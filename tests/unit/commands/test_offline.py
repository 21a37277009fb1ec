"""Learners compared offline read with the encoder that is named, that of the model before, or the rows' own."""

import csv
from pathlib import Path

import pytest

from perennial.continual.learning.card import ModelCard
from perennial.continual.learning.rows import read_rows
from perennial.ops.commands.offline import Offline
from tests.unit.learning.cards import text_card

CARD = text_card("ridge", encoder="packaged:e5:thai")


@pytest.mark.parametrize(
    ("named", "before", "text", "taken"),
    [
        ("some/name", None, "银行卡", "some/name"),
        ("auto", None, "我的银行卡丢了", "packaged:e5:han"),
        ("auto", None, "my card was lost", "packaged:minilm"),
        ("auto", CARD, "my card was lost", "packaged:e5:thai"),
        ("packaged:minilm", CARD, "บัตรหาย", "packaged:minilm"),
    ],
)
def test_the_encoder_of_a_comparison(
    tmp_path: Path, named: str, before: ModelCard | None, text: str, taken: str
) -> None:
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"{text} {row}", "ab"[row % 2]) for row in range(60))])
    previous = None
    if before is not None:
        previous = tmp_path / "before"
        previous.mkdir()
        before.write(previous)
    task = Offline.prepare(tmp_path / "rows.csv", tmp_path / "out", test=None, replay=None, holdout_share=0.2, seed=0)
    assert task.spec("ridge", {}, encoder=named, previous=previous).encoder == taken


def test_the_files_of_a_comparison_share_the_names_of_the_first(tmp_path: Path) -> None:
    for name, labels in (("rows", ["1.0", "2.0"]), ("test", ["1", "2"]), ("old", ["2", "1"])):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((f"{name} {row}", labels[row % 2]) for row in range(60))])
    out = tmp_path / "out"
    task = Offline.prepare(
        tmp_path / "rows.csv",
        out,
        test=tmp_path / "test.csv",
        replay=tmp_path / "old.csv",
        holdout_share=0.2,
        seed=0,
    )
    assert {row.label for row in task.judged} == {"1.0", "2.0"}
    assert {row.label for row in read_rows(out / "replay.jsonl")} == {"1.0", "2.0"}
