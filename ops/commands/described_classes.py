"""Classes that begin as a name and a sentence: what is known of each, and how they come to be answered."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from perennial.continual.errors import ConfigurationError, DataError, NotFound
from perennial.continual.learning.descriptions import anchor_texts
from perennial.continual.preparation import (
    LABEL,
    FileReading,
    KnownLabels,
    Role,
    admit_text,
    read_table,
    refuse_rows,
    shown,
)
from perennial.continual.records import Split
from perennial.ops.commands.retraining import asked_retraining
from perennial.ops.ledger import Ledger
from perennial.ops.store.feedback import known_labels

__all__ = [
    "Described",
    "DescribedClass",
    "Dropped",
    "describe",
    "described_classes",
    "drop_description",
    "read_descriptions",
]

_ROLES = (LABEL, Role("description"))
_NOTHING_STATED = FileReading()
_ANCHOR_ROWS = 5
_LONGEST_TEXT = 2_000
_REASON = "described classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedClass:
    """A described class: its sentence, its labelled training rows, and for how many rows the sentence still counts.

    `served` says whether the champion answers with it.
    """

    label: str
    description: str
    by: str
    at: datetime
    rows: int
    counts_for_rows: int
    served: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What became of sentences, by class; `command` asks for a version with them, where that was wanted and can be."""

    described: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    command: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A class whose sentence was forgotten, with its labelled rows; `command` as in `Described`."""

    dropped: str
    rows: int
    command: int | None = None


def described_classes(ledger: Ledger, model: str) -> list[DescribedClass]:
    """Every described class of a model.

    Raises:
        NotFound: the ledger does not know the model.
    """
    anchor_rows = _anchor_rows(ledger, model)
    route = ledger.route(model)
    answered = set() if route is None else set(ledger.version(model, route.champion).labels)
    rows = ledger.label_counts(model, Split.TRAIN)
    return [
        DescribedClass(
            label=row.label,
            description=row.text,
            by=row.actor,
            at=row.at,
            rows=rows.get(row.label, 0),
            counts_for_rows=max(0, anchor_rows - rows.get(row.label, 0)),
            served=row.label in answered,
        )
        for row in ledger.descriptions(model)
    ]


def describe(
    ledger: Ledger, model: str, descriptions: Mapping[str, str], *, actor: str, retrain: bool, dry_run: bool = False
) -> Described:
    """Keep sentences and say what became of each; with `retrain` ask the loop for a version that answers with them.

    Raises:
        ConfigurationError: no class is given, or a name says nothing once its dashes are gone.
        DataError: a name or a sentence breaks the rule of the entrance.
        NotFound: the ledger does not know the model.
    """
    if not descriptions:
        raise ConfigurationError("no class is described; give a label and a sentence, or a file with some")
    descriptions = _admitted(ledger, model, descriptions)
    before = {row.label: row.description for row in described_classes(ledger, model)}
    done = Described(
        described=tuple(sorted(descriptions.keys() - before.keys())),
        changed=tuple(sorted(n for n, text in descriptions.items() if n in before and before[n] != text)),
        unchanged=tuple(sorted(n for n, text in descriptions.items() if n in before and before[n] == text)),
    )
    if dry_run:
        return done
    ledger.describe_classes(model, descriptions, actor)
    return replace(done, command=asked_retraining(ledger, model, actor, reason=_REASON) if retrain else None)


def drop_description(
    ledger: Ledger, model: str, label: str, *, actor: str, retrain: bool, dry_run: bool = False
) -> Dropped:
    """Forget a class's sentence; the next version knows the class by its rows alone.

    Raises:
        DataError: the name breaks the rule of labels, or is almost a described one.
        NotFound: the class has no description.
    """
    known = [row.label for row in ledger.descriptions(model)]
    label = KnownLabels(known).admit(label, field="class")
    if label not in known:
        raise NotFound(
            f"class {shown(label)} of {model} has no description; described are {', '.join(known) or 'none'}"
        )
    rows = ledger.label_counts(model, Split.TRAIN).get(label, 0)
    if dry_run:
        return Dropped(dropped=label, rows=rows)
    ledger.forget_description(model, label, actor)
    return Dropped(
        dropped=label, rows=rows, command=asked_retraining(ledger, model, actor, reason=_REASON) if retrain else None
    )


def read_descriptions(path: Path, reading: FileReading = _NOTHING_STATED) -> dict[str, str]:
    """Sentences by class out of a file with the columns `label` and `description`.

    Raises:
        DataError: the file cannot be read or lacks a column.
        RowsRefused: rows are incomplete, have too many fields, or name a class again.
    """
    table = read_table(path, _ROLES, reading)
    table.require(("label", "description"))
    sentences: dict[str, str] = {}
    bad: list[dict[str, object]] = []
    for row in table.rows:
        label, text = row.fields.get("label", ""), row.fields.get("description", "")
        twice = f"class {shown(label)} is described twice; keep one" if label in sentences else None
        empty = f"label {shown(label)}, description {shown(text)}; give both" if not label or not text else None
        if (cause := row.problem or empty or twice) is not None:
            bad.append({"row": row.line, "cause": cause})
        else:
            sentences[label] = text
    refuse_rows(table, bad)
    return sentences


def _admitted(ledger: Ledger, model: str, descriptions: Mapping[str, str]) -> dict[str, str]:
    """The names and sentences in the form in which they are kept; two names must not become one."""
    _anchor_rows(ledger, model)  # tells of an unknown model first
    known, kept = known_labels(ledger, model), dict[str, str]()
    for written, sentence in descriptions.items():
        label = known.admit(written, field="class")
        text = admit_text(sentence, field=f"description of {shown(label)}", most_bytes=4 * _LONGEST_TEXT).text
        if len(text) > _LONGEST_TEXT:
            raise DataError(
                f"description of {shown(label)} has {len(text)} characters; at most {_LONGEST_TEXT} are allowed, and a "
                f"sentence or two is best"
            )
        if label in kept:
            raise DataError(f"class {shown(label)} is described twice; keep one of the sentences")
        kept[label] = text
    anchor_texts(kept)
    return kept


def _anchor_rows(ledger: Ledger, model: str) -> int:
    settings = {row.name: row.settings for row in ledger.models()}
    if model not in settings:
        raise NotFound(f"model {model!r} is not in the ledger; it knows {', '.join(settings) or 'none'}")
    params = settings[model].get("learning", {}).get("params", {})
    return int(params.get("anchor_rows", params.get("head_settings", {}).get("anchor_rows", _ANCHOR_ROWS)))
