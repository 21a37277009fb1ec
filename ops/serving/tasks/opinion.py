"""Opinion at the router: headlines in; sentiments, the event that each belongs to, and whether it alarms, out."""

import json
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from perennial.client.opinions import Opinion, SymbolOpinion, headline_tensors, opinions_in, written_symbols
from perennial.continual.errors import DataError, NotFound, PerennialError
from perennial.continual.preparation import admit_key, admit_time, deidentify
from perennial.continual.preparation.characters import SURROGATE
from perennial.continual.tasks.opinion.headline import MOST_SYMBOLS, Headline, Symbol, headline_of
from perennial.exporters.bundle import read_manifest
from perennial.exporters.opinion.signature import (
    ALERT,
    EVENT,
    OPINION_ROUTER,
    OPINIONS,
    PHASE,
    PUBLISHED_AT,
    SOURCE,
    SYMBOLS,
)
from perennial.exporters.signature import Array, EngineSignature, RouterSignature
from perennial.exporters.text_classification.signature import TEXT_ENGINE
from perennial.ops.serving.file_memory import FileMemory
from perennial.ops.serving.port import FurtherProof, Given, Mindless
from perennial.ops.serving.tasks.text_classification import SIDE as OF_TEXTS
from perennial.ops.serving.tasks.text_classification import Classified, Floats, TextVersion
from perennial.ops.serving.tensors import column, decoded, one_a_row, read_json
from perennial.ops.store.headlines import Headlines, Observed

__all__ = ["SIDE", "Opined", "OpinionVersion"]

_MOST_BYTES = 4_000  # of symbols as JSON
_WAIT_S = 0.2  # for a locked file of headlines, at most
_MOST_WAITING = 2_000  # headlines that could not be written yet


class Opined(NamedTuple):
    """One headline's answer: what it says as a whole, what of each symbol, and the event it belongs to."""

    said: Classified
    opinions: tuple[SymbolOpinion, ...] = ()
    event: str = ""
    phase: str = ""
    alert: str = ""
    encoder: str = ""

    @property
    def kept(self) -> str:
        """The sentiment of the whole."""
        return self.said.label

    @property
    def confidence(self) -> float:
        """The sentiment's."""
        return self.said.confidence

    @property
    def embedding(self) -> Floats:
        """The text's."""
        return self.said.embedding

    @property
    def opinions_kept(self) -> str:
        """The symbols' opinions as JSON."""
        opinions = [
            {"symbol": one.symbol, "sentiment": one.label, "confidence": round(one.confidence, 6)}
            for one in self.opinions
        ]
        return json.dumps(opinions, ensure_ascii=False)


class OpinionVersion:
    """A text classifier's version, asked of the whole headline and of what it says of each symbol."""

    def __init__(self, texts: TextVersion, encoder: str) -> None:
        self._texts, self._encoder = texts, encoder

    @property
    def signature(self) -> EngineSignature:
        """The classifier's."""
        return self._texts.signature

    @property
    def vocabulary(self) -> frozenset[str]:
        """The sentiments."""
        return self._texts.vocabulary

    def encode(self, inputs: Sequence[str | Headline]) -> Mapping[str, Array]:
        """The headlines, then the windows of their symbols that differ from them."""
        return self._texts.encode(_Asked(inputs).texts)

    def answers(
        self,
        task_inputs: Sequence[str | Headline],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> list[Opined]:
        """The headlines' sentiments with their symbols'."""
        asked = _Asked(task_inputs)
        said = self._texts.answers(asked.texts, inputs, outputs, within=within)
        return [
            Opined(
                said[row],
                tuple(
                    SymbolOpinion(symbol=symbol, label=said[place].label, confidence=said[place].confidence)
                    for symbol, place in asked.places[row]
                ),
                encoder=self._encoder,
            )
            for row in range(len(task_inputs))
        ]


class _Asked:
    """The texts that some headlines need answered, theirs first, and where each symbol's stands."""

    def __init__(self, inputs: Sequence[str | Headline]) -> None:
        self.texts = [headline_of(asked).text for asked in inputs]
        self.places: list[list[tuple[str, int]]] = []
        for row, asked in enumerate(inputs):
            windows = () if isinstance(asked, str) else asked.windows
            self.places.append([(symbol, self._place(row, window)) for symbol, window in windows])

    def _place(self, row: int, window: str) -> int:
        if window == self.texts[row]:
            return row
        self.texts.append(window)
        return len(self.texts) - 1


class _Watched(FileMemory):
    """Headlines as they were answered, and the events that they make. See `perennial.ops.serving.port.Memory`.

    What cannot be written now is written with the next headlines; its answers go out without an event.
    """

    def __init__(self, path: Path) -> None:
        super().__init__("headlines.not_noted")
        self._kept = Headlines(path, wait_s=_WAIT_S)
        self._waiting: deque[Observed] = deque(maxlen=_MOST_WAITING)
        self._lock = threading.Lock()

    def noted(self, given: Sequence[Given]) -> list[Opined]:
        answers: list[Opined] = [one.answer for one in given]
        if not given:
            return answers
        with self._lock:
            observed = [_observed(one) for one in given]
            try:
                noted = self._kept.note([*self._waiting, *observed])[-len(observed) :]
            except Exception as exc:
                self.failed(len(given), exc)
                self._waiting.extend(observed)
                return answers
            self._waiting.clear()
            self.worked()
        return [
            answer._replace(event=one.event, phase=one.phase, alert=one.alert)
            for answer, one in zip(answers, noted, strict=True)
        ]


def _observed(given: Given) -> Observed:
    headline, answer = headline_of(given.input), given.answer
    return Observed(
        prediction_id=given.prediction_id,
        at=headline.published_at or given.at,
        source=deidentify(headline.source),
        key=given.key,
        text=deidentify(headline.text),
        label=answer.said.label,
        scores=dict(zip(answer.said.labels, map(float, answer.said.scores), strict=True)),
        opinions={one.symbol: one.label for one in answer.opinions},
        encoder=answer.encoder,
        place=answer.said.embedding,
    )


def _encoder_of(bundle: Path) -> str:
    try:
        return read_manifest(bundle).encoder_fingerprint
    except PerennialError as exc:
        raise NotFound(f"version folder {bundle} cannot be read ({exc}); restore it or route elsewhere") from exc


class _Opinion:
    """See `perennial.ops.serving.port.ServingSide`."""

    name: ClassVar[str] = "opinion"
    signature: ClassVar[RouterSignature] = OPINION_ROUTER
    engine: ClassVar[EngineSignature] = TEXT_ENGINE
    probe: ClassVar[Headline] = Headline(text="are you there")
    remembers: ClassVar[bool] = True
    reads_slowly: ClassVar[bool] = False
    input_columns: ClassVar[tuple[str, ...]] = ("text",)

    def request(self, inputs: Sequence[str | Headline]) -> Mapping[str, Array]:
        return headline_tensors([headline_of(asked) for asked in inputs])

    def received(self, outputs: Mapping[str, Array]) -> list[Opinion]:
        return opinions_in(outputs)

    def sizes(self, tensors: Mapping[str, Array]) -> list[int]:
        """A text is read once more for each symbol."""
        sizes = OF_TEXTS.sizes(tensors)
        symbols = one_a_row(tensors, SYMBOLS, len(sizes))
        return [size * (1 + min(raw.count(b'"') // 2, MOST_SYMBOLS)) for size, raw in zip(sizes, symbols, strict=True)]

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> list[Headline]:
        texts = OF_TEXTS.questions(tensors, max_characters=max_characters)
        columns = [one_a_row(tensors, name, len(texts)) for name in (SOURCE, PUBLISHED_AT, SYMBOLS)]
        return [
            Headline(
                text=text,
                source=admit_key(decoded(SOURCE, row, source), field=f"{SOURCE} of row {row}") or "",
                published_at=_time(row, published),
                symbols=_symbols(row, symbols),
            )
            for row, (text, source, published, symbols) in enumerate(zip(texts, *columns, strict=True))
        ]

    def caller(self, task_input: Headline) -> str:
        return ""

    def memory(self, path: Path | None) -> Mindless:
        return Mindless() if path is None else _Watched(path)

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        del path
        return ()

    def open(self, bundle: Path, *, proved: bool = False) -> OpinionVersion:
        return OpinionVersion(OF_TEXTS.open(bundle, proved=proved), _encoder_of(bundle))

    def outcomes(self, bundle: Path) -> None:
        return

    def tensors(self, answers: Sequence[Opined], wanted: frozenset[str]) -> Mapping[str, Array]:
        """The classifier's tensors with the event's and the symbols'."""
        made = dict(OF_TEXTS.tensors([answer.said for answer in answers], wanted))
        ours = {
            EVENT: [answer.event for answer in answers],
            PHASE: [answer.phase for answer in answers],
            ALERT: [answer.alert for answer in answers],
            OPINIONS: [answer.opinions_kept for answer in answers] if OPINIONS in wanted else [],
        }
        for name in wanted & set(ours):
            made[name] = column([value.encode() for value in ours[name]], np.object_)
        return made

    def logged_input(self, logged: Mapping[str, Any]) -> str | None:
        """The text alone: nobody asks again what it says of a symbol."""
        return OF_TEXTS.logged_input(logged)

    def columns(self, inputs: Sequence[str | Headline], answers: Sequence[Opined]) -> Mapping[str, Sequence[Any]]:
        headlines = [headline_of(asked) for asked in inputs]
        texts = [headline.text for headline in headlines]
        return {
            **OF_TEXTS.columns(texts, [answer.said for answer in answers]),
            "source": [deidentify(headline.source) for headline in headlines],
            "published_at": ["" if (at := headline.published_at) is None else at.isoformat() for headline in headlines],
            "symbols": [deidentify(written_symbols(headline.symbols)) for headline in headlines],
            "opinions": [deidentify(answer.opinions_kept) for answer in answers],
            "event": [answer.event for answer in answers],
            "phase": [answer.phase for answer in answers],
            "alert": [answer.alert for answer in answers],
        }


def _time(row: int, raw: bytes) -> datetime | None:
    written = decoded(PUBLISHED_AT, row, raw).strip()
    return admit_time(written, now=datetime.now(UTC), field=f"{PUBLISHED_AT} of row {row}") if written else None


def _symbols(row: int, raw: bytes) -> tuple[Symbol, ...]:
    """Symbols out of a JSON list of names, or an object of names with the other names of each."""
    what = f"{SYMBOLS} of row {row}"
    if not raw.strip():
        return ()
    named = read_json(SYMBOLS, row, raw, most=_MOST_BYTES, fewer="name fewer symbols", send="a list of symbols")
    if isinstance(named, list):
        named = (
            {name: [] for name in named if isinstance(name, str)} if all(isinstance(n, str) for n in named) else None
        )
    if not isinstance(named, dict) or not all(_are_names(names) for names in named.values()):
        raise DataError(f'{what} is neither a JSON list of symbols nor an object such as {{"AAPL": ["Apple"]}}')
    if len(named) > MOST_SYMBOLS:
        raise DataError(f"{what} names {len(named)} symbols; name at most {MOST_SYMBOLS}")
    admitted = [(admit_key(name, field=what), tuple(names)) for name, names in named.items()]
    return tuple(Symbol(name=name, names=names) for name, names in admitted if name)


def _are_names(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and not SURROGATE.search(name) for name in names)


SIDE = _Opinion()
