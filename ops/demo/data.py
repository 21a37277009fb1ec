"""What the demonstration runs on: generated requests, `train.csv` and `test.csv`, or one file of dated rows."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.preparation import normalise, read_labelled_file
from perennial.ops.demo.grammar import FIRST_INTENTS, WAVES, Era, GeneratedRequest, Phrasing, RequestGrammar

__all__ = [
    "FIRST_DATED",
    "DemoData",
    "Row",
    "Wave",
    "dated_data",
    "dated_file",
    "dated_rows",
    "folder_data",
    "generated_data",
]

Row = tuple[str, str]  # text, label
FIRST_DATED = 585  # rows that the first version learns of those that have dates
_DATED = ("date", "text", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Requests that begin to arrive together; `share` is their part of the traffic while they are new."""

    intents: tuple[str, ...]
    pool: tuple[Row, ...]
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """Everything the world knows and the loop has to find out.

    `seed` trains version 1; `steady` is traffic with the first intents; `test` is never shown to the loop. Rows that
    are `in_time_order` come once, as they came in the world: it changes by itself, and nothing is left for a test.
    """

    name: str
    first_intents: tuple[str, ...]
    seed: tuple[Row, ...]
    steady: tuple[Row, ...]
    waves: tuple[Wave, ...]
    test: tuple[Row, ...]
    in_time_order: bool = False

    def known_after(self, waves: int) -> tuple[str, ...]:
        """The intents that have arrived once `waves` waves have begun."""
        return self.first_intents + tuple(intent for wave in self.waves[:waves] for intent in wave.intents)


def generated_data(seed: int, *, waves: int = 3, share: float = 0.5) -> DemoData:
    """The shop's requests: 20 intents at the start, 14 in three waves; from the second on customers talk differently.

    Half of the test rows use sentences that never occur in training or traffic. With fewer waves the first ones come.

    Raises:
        DataError: so many waves are not generated.
    """
    if not 1 <= waves <= len(WAVES):
        raise DataError(f"{waves} waves cannot be generated; name 1 to {len(WAVES)}, or give your own data with --data")
    grammar = RequestGrammar(seed)
    seen: set[str] = set()

    def take(intents: Sequence[str], n: int, era: Era, phrasing: Phrasing = Phrasing.USED) -> list[Row]:
        fresh: list[GeneratedRequest] = []
        for request in grammar.draw_many(intents, 3 * n, era, phrasing):
            if (key := normalise(request.text)) not in seen and len(fresh) < n:
                seen.add(key)
                fresh.append(request)
        return [(request.text, request.intent) for request in fresh]

    come = {*FIRST_INTENTS, *sum(WAVES[:waves], ())}
    test = [
        row
        for intents, era in (
            (FIRST_INTENTS, Era.FORMAL),
            (sum(WAVES, ()), Era.FORMAL),
            (FIRST_INTENTS + sum(WAVES, ()), Era.CHATTY),
        )
        for phrasing in Phrasing
        for row in take(intents, 6 * len(intents), era, phrasing)
        if row[1] in come and (era is Era.FORMAL or waves > 1)
    ]
    start = take(FIRST_INTENTS, 900, Era.FORMAL)
    steady = take(FIRST_INTENTS, 3_000, Era.FORMAL)
    changes = (
        Wave(intents=WAVES[0], pool=tuple(take(WAVES[0], 900, Era.FORMAL)), share=share),
        Wave(
            intents=WAVES[1],
            pool=tuple(take(WAVES[1], 600, Era.CHATTY) + take(FIRST_INTENTS + WAVES[0], 900, Era.CHATTY)),
            share=share,
        ),
        Wave(
            intents=WAVES[2], pool=tuple(take(WAVES[2], 500, Era.FORMAL) + take(WAVES[2], 500, Era.CHATTY)), share=share
        ),
    )
    shuffled = tuple(_shuffled(wave, seed + i) for i, wave in enumerate(changes[:waves]))
    return DemoData(
        name="generated shop requests",
        first_intents=FIRST_INTENTS,
        seed=tuple(start),
        steady=tuple(steady),
        waves=shuffled,
        test=tuple(test),
    )


def folder_data(
    folder: Path, seed: int, *, first: int = 40, waves: int = 3, seed_share: float = 0.5, share: float = 0.5
) -> DemoData:
    """Real data from `train.csv` and `test.csv` (`text,category`), in the order of `categories.json` where it exists.

    Args:
        folder: where the files lie.
        seed: of the shuffles.
        first: intents known at the start.
        waves: the other intents arrive in so many waves.
        seed_share: part of the first intents' training rows that version 1 learns from; the rest is traffic.
        share: part of the traffic that a wave takes while it is new.

    Raises:
        DataError: a file is missing or malformed, or there are too few intents for the waves.
    """
    for name in ("train.csv", "test.csv"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} has no {name}; the demo needs train.csv and test.csv with columns text,category")
    train = [(e.text, e.label) for e in read_labelled_file(folder / "train.csv")]
    test = [(e.text, e.label) for e in read_labelled_file(folder / "test.csv")]
    intents = _intent_order(folder, train)
    if not 2 <= first < len(intents) or waves < 1 or len(intents) - first < waves:
        raise DataError(
            f"{folder} has {len(intents)} intents; {first} at the start and {waves} waves do not fit "
            f"(at least 2 at the start and 1 a wave)"
        )
    rng = np.random.default_rng(seed)
    rows = [train[i] for i in rng.permutation(len(train))]
    known = tuple(intents[:first])
    old = [row for row in rows if row[1] in set(known)]
    cut = int(len(old) * seed_share)
    groups = [
        tuple(str(name) for name in part) for part in np.array_split(np.asarray(intents[first:], dtype=object), waves)
    ]
    return DemoData(
        name=folder.resolve().name,
        first_intents=known,
        seed=tuple(old[:cut]),
        steady=tuple(old[cut:]),
        waves=tuple(
            Wave(intents=group, pool=tuple(row for row in rows if row[1] in set(group)), share=share)
            for group in groups
        ),
        test=tuple(test),
    )


def dated_file(folder: Path) -> Path | None:
    """The file of dated rows in a folder: the only table, with the columns `date`, `text` and `label`."""
    tables = sorted(folder.glob("*.csv"))
    if len(tables) != 1:
        return None
    with tables[0].open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    return tables[0] if set(_DATED) <= set(header) else None


def dated_data(path: Path, *, first: int = FIRST_DATED) -> DemoData:
    """Rows in the order of their dates: version 1 learns the first ones, and the others come as they once came.

    Raises:
        DataError: a row has no date, or there are too few rows.
    """
    dated = dated_rows(path, first=first)
    kept = [(text, label) for _, text, label in dated]
    return DemoData(
        name=f"{path.stem}, {dated[0][0]} to {dated[-1][0]}",
        first_intents=tuple(sorted({label for _, label in kept[:first]})),
        seed=tuple(kept[:first]),
        steady=tuple(kept[first:]),
        waves=(),
        test=(),
        in_time_order=True,
    )


def dated_rows(path: Path, *, first: int) -> list[tuple[str, str, str]]:
    """Date, text and label of the rows that have both, in the order of their dates.

    Raises:
        DataError: a row has no date, or the `first` ones, which the first version learns, leave too few for a stream.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [(row["date"], row["text"], row["label"]) for row in csv.DictReader(file)]
    if wrong := [number for number, (day, _, _) in enumerate(rows, start=2) if not _is_date(day)]:
        raise DataError(f"{path}, line {wrong[0]}: the date {rows[wrong[0] - 2][0]!r} is none; write it as 2019-02-28")
    kept = [row for row in sorted(rows, key=lambda row: row[0]) if row[1].strip() and row[2].strip()]
    if len(kept) <= 2 * first:
        raise DataError(f"{path} has {len(kept)} rows; {first} for the first version leave too few for a stream")
    return kept


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _intent_order(folder: Path, train: Sequence[Row]) -> list[str]:
    present = {label for _, label in train}
    path = folder / "categories.json"
    if not path.is_file():
        return sorted(present)
    try:
        order = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{path} is not a JSON list of intent names: {exc}") from exc
    if not isinstance(order, list) or set(order) != present:
        odd = sorted(set(map(str, order)) ^ present)[:5] if isinstance(order, list) else type(order).__name__
        raise DataError(
            f"{path} and train.csv name different intents, e.g. {odd}; make them the same or delete the file"
        )
    return [str(name) for name in order]


def _shuffled(wave: Wave, seed: int) -> Wave:
    order = np.random.default_rng(seed).permutation(len(wave.pool))
    return Wave(intents=wave.intents, pool=tuple(wave.pool[i] for i in order), share=wave.share)
