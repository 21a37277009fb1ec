"""The words that an encoder keeps when it is cut to some scripts, and the tokenizer made of them."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from perennial.continual.learning.packaged.scripts import scripts_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["LATIN_MARGIN", "kept_pieces", "unigram_tokenizer"]

LATIN_MARGIN = 16_000
"""The likeliest words in Latin letters that stay where the rows are in another script: names, brands, some English."""

_ALWAYS = "latin"
_FRAME = ("<s>", "<pad>", "</s>", "<unk>")  # the first ids
_MASK = "<mask>"  # the last one
_SPACE = "▁"
_TILDE, _ELSEWHERE = "～", "\ue000"  # the model was trained on a text form that leaves this one as it is


def kept_pieces(
    pieces: Sequence[str], scores: npt.NDArray[np.float32], scripts: Collection[str], *, margin: int = LATIN_MARGIN
) -> npt.NDArray[np.int64]:
    """The places of the pieces that stay, in their order; all of them where no script is named.

    Those stay whose letters all belong to the scripts, and those without letters: digits, punctuation, emoji. Of
    Latin there is always a margin: its likeliest pieces, and each of its single letters.

    >>> pieces = ["<unk>", "▁the", "zzz", "z", "银行", "я", "7", "<mask>"]
    >>> kept_pieces(pieces, np.arange(0.0, -8.0, -1.0), {"han"}, margin=1).tolist()
    [0, 1, 3, 4, 6, 7]
    """
    if not scripts:
        return np.arange(len(pieces))
    wanted = frozenset(scripts)
    used = [scripts_of(piece) for piece in pieces]
    special = {place for place, piece in enumerate(pieces) if piece in {*_FRAME, _MASK}}
    kept = {place for place, own in enumerate(used) if own <= wanted} | special
    latin = [place for place, own in enumerate(used) if own == {_ALWAYS} and place not in special]
    likeliest = sorted(latin, key=lambda place: (-scores[place], place))[:margin]
    letters = [place for place in latin if len(pieces[place].removeprefix(_SPACE)) == 1]
    return np.array(sorted(kept.union(likeliest, letters)), dtype=np.int64)


def unigram_tokenizer(pieces: Sequence[str], scores: npt.NDArray[np.float32]) -> "Tokenizer":
    """The tokenizer of XLM-R over these pieces: a unigram model, with `<s>` before a text and `</s>` behind it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.Unigram(
            list(zip(pieces, map(float, scores), strict=True)), unk_id=pieces.index("<unk>"), byte_fallback=False
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(_TILDE, _ELSEWHERE),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(_ELSEWHERE, _TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(name, pieces.index(name)) for name in ("<s>", "</s>")],
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*_FRAME, _MASK)])
    return tokenizer
