"""One tiny encoder of each architecture: random weights, and a small real tokenizer that is trained here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLASSIFIERS", "ENCODERS", "TEXTS", "TinyEncoder", "write_classifier", "write_encoder"]

TEXTS = [
    f"{opening} {subject} {ending}"
    for opening in ("my", "why was the", "please help with a new", "i lost the old", "when is the")
    for subject in ("card", "loan with interest", "trip to Österreich", "fee", "café receipt", "PIN code")
    for ending in ("", "?", "about 25 euros", "again and again!")
]
_VOCABULARY = 300
_HIDDEN = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
_SPREAD = {"initializer_range": 0.3}  # wide, so that answers differ from text to text
_BERT_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_WORDS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_ROBERTA_IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}


def _wordpiece() -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=_VOCABULARY, special_tokens=[*_BERT_WORDS]))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def _byte_level(special: tuple[str, ...], *, framed: bool) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, special_tokens=[*special], initial_alphabet=alphabet)
    made.train_from_iterator(TEXTS, trainer)
    if framed:
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def _unigram(special: tuple[str, ...], first: str | None, last: str) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=_VOCABULARY, special_tokens=[*special], unk_token="<unk>")
    made.train_from_iterator(TEXTS, trainer)
    frame = [(word, special.index(word)) for word in (first, last) if word is not None]
    single = f"{first} $A {last}" if first else f"$A {last}"
    made.post_processor = processors.TemplateProcessing(single=single, special_tokens=frame)
    return made


def _roberta_pieces() -> Any:
    return _unigram(_ROBERTA_WORDS, "<s>", "</s>")


def _roberta_bytes() -> Any:
    return _byte_level(_ROBERTA_WORDS, framed=True)


def _albert_pieces() -> Any:
    return _unigram(("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"), "[CLS]", "[SEP]")


def _t5_pieces() -> Any:
    return _unigram(("<pad>", "</s>", "<unk>"), None, "</s>")


def _gpt_bytes() -> Any:
    return _byte_level(("<|endoftext|>",), framed=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyEncoder:
    """How an encoder of one architecture is made; `longest` is how many tokens it has positions for."""

    config: str  # names of transformers
    model: str
    tokenizer: Callable[[], Any]
    settings: Mapping[str, Any]
    longest: int | None
    pooling: str = "mean"
    classifier: str | None = None  # the class with a head for sequences, where there is one


_PLAIN = {**_HIDDEN, **_SPREAD, "max_position_embeddings": 24}
_ROBERTA = {**_HIDDEN, **_SPREAD, **_ROBERTA_IDS, "max_position_embeddings": 26}
_NO_FRAME = {"bos_token_id": 0, "eos_token_id": 0}

ENCODERS: Mapping[str, TinyEncoder] = {
    "bert": TinyEncoder(
        config="BertConfig", model="BertModel", tokenizer=_wordpiece, settings=_PLAIN, longest=24,
        classifier="BertForSequenceClassification",
    ),
    "roberta": TinyEncoder(
        config="RobertaConfig", model="RobertaModel", tokenizer=_roberta_bytes, settings=_ROBERTA, longest=24,
        pooling="cls", classifier="RobertaForSequenceClassification",
    ),
    "xlm-roberta": TinyEncoder(
        config="XLMRobertaConfig", model="XLMRobertaModel", tokenizer=_roberta_pieces, settings=_ROBERTA, longest=24,
        classifier="XLMRobertaForSequenceClassification",
    ),
    "camembert": TinyEncoder(
        config="CamembertConfig", model="CamembertModel", tokenizer=_roberta_pieces, settings=_ROBERTA, longest=24,
        classifier="CamembertForSequenceClassification",
    ),
    "distilbert": TinyEncoder(
        config="DistilBertConfig", model="DistilBertModel", tokenizer=_wordpiece, longest=24,
        settings={"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 24, **_SPREAD},
        classifier="DistilBertForSequenceClassification",
    ),
    "albert": TinyEncoder(
        config="AlbertConfig", model="AlbertModel", tokenizer=_albert_pieces, longest=24,
        settings={**_PLAIN, "embedding_size": 16, "pad_token_id": 0}, classifier="AlbertForSequenceClassification",
    ),
    "electra": TinyEncoder(
        config="ElectraConfig", model="ElectraModel", tokenizer=_wordpiece, settings={**_PLAIN, "embedding_size": 16},
        longest=24, pooling="cls", classifier="ElectraForSequenceClassification",
    ),
    "mpnet": TinyEncoder(
        config="MPNetConfig", model="MPNetModel", tokenizer=_roberta_bytes, longest=24,
        settings={**_HIDDEN, **_SPREAD, "max_position_embeddings": 26, "pad_token_id": 1, "bos_token_id": 0,
                  "eos_token_id": 2},
        classifier="MPNetForSequenceClassification",
    ),
    "deberta-v2": TinyEncoder(
        config="DebertaV2Config", model="DebertaV2Model", tokenizer=_albert_pieces, longest=24,
        settings={**_PLAIN, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"],
                  "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
                  "type_vocab_size": 0, "pad_token_id": 0},
        classifier="DebertaV2ForSequenceClassification",
    ),
    "modernbert": TinyEncoder(
        config="ModernBertConfig", model="ModernBertModel", tokenizer=_wordpiece, longest=24, pooling="cls",
        settings={**_PLAIN, "num_hidden_layers": 2, "local_attention": 8, "pad_token_id": 0, "cls_token_id": 2,
                  "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
        classifier="ModernBertForSequenceClassification",
    ),
    "nomic_bert": TinyEncoder(
        config="NomicBertConfig", model="NomicBertModel", tokenizer=_wordpiece, settings=_PLAIN, longest=24,
        classifier="NomicBertForSequenceClassification",
    ),
    "gpt2": TinyEncoder(
        config="GPT2Config", model="GPT2Model", tokenizer=_gpt_bytes, longest=24, pooling="lasttoken",
        settings={"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 24, **_SPREAD, **_NO_FRAME},
        classifier="GPT2ForSequenceClassification",
    ),
    "qwen2": TinyEncoder(
        config="Qwen2Config", model="Qwen2Model", tokenizer=_gpt_bytes, longest=24, pooling="lasttoken",
        settings={**_PLAIN, **_NO_FRAME, "num_key_value_heads": 1, "pad_token_id": 0},
        classifier="Qwen2ForSequenceClassification",
    ),
    "t5": TinyEncoder(
        config="T5Config", model="T5Model", tokenizer=_t5_pieces, longest=None,
        settings={"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "pad_token_id": 0,
                  "decoder_start_token_id": 0},
    ),
}  # fmt: skip
CLASSIFIERS = [name for name, made in ENCODERS.items() if made.classifier is not None]


def write_encoder(name: str, folder: Path) -> Path:
    """The encoder and its tokenizer as transformers saves them, and its pooling as sentence-transformers does."""
    made = ENCODERS[name]
    _write(made, made.model, folder)
    if made.pooling != "mean":
        (folder / "1_Pooling").mkdir()
        flag = {"cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}[made.pooling]
        configuration = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False, flag: True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(configuration))
    return folder


def write_classifier(name: str, folder: Path, labels: list[str], **settings: Any) -> Path:
    """A classifier of sequences with a head of random weights over these labels, and its tokenizer."""
    made = ENCODERS[name]
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}
    _write(made, str(made.classifier), folder, **names, **settings)
    return folder


def _write(made: TinyEncoder, model: str, folder: Path, **settings: Any) -> None:
    import torch
    import transformers

    tokenizer = made.tokenizer()
    torch.manual_seed(3)
    configuration = {**made.settings, **settings, "vocab_size": tokenizer.get_vocab_size()}
    config = getattr(transformers, made.config)(**configuration)
    getattr(transformers, model)(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
