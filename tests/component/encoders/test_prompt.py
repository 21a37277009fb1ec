"""What an encoder wants to read before every text is read by learners, engines and whoever takes the bundle's file."""

import json
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.encoder import Encoder, fingerprint
from perennial.continual.learning.encoder_folder import copy_beside_weights, load_tokenizer
from perennial.continual.learning.prompt import read_prompt, write_prompt
from perennial.exporters.text_classification.golden_rows import golden_rows
from perennial.exporters.text_classification.tokens import TextTokenizer
from tests.component.encoders.tiny import ENCODERS, TEXTS, write_encoder

pytestmark = [pytest.mark.component, pytest.mark.slow]

PROMPT = "my query: "
ASKED = [*(text.strip() for text in TEXTS[::11]), "Ö", "é café", "(25) euros!", "a" * 500]


def prompted(folder: Path, prompt: str = PROMPT, **also: object) -> Path:
    """The folder with the prompt, as sentence-transformers writes it."""
    document = {"prompts": {"query": prompt, "document": "x: "}, "default_prompt_name": "query", **also}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("name", ENCODERS)
def test_every_kind_of_tokenizer_reads_the_prompt_before_the_text(name: str, tmp_path: Path) -> None:
    plain = load_tokenizer(write_encoder(name, tmp_path), 20)
    framed = load_tokenizer(prompted(tmp_path), 20)
    expected = [plain.encode(PROMPT + text).ids for text in ASKED]
    assert [framed.encode(text).ids for text in ASKED] == expected
    framed.save(str(tmp_path / "served.json"))
    assert TextTokenizer(tmp_path / "served.json").encode(ASKED) == expected


def test_an_encoder_with_a_prompt_embeds_as_if_it_were_typed(tmp_path: Path) -> None:
    folder = write_encoder("bert", tmp_path)
    alone, before = Encoder.load(str(folder), max_length=24), fingerprint(folder)
    with_prompt = Encoder.load(str(prompted(folder)), max_length=24)
    texts = [text for text in ASKED if len(text) < 100]
    np.testing.assert_allclose(with_prompt(texts), alone([PROMPT + text for text in texts]), atol=1e-6)
    assert fingerprint(folder) != before
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "q: "}}')
    assert (read_prompt(folder), fingerprint(folder)) == ("", before)


def test_the_prompt_goes_where_the_weights_go(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    copy_beside_weights(prompted(write_encoder("bert", tmp_path)), tmp_path / "tuned")
    assert read_prompt(tmp_path / "tuned") == PROMPT
    write_prompt(tmp_path / "tuned", "")
    assert read_prompt(tmp_path / "tuned") == PROMPT


def test_golden_rows_stand_behind_the_prompt(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(prompted(write_encoder("bert", tmp_path)), 20)
    tokenizer.save(str(tmp_path / "served.json"))
    frame = tokenizer.encode("").ids
    rows = golden_rows(tmp_path / "served.json", ["card", "loan"], max_length=20, seed=1)
    assert {row[: len(frame) - 1] for row in rows} == {tuple(frame[:-1])}
    assert max(map(len, rows)) <= 20


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "is not JSON"),
        ('{"prompts": {}, "default_prompt_name": "query"}', "names the prompt 'query', which must be a text"),
        ('{"prompts": {"q": 3}, "default_prompt_name": "q"}', "names the prompt 'q'"),
        ('{"prompts": {"q": "%s"}, "default_prompt_name": "q"}' % ("long " * 200), "at most 500 characters"),
        ('{"prompts": {"q": "%s"}, "default_prompt_name": "q"}' % ("card loan " * 30), "set max_length to at least"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused(tmp_path: Path, document: str, reason: str) -> None:
    folder = write_encoder("bert", tmp_path)
    (folder / "config_sentence_transformers.json").write_text(document)
    with pytest.raises(ConfigurationError, match=reason):
        load_tokenizer(folder, 20)


def test_a_prompt_that_is_not_pooled_is_refused(tmp_path: Path) -> None:
    folder = prompted(write_encoder("bert", tmp_path))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean", "include_prompt": false}')
    with pytest.raises(ConfigurationError, match="include_prompt"):
        read_prompt(folder)
