"""Words and letters of a text as numbers: the same in every process, for every script."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.lexical import _LETTERS_OF, LexicalFeatures, WordScores
from perennial.continual.learning.trained import HEAD_FILE, write_head

FEATURES = LexicalFeatures.of_size(4096)


def likeness(one: str, other: str) -> float:
    a, b = FEATURES([one, other])
    return float(a @ b)


def naive(text: str) -> set[str]:
    """The runs of two to five letters that stay within a padded word, by the book."""
    runs = set()
    for word in text.split():
        padded = f" {word} "
        runs |= {padded[i : i + n] for n in (2, 3, 4, 5) for i in range(len(padded) - n + 1)}
    return runs


@pytest.mark.parametrize("text", ["a", "ab", "my card was lost", "x  y", "naïve café", "体验巅峰 倚天屠龙记"])
def test_as_many_features_as_there_are_runs_words_and_pairs(text: str) -> None:
    words = text.split()
    pairs = set(itertools.pairwise(words))
    expected = len(naive(text)) + len(set(words)) + len(pairs)
    found = int((LexicalFeatures(size=2**22)([text]) != 0).sum())
    assert found == expected


def test_a_text_has_length_one_and_an_empty_one_none() -> None:
    lengths = np.linalg.norm(FEATURES(["my card", "!", "", "   ", "a" * 5000]), axis=1)
    assert lengths[[0, 1, 4]].tolist() == pytest.approx([1.0, 1.0, 1.0])  # signs alone have no word
    assert lengths[[2, 3]].tolist() == [0.0, 0.0]


def test_words_and_letters_have_half_of_a_texts_weight_each() -> None:
    """However many runs there are for a word; signs of an unspaced script are words, two neighbours a pair."""
    features = LexicalFeatures(size=2**16 + 2**16, of_words=2**16)
    X = features(["the card was lost", "股市大涨", "good 股市 news"])
    words, letters = X[:, : 2**16], X[:, 2**16 :]
    np.testing.assert_allclose((words**2).sum(axis=1), 0.5)
    np.testing.assert_allclose((letters**2).sum(axis=1), 0.5)
    assert (words != 0).sum(axis=1).tolist() == [4 + 3, 4 + 3, 4 + 3]


def test_an_earlier_releases_features_are_still_computed() -> None:
    """Its sums and heads go on: words share all columns with letters, and what is between spaces is a word."""
    X = LexicalFeatures(size=64)(["my card was lost", "股市"])
    digest = hashlib.sha256(np.round(X, 6).tobytes()).hexdigest()
    assert digest == "6b485faedea6215572ef2136d1919a2a2b21e9053eeaf2f1747a460a88a19432"


@pytest.mark.parametrize(
    ("one", "same"),
    [("My  CARD\twas lost ", "my card was lost"), ("cafe\u0301", "caf\u00e9"), ("STRASSE", "straße"), ("ﾊﾟ", "ﾊﾟ")],
)
def test_case_spaces_and_composition_do_not_count(one: str, same: str) -> None:
    assert likeness(one, same) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "like", "unlike"),
    [
        ("the card was lost", "my card is lost", "interest on a loan"),
        ("今天股市大幅上涨", "今天股市上涨了", "外卖味道很好"),
        ("الطلب لم يصل بعد", "لم يصل الطلب", "سعر الفائدة"),
        ("मेरा कार्ड खो गया", "कार्ड खो गया है", "ब्याज दर"),
        ("late delivery 😡😡", "delivery late 😡", "great food 😀"),
    ],
)
def test_like_texts_are_nearer_in_any_script(text: str, like: str, unlike: str) -> None:
    assert likeness(text, like) > likeness(text, unlike) + 0.2


def test_a_text_has_the_same_features_alone_and_among_others() -> None:
    texts = [f"row {place} of {place % 7} 第{place}行" for place in range(700)]
    together = FEATURES(texts)
    for place in (0, 1, 511, 512, 699):
        np.testing.assert_array_equal(FEATURES([texts[place]])[0], together[place])


@pytest.mark.parametrize("text", ["\ud800", "a\nb\x00c", "\u2028", "\U0001f600" * 3])
def test_odd_characters_are_no_error(text: str) -> None:
    assert np.isfinite(FEATURES([text])).all()


def test_every_process_has_the_same_features() -> None:
    program = (
        "from perennial.continual.learning.lexical import LexicalFeatures as L\n"
        "import hashlib; print(hashlib.sha256(L(size=64)(['my card', '股市']).tobytes()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_features_need_neither_torch_nor_scipy() -> None:
    """They are computed in the server's own process, which has numpy."""
    program = "import sys, perennial.continual.learning.lexical; print({'torch', 'scipy'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"


def test_no_column_is_no_setting() -> None:
    for wrong in ({"size": 0}, {"size": 8, "of_words": 8}, {"size": 8, "of_words": -1}):
        with pytest.raises(ConfigurationError, match="some for letters too"):
            LexicalFeatures(**wrong)


def written(folder: Path) -> Path:
    """A head's file, as a training leaves it."""
    rng = np.random.default_rng(3)
    head = HeadWeights(
        labels=("no", "yes"),
        omega=np.zeros((2, 4), dtype=np.float32),
        phase=np.zeros(4, dtype=np.float32),
        weight=np.zeros((2, 4), dtype=np.float32),
        bias=np.zeros(2, dtype=np.float32),
        temperature=1.0,
        lexical=rng.normal(scale=30.0, size=(2, 2048)).astype(np.float32),
        words=LexicalFeatures(size=2048, of_words=1024),
    )
    write_head(folder, head)
    return folder / HEAD_FILE


@pytest.mark.parametrize("alter", ["lexical", "lexical_known"])
def test_words_that_do_not_repeat_their_known_answers_are_refused(tmp_path: Path, alter: str) -> None:
    """As they would not where the code or Unicode's tables read a text otherwise than in training."""
    path = written(tmp_path)
    words = WordScores.read(path)
    assert words is not None
    assert words(["my card"]).shape == (1, 2)
    tensors = load_file(path)
    save_file({**tensors, alter: np.roll(tensors[alter], 1, axis=1)}, path)
    with pytest.raises(DataError, match="Train it again"):
        WordScores.read(path)


def test_a_head_of_an_earlier_release_has_no_known_answers_and_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    tensors = load_file(path)
    save_file({name: tensors[name] for name in ("omega", "phase", "weight", "bias", "lexical")}, path)
    words = WordScores.read(path)
    assert words is not None
    features = LexicalFeatures(size=2048)
    np.testing.assert_allclose(words(["my card"]), features(["my card"]) @ tensors["lexical"].T, atol=1e-4)


def test_a_text_has_the_same_features_whatever_was_read_before() -> None:
    texts = ["my card was lost", "体验巅峰 card", "a" * 400]
    before = FEATURES(texts)
    words = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=4)]  # more than are kept
    for start in range(0, len(words), 500):
        FEATURES([" ".join(words[start : start + 500])])
    np.testing.assert_array_equal(FEATURES(texts), before)


def test_of_the_words_of_texts_numbers_and_addresses_are_not_kept() -> None:
    FEATURES(["zebra 4111111111111111 +49 ann@example.org"])
    assert "zebra" in _LETTERS_OF._kept
    assert not [word for word in _LETTERS_OF._kept if "@" in word or any(sign.isdecimal() for sign in word)]


def test_a_text_has_the_same_scores_alone_and_among_others() -> None:
    """Alone, only the weights of what it holds are read."""
    rng = np.random.default_rng(4)
    scores = WordScores(rng.normal(size=(3, 2048)).astype(np.float32), LexicalFeatures(size=2048, of_words=1024))
    texts = ["my card was lost", "!", "", "股市大涨 today", "my card"]
    alone = np.concatenate([scores([text]) for text in texts])
    np.testing.assert_allclose(alone, scores(texts), atol=1e-5)
