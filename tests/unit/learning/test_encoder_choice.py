"""The encoder is chosen by what the rows are written in, and one that cannot read them is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.card import read_card
from perennial.continual.learning.encoder_choice import check_encoder, choose_encoder, fit_of, named_by_rows, scripts_in
from perennial.continual.learning.job import main
from perennial.continual.learning.spec import JobSpec
from perennial.continual.records import Example
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow  # tokenizers with a quarter of a million words

ROWS = {
    "english": ["My card was stolen yesterday, what should I do?", "The food was cold and the delivery was late."],
    "terms": ["hyperparathyroidism secondary to renal insufficiency", "SELECT * FROM users", "$GC_F -0.8% XAUUSD"],
    "german": ["Meine Karte wurde gestern gestohlen, was soll ich tun?", "Das Essen war leider kalt."],
    "turkish": ["Kartım dün çalındı, ne yapmalıyım?", "Hesabımı kapatmak istiyorum."],
    "chinese": ["我的银行卡昨天被偷了，怎么办？", "东西很好吃，送餐也快"],
    "japanese": ["昨日カードを盗まれました。", "配達が遅かったです。"],
    "russian": ["Вчера украли мою карту.", "Еда была холодной."],
    "hindi": ["कल मेरा कार्ड चोरी हो गया।", "खाना ठंडा था।"],
    "arabic": ["سُرقت بطاقتي أمس.", "كان الطعام باردا."],
    "thai": ["บัตรของฉันถูกขโมยเมื่อวานนี้", "อาหารเย็นชืด"],
    "emoji": ["great 😀😀", "love it 👍", "so bad 😡"],
    "mixed": ["我的 card 丢了, please help me with it", "How do I close 账户 in the app?"],
}


@pytest.mark.parametrize(
    ("rows", "encoder", "because"),
    [
        ("english", "packaged:minilm", "knows the words"),
        ("terms", "packaged:minilm", "as well as packaged:e5"),
        ("german", "packaged:e5:latin", "times as many pieces"),
        ("turkish", "packaged:e5:latin", "times as many pieces"),
        ("chinese", "packaged:e5:han", "of the tokens are unknown to packaged:minilm; the words of han are kept"),
        ("japanese", "packaged:e5:han+kana", "unknown"),
        ("russian", "packaged:e5:cyrillic", "times as many pieces"),
        ("hindi", "packaged:e5:devanagari", "packaged:minilm"),
        ("arabic", "packaged:e5:arabic", "packaged:minilm"),
        ("thai", "packaged:e5:thai", "100% of the tokens are unknown"),
        ("emoji", "packaged:e5:latin", "unknown"),
        ("mixed", "packaged:e5:han+latin", "unknown"),
    ],
)
def test_the_encoder_is_the_one_that_knows_the_words(rows: str, encoder: str, because: str) -> None:
    choice = choose_encoder(ROWS[rows])
    assert (choice.encoder, because in choice.told) == (encoder, True), choice.told


def test_no_rows_and_signs_alone_are_read_by_the_small_one() -> None:
    for texts in ([], [""], ["42!", "..."]):
        assert choose_encoder(texts).encoder == "packaged:minilm"
        check_encoder("packaged:minilm", texts)


def test_some_rows_of_another_script_are_kept_and_a_single_name_is_not() -> None:
    texts = ["我的银行卡丢了怎么办"] * 990
    assert scripts_in([*texts, *["Мой счёт"] * 10]) == ("cyrillic", "han")
    assert scripts_in([*texts, "Жа"]) == ("han",)
    assert scripts_in([f"{text} iPhone" for text in texts[:20]] + texts) == ("han",)
    assert scripts_in(["ᚠᚢᚦ"] * 10) == ()


def test_a_job_without_an_encoder_gets_the_one_for_all_its_rows(make_spec: Callable[..., Path]) -> None:
    english, chinese = ([_row(text) for text in ROWS[name]] for name in ("english", "chinese"))
    path = make_spec("one", examples=english, replay=chinese * 20)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder": "auto"}))
    assert (
        named_by_rows(JobSpec.read(path)).encoder == choose_encoder([*ROWS["english"], *ROWS["chinese"] * 20]).encoder
    )
    only_english = replace(JobSpec.read(path), replay=None)
    assert named_by_rows(only_english).encoder == "packaged:minilm"
    assert named_by_rows(replace(only_english, encoder="own")).encoder == "own"


def test_the_card_of_a_job_without_an_encoder_has_the_one_that_was_chosen(make_spec: Callable[..., Path]) -> None:
    path = make_spec("one", examples=make_rows("card loan", 6, 1), holdout=make_rows("card loan", 6, 9))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"encoder": "auto"}))
    assert main([str(path)]) == 0
    assert read_card(JobSpec.read(path).out).encoder == "packaged:minilm"


def _row(text: str) -> Example:
    return Example(text=text, label="a", at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("rows", ["german", "chinese", "russian", "thai"])
def test_a_named_encoder_that_cannot_read_the_rows_is_refused_with_the_other(rows: str) -> None:
    chosen = choose_encoder(ROWS[rows]).encoder
    with pytest.raises(
        ConfigurationError, match=rf"fits these rows badly: .*\. Set encoder = '{chosen}'".replace("+", r"\+")
    ):
        check_encoder("packaged:minilm", ROWS[rows])
    check_encoder("packaged:minilm", ROWS["english"])


def test_an_encoder_of_ones_own_is_refused_where_it_knows_half_of_nothing(tiny_encoder: Path) -> None:
    check_encoder(str(tiny_encoder), ["my card was lost", "the new loan"])
    with pytest.raises(ConfigurationError, match=r"100% of the tokens .* insist_on_encoder = true"):
        check_encoder(str(tiny_encoder), ROWS["chinese"])
    assert fit_of(str(tiny_encoder), ["my card zzz"]).unknown == pytest.approx(1 / 3)
