"""Generation at the router: approved replies in; rewrites out that say the same, or the replies as they are."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from perennial.client.rewrites import Rewritten, rewrite_tensors, rewrites_in
from perennial.continual.errors import DataError, NotFound, PerennialError
from perennial.continual.preparation import clean, deidentify
from perennial.continual.preparation.characters import has_visible
from perennial.continual.tasks.generation import Rewrite, check_rewrite
from perennial.continual.tasks.generation.task import SOMEBODY, anonymous
from perennial.exporters.bundle import read_manifest
from perennial.exporters.generation.codec import Codec
from perennial.exporters.generation.part import GenerationPart
from perennial.exporters.generation.signature import (
    ANSWER,
    LANGUAGE,
    LET_THROUGH,
    NAME,
    REWRITE_ENGINE,
    REWRITE_ROUTER,
    REWRITTEN,
    TEXT,
    TOKENS,
    TONE,
    WHY,
)
from perennial.exporters.signature import Array, EngineSignature, RouterSignature
from perennial.ops.serving.port import FurtherProof, Mindless
from perennial.ops.serving.tensors import column, decoded, one_a_row

__all__ = ["SIDE", "GenerationSide", "GenerationVersion", "Told"]

_LONGEST_CHARACTER = 4  # bytes in UTF-8
_MANNER = 80  # characters of a tone, a language or a name
_MANNERS = (TONE, LANGUAGE, NAME)


class Told(NamedTuple):
    """One reply as it is told: what was written, and what of it is given."""

    answer: str
    rewritten: str
    let_through: bool
    why: str
    tokens: int

    @property
    def kept(self) -> str:
        """What is given."""
        return self.answer

    @property
    def confidence(self) -> None:
        """None."""
        return

    @property
    def embedding(self) -> None:
        """None."""
        return


class GenerationVersion:
    """A version's tokenizer and prompt."""

    vocabulary: ClassVar[None] = None

    def __init__(self, folder: Path) -> None:
        try:
            part = GenerationPart.read(read_manifest(folder).part)
        except PerennialError as exc:
            raise NotFound(f"version folder {folder} cannot be read ({exc}); restore it or route elsewhere") from exc
        self.codec = Codec(folder, part)

    @property
    def signature(self) -> EngineSignature:
        """The same for every decoder."""
        return REWRITE_ENGINE

    def encode(self, inputs: Sequence[Rewrite]) -> Mapping[str, Array]:
        """Prompts, and how many tokens may follow."""
        return self.codec.encode(inputs)

    def answers(
        self,
        task_inputs: Sequence[Rewrite],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> list[Told]:
        """The rewrites that change nothing, and the approved replies in place of the others."""
        counts = (outputs[TOKENS] > 0).sum(axis=1).tolist()
        texts = self.codec.texts(outputs)
        return [told(asked, text, tokens) for asked, text, tokens in zip(task_inputs, texts, counts, strict=True)]


def told(asked: Rewrite, rewritten: str, tokens: int) -> Told:
    """What is given of a rewrite."""
    verdict = check_rewrite(asked.approved, rewritten, name=asked.name)
    answer = rewritten if verdict.let_through else asked.approved
    return Told(answer, rewritten, verdict.let_through, verdict.why, tokens)


class GenerationSide:
    """See `perennial.ops.serving.port.ServingSide`."""

    name: ClassVar[str] = "generation"
    signature: ClassVar[RouterSignature] = REWRITE_ROUTER
    engine: ClassVar[EngineSignature] = REWRITE_ENGINE
    probe: ClassVar[Rewrite] = Rewrite(approved="Yes.")
    remembers: ClassVar[bool] = False
    reads_slowly: ClassVar[bool] = False
    input_columns: ClassVar[tuple[str, ...]] = ("approved", "tone", "language")

    def request(self, inputs: Sequence[Rewrite]) -> Mapping[str, Array]:
        return rewrite_tensors(inputs)

    def received(self, outputs: Mapping[str, Array]) -> list[Rewritten]:
        return rewrites_in(outputs)

    def sizes(self, tensors: Mapping[str, Array]) -> list[int]:
        if TEXT not in tensors:
            raise DataError(f"the input {TEXT} is missing; send one approved reply a row as BYTES of shape [rows, 1]")
        texts = tensors[TEXT].reshape(-1).tolist()
        if not texts:
            raise DataError(f"the input {TEXT} has no rows; send at least one")
        sizes = [len(text) for text in texts]
        for name in _MANNERS:
            for row, raw in enumerate(one_a_row(tensors, name, len(texts))):
                sizes[row] += len(raw)
        return sizes

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> list[Rewrite]:
        """Approved replies as they came; one that is cut would be told without its end, so it is refused."""
        texts = tensors[TEXT].reshape(-1).tolist()
        manners = [one_a_row(tensors, name, len(texts)) for name in _MANNERS]
        asked = []
        for row, (raw, tone, language, name) in enumerate(zip(texts, *manners, strict=True)):
            if len(raw) > _LONGEST_CHARACTER * max_characters:
                raise DataError(
                    f"{TEXT} of row {row} has {len(raw)} bytes; a reply may have {max_characters} characters"
                )
            approved = decoded(TEXT, row, raw)
            if not has_visible(approved) or len(approved) > max_characters:
                raise DataError(
                    f"{TEXT} of row {row} has {len(approved)} characters; send a reply of 1 to {max_characters}"
                )
            asked.append(
                Rewrite(
                    approved=approved,
                    tone=_manner(TONE, row, tone),
                    language=_manner(LANGUAGE, row, language),
                    name=_manner(NAME, row, name),
                )
            )
        return asked

    def caller(self, task_input: Rewrite) -> str:
        return ""

    def memory(self, path: Path | None) -> Mindless:
        return Mindless()

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        del path
        return ()

    def open(self, bundle: Path, *, proved: bool = False) -> GenerationVersion:
        return GenerationVersion(bundle)

    def outcomes(self, bundle: Path) -> None:
        return

    def tensors(self, answers: Sequence[Told], wanted: frozenset[str]) -> Mapping[str, Array]:
        made: dict[str, Array] = {}
        if ANSWER in wanted:
            made[ANSWER] = column([answer.answer.encode() for answer in answers], np.object_)
        if LET_THROUGH in wanted:
            made[LET_THROUGH] = column([answer.let_through for answer in answers], np.bool_)
        if WHY in wanted:
            made[WHY] = column([answer.why.encode() for answer in answers], np.object_)
        if REWRITTEN in wanted:
            made[REWRITTEN] = column([answer.rewritten.encode() for answer in answers], np.object_)
        return made

    def logged_input(self, logged: Mapping[str, Any]) -> Rewrite | None:
        """Nobody is greeted: the log does not say who was."""
        if not logged["approved"].strip():
            return None
        return Rewrite(approved=logged["approved"], tone=logged["tone"], language=logged["language"])

    def columns(self, inputs: Sequence[Rewrite], answers: Sequence[Told]) -> Mapping[str, Sequence[Any]]:
        kept = [deidentify(anonymous(one.approved, one.name)) for one in inputs]
        given = [deidentify(anonymous(a.answer, one.name)) for one, a in zip(inputs, answers, strict=True)]
        return {
            "approved": kept,
            "tone": [one.tone for one in inputs],
            "language": [one.language for one in inputs],
            "redacted": [text != one.approved for text, one in zip(kept, inputs, strict=True)],
            "prediction": given,
            "let_through": [answer.let_through for answer in answers],
            "why": [deidentify(_without(a.why, one.name)) for one, a in zip(inputs, answers, strict=True)],
            "tokens": [answer.tokens for answer in answers],
        }


def _without(why: str, name: str) -> str:
    """A reason with a variable for each word of the name that it quotes, in capitals or not."""
    for word in name.split():
        why = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _: SOMEBODY, why, flags=re.IGNORECASE)
    return why


def _manner(name: str, row: int, raw: bytes) -> str:
    """A tone, a language or a name: one short line without signs that steer a chat."""
    text = clean(decoded(name, row, raw)).replace("<|", "").replace("|>", "")
    if len(text) > _MANNER:
        raise DataError(f"{name} of row {row} has {len(text)} characters; give at most {_MANNER}")
    return text if has_visible(text) else ""


SIDE = GenerationSide()
