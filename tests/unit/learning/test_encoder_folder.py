"""What an encoder's folder says of it: width, length of texts, ids and pooling, without loading a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.encoder_folder import copy_beside_weights, load_tokenizer, read_facts, usable_length
from perennial.continual.learning.pooling import Pooling, read_pooling, write_pooling

BERT = {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 64, "vocab_size": 7}
ROBERTA = {**BERT, "model_type": "roberta", "max_position_embeddings": 66, "pad_token_id": 1}
WORDS = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "one", "two", "three"])}


def write(folder: Path, configuration: dict[str, Any], **tokenizer: Any) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(configuration))
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    if tokenizer:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.mark.parametrize(
    ("configuration", "longest", "width"),
    [
        (BERT, 64, 32),
        (ROBERTA, 64, 32),
        ({**ROBERTA, "model_type": "camembert", "pad_token_id": 3}, 62, 32),
        ({name: value for name, value in ROBERTA.items() if name != "pad_token_id"}, 64, 32),
        ({"model_type": "distilbert", "dim": 48, "max_position_embeddings": 64, "vocab_size": 7}, 64, 48),
        ({"model_type": "gpt2", "n_embd": 24, "n_positions": 40, "vocab_size": 7}, 40, 24),
        ({"model_type": "t5", "d_model": 16, "n_positions": 512, "vocab_size": 7}, None, 16),
        ({**BERT, "max_position_embeddings": -1}, None, 32),
    ],
)
def test_positions_and_width_are_read_under_each_name(
    tmp_path: Path, configuration: dict[str, Any], longest: int | None, width: int
) -> None:
    facts = read_facts(write(tmp_path / "encoder", configuration))
    assert (facts.longest, facts.dimension, facts.ids) == (longest, width, 7)


@pytest.mark.parametrize(
    ("configuration", "tokenizer", "wanted", "length"),
    [
        (BERT, {}, 128, 64),
        (BERT, {}, 16, 16),
        (BERT, {"model_max_length": 48}, 128, 48),
        (BERT, {"model_max_length": 1000000000000000019884624838656}, 128, 64),
        (BERT, {"model_max_length": None}, 128, 64),
        (ROBERTA, {"model_max_length": 65}, 128, 64),
        ({"model_type": "t5", "d_model": 16, "vocab_size": 7}, {}, 300, 300),
    ],
)
def test_the_usable_length_is_the_least_of_all_bounds(
    tmp_path: Path, configuration: dict[str, Any], tokenizer: dict[str, Any], wanted: int, length: int
) -> None:
    folder = write(tmp_path / "encoder", configuration, **tokenizer)
    assert usable_length(folder, wanted) == length
    assert load_tokenizer(folder, wanted).truncation["max_length"] == length


def test_a_length_in_which_no_text_fits_is_refused_and_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder", {**ROBERTA, "max_position_embeddings": 4})
    with pytest.raises(ConfigurationError, match=r"position table .* is 2; it must be at least 3"):
        usable_length(folder, 128)


def test_a_tokenizer_with_more_ids_than_the_encoder_has_rows_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder", {**BERT, "vocab_size": 4})
    with pytest.raises(ConfigurationError, match=r"ids up to 4, but the encoder has 4 .*resize_token_embeddings\(5\)"):
        load_tokenizer(folder, 16)


def test_the_side_on_which_texts_are_cut_is_kept(tmp_path: Path) -> None:
    folder = write(tmp_path / "encoder", BERT)
    tokenizer_json = json.loads((folder / "tokenizer.json").read_text())
    cut = {"direction": "Left", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json | {"truncation": cut}))
    assert load_tokenizer(folder, 3).encode("one two three one two").tokens == ["three", "one", "two"]


@pytest.mark.parametrize(
    ("configuration", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, Pooling.CLS),
        ({"pooling_mode_mean_tokens": True}, Pooling.MEAN),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, Pooling.LAST),
        ({"pooling_mode": "cls"}, Pooling.CLS),
        ({"word_embedding_dimension": 32}, Pooling.MEAN),
    ],
)
def test_the_pooling_of_sentence_transformers_is_honoured(
    tmp_path: Path, configuration: dict[str, Any], pooling: Pooling
) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(configuration))
    assert read_pooling(tmp_path) is pooling


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"pooling_mode_max_tokens": True}, "pooling by max; known is one of mean, cls, lasttoken"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls and mean"),
        ([], "it must be an object"),
    ],
)
def test_another_pooling_is_refused_by_its_name(tmp_path: Path, configuration: Any, reason: str) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(configuration))
    with pytest.raises(ConfigurationError, match=reason):
        read_pooling(tmp_path)


def test_the_folder_that_modules_name_is_read_and_one_outside_is_refused(tmp_path: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "2_Pool"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "2_Pool").mkdir()
    (tmp_path / "2_Pool" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert read_pooling(tmp_path) is Pooling.CLS
    (tmp_path / "modules.json").write_text(json.dumps([{**modules[0], "path": "../elsewhere"}]))
    with pytest.raises(ConfigurationError, match="keep it inside"):
        read_pooling(tmp_path)


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_tuned_encoder_is_pooled_like_the_one_it_came_from(tmp_path: Path, pooling: Pooling) -> None:
    source = write(tmp_path / "source", BERT, model_max_length=48)
    write_pooling(source, pooling)
    (tmp_path / "tuned").mkdir()
    copy_beside_weights(source, tmp_path / "tuned")
    assert read_pooling(tmp_path / "tuned") is pooling
    assert (tmp_path / "tuned" / "tokenizer_config.json").read_bytes() == (
        source / "tokenizer_config.json"
    ).read_bytes()


@pytest.mark.parametrize(("configuration", "reason"), [("{", "is not JSON"), ("[]", "is list"), ("{}", "hidden_size")])
def test_a_configuration_that_says_nothing_is_refused(tmp_path: Path, configuration: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(configuration)
    with pytest.raises(ConfigurationError, match=reason):
        read_facts(tmp_path)
