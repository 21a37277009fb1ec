"""Which encoder reads given texts: the packaged one whose words they are made of, with the reason in a sentence."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.encoder import PACKAGED_E5, PACKAGED_LITE0, PACKAGED_MINILM, resolve_encoder
from perennial.continual.learning.encoder_folder import load_tokenizer
from perennial.continual.learning.names import AUTO_ENCODER
from perennial.continual.learning.packaged import SCRIPTS, e5_named, e5_tokenizer, script_of, scripts_of
from perennial.continual.learning.rows import read_rows
from perennial.continual.learning.spec import JobSpec

__all__ = [
    "FOR_IMAGES",
    "EncoderChoice",
    "EncoderFit",
    "check_encoder",
    "choose_encoder",
    "fit_of",
    "named_by_rows",
    "scripts_in",
]

_SAMPLE = 2_000  # texts that tokenizers are tried on
_LENGTH = 512  # tokens
_UNKNOWN = 0.05  # share of a packaged encoder's tokens, from which it reads too little of the texts
_LOST = 0.5  # the same for an encoder that somebody named: its tokenizer is his business until half is lost
_CUT_UP = 1.2  # times as many pieces: English makes 0.9 to 1.15, other languages in Latin letters 1.3 to 1.9
_WHOLE_WORDS = 1.25  # pieces a word, up to which nothing is cut up
_OF_LETTERS, _OF_TEXTS, _OF_LATIN = 0.001, 0.005, 0.1  # shares, from which all of a script's words are wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFit:
    """How a tokenizer takes the texts: the share of its tokens that it does not know, and its pieces for each word.

    >>> EncoderFit(encoder="packaged:minilm", unknown=0.66, tokens=100, pieces=2.0).unknown
    0.66
    """

    encoder: str
    unknown: float
    tokens: int
    pieces: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderChoice:
    """An encoder, and why it is the one.

    >>> EncoderChoice(encoder="packaged:minilm", because="they are in English").told
    'encoder packaged:minilm: they are in English'
    """

    encoder: str
    because: str

    @property
    def told(self) -> str:
        """The choice as a sentence."""
        return f"encoder {self.encoder}: {self.because}"


FOR_IMAGES = EncoderChoice(encoder=PACKAGED_LITE0, because="it is the one that is packaged for images")


def choose_encoder(texts: Sequence[str]) -> EncoderChoice:
    """The packaged encoder for these texts: MiniLM for English, else e5 with the words of their scripts.

    Two things speak against MiniLM: tokens that it does not know, and words that it has to cut up where e5 has them
    whole. Both are counted on 2,000 of the texts at most.
    """
    sample = _sampled(texts)
    fit = fit_of(PACKAGED_MINILM, sample)
    if fit.unknown >= _UNKNOWN:
        return _other(texts, f"{_percent(fit.unknown)} of the tokens are unknown to {PACKAGED_MINILM}")
    if fit.pieces <= _WHOLE_WORDS or not any(map(scripts_of, sample)):
        return EncoderChoice(encoder=PACKAGED_MINILM, because="it knows the words of these rows")
    more = fit.tokens / max(1, sum(len(row.ids) for row in e5_tokenizer().encode_batch(sample)) - 2 * len(sample))
    if more >= _CUT_UP:
        return _other(texts, f"{PACKAGED_MINILM} cuts these words into {more:.1f} times as many pieces")
    return EncoderChoice(encoder=PACKAGED_MINILM, because=f"it knows these words as well as {PACKAGED_E5} does")


def named_by_rows(spec: JobSpec) -> JobSpec:
    """The job with an encoder: where nobody named one, the one for the texts that it learns from.

    Raises:
        DataError: a file of rows is missing, or a row is wrong.
    """
    if spec.encoder != AUTO_ENCODER:
        return spec
    if spec.images is not None:
        return replace(spec, encoder=FOR_IMAGES.encoder)
    rows = [*read_rows(spec.examples), *read_rows(spec.replay)]
    return replace(spec, encoder=choose_encoder([row.text for row in rows]).encoder)


def check_encoder(name: str, texts: Sequence[str]) -> None:
    """See that an encoder which somebody named can read these texts.

    Raises:
        ConfigurationError: it cannot; another is named that can.
    """
    why = ""
    if name != PACKAGED_MINILM:
        unknown = fit_of(name, _sampled(texts)).unknown
        if name == PACKAGED_E5 or unknown < (_UNKNOWN if name.startswith(PACKAGED_E5) else _LOST):
            return
        why = f"{_percent(unknown)} of the tokens of these rows are unknown to it"
    choice = choose_encoder(texts)
    if choice.encoder == name:
        return
    why = why or choice.because
    raise ConfigurationError(
        f"encoder {name!r} fits these rows badly: {why}. Set encoder = {choice.encoder!r} or "
        f"encoder = {AUTO_ENCODER!r}, or insist_on_encoder = true to keep it"
    )


def fit_of(name: str, texts: Sequence[str]) -> EncoderFit:
    """How the tokenizer of an encoder takes these texts."""
    tokenizer = load_tokenizer(resolve_encoder(name), _LENGTH)
    frame = tokenizer.num_special_tokens_to_add(is_pair=False)
    rows = tokenizer.encode_batch(list(texts))
    tokens = sum(len(row.ids) - frame for row in rows)
    unknown = _unknown_id(tokenizer)
    lost = sum(row.ids.count(unknown) for row in rows) if unknown is not None else 0
    words = sum(len(text.split()) for text in texts)
    return EncoderFit(
        encoder=name, unknown=lost / max(1, tokens), tokens=max(0, tokens), pieces=max(0, tokens) / max(1, words)
    )


def scripts_in(texts: Sequence[str]) -> tuple[str, ...]:
    """The scripts whose words these texts want whole, sorted. A few Latin names in other letters do not want all Latin.

    >>> scripts_in(["我的银行卡 visa 丢了" * 3, "请帮我", "Ж"])
    ('cyrillic', 'han', 'latin')
    """
    letters, of_texts = Counter[str](), Counter[str]()
    for text in texts:
        own = Counter(filter(None, map(script_of, text)))
        letters.update(own)
        of_texts.update(own.keys())
    total, rows = max(1, letters.total()), max(1, len(texts))
    wanted = {
        script
        for script, count in letters.items()
        if (count / total >= _OF_LATIN if script == "latin" else _is_common(count / total, of_texts[script] / rows))
    }
    return tuple(sorted(wanted.intersection(SCRIPTS)))


def _is_common(of_letters: float, of_texts: float) -> bool:
    return of_letters >= _OF_LETTERS or of_texts >= _OF_TEXTS


def _other(texts: Sequence[str], because: str) -> EncoderChoice:
    scripts = scripts_in(texts) or ("latin",)
    return EncoderChoice(encoder=e5_named(scripts), because=f"{because}; the words of {', '.join(scripts)} are kept")


def _sampled(texts: Sequence[str]) -> list[str]:
    """Texts at even distances: the same for the same rows."""
    return list(texts[:: -(-len(texts) // _SAMPLE)]) if texts else []


def _unknown_id(tokenizer: object) -> int | None:
    """The id that stands for what a tokenizer does not know; None where it takes every byte."""
    names = ("[UNK]", "<unk>", "<UNK>", "[unk]")
    found = (tokenizer.token_to_id(name) for name in names)  # type: ignore[attr-defined]
    return next((number for number in found if number is not None), None)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"
