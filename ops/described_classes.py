"""Classes that begin as a name and a sentence: what is known of each, and how they come to be answered."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from continual.errors import ConfigurationError, DataError, NotFound
from continual.learning.descriptions import anchor_texts
from continual.records import Split
from ops.ledger import Ledger

__all__ = ["describe", "described_classes", "drop_description", "read_descriptions"]

_ANCHOR_ROWS = 5
_LONGEST_LABEL = 200
_LONGEST_TEXT = 2_000


def described_classes(ledger: Ledger, model: str) -> list[dict[str, Any]]:
    """Each described class: its sentence, its labelled training rows, and for how many rows the sentence still counts.

    `served` says whether the champion answers with it.

    Raises:
        NotFound: the ledger does not know the model.
    """
    anchor_rows = _anchor_rows(ledger, model)
    route = ledger.route(model)
    answered = set() if route is None else set(ledger.version(model, route.champion).labels)
    rows = ledger.label_counts(model, Split.TRAIN)
    return [
        {
            "label": told.label,
            "description": told.text,
            "by": told.actor,
            "at": told.at,
            "rows": rows.get(told.label, 0),
            "counts_for_rows": max(0, anchor_rows - rows.get(told.label, 0)),
            "served": told.label in answered,
        }
        for told in ledger.descriptions(model)
    ]


def describe(
    ledger: Ledger, model: str, descriptions: Mapping[str, str], *, actor: str, retrain: bool, dry_run: bool = False
) -> dict[str, Any]:
    """Keep sentences and say what became of each; with `retrain` ask the loop for a version that answers with them.

    Raises:
        ConfigurationError: a name or a sentence is empty or too long.
        NotFound: the ledger does not know the model.
    """
    if not descriptions:
        raise ConfigurationError("no class is described; give a label and a sentence, or a file with some")
    for label, text in descriptions.items():
        if len(label) > _LONGEST_LABEL or len(text) > _LONGEST_TEXT:
            raise ConfigurationError(
                f"class {label[:40]!r}: name of {len(label)} and description of {len(text)} characters; at most "
                f"{_LONGEST_LABEL} and {_LONGEST_TEXT} are allowed, and a sentence or two is best"
            )
    anchor_texts(descriptions)
    before = {row["label"]: row for row in described_classes(ledger, model)}
    told = {
        "described": sorted(descriptions.keys() - before.keys()),
        "changed": sorted(n for n, text in descriptions.items() if n in before and before[n]["description"] != text),
        "unchanged": sorted(n for n, text in descriptions.items() if n in before and before[n]["description"] == text),
    }
    if dry_run:
        return {"dry_run": True, **told, "command": None}
    ledger.describe_classes(model, descriptions, actor)
    return told | {"command": _retraining(ledger, model, actor) if retrain else None}


def drop_description(
    ledger: Ledger, model: str, label: str, *, actor: str, retrain: bool, dry_run: bool = False
) -> dict[str, Any]:
    """Forget a class's sentence; the next version knows the class by its rows alone.

    Raises:
        NotFound: the class has no description.
    """
    rows = ledger.label_counts(model, Split.TRAIN).get(label, 0)
    if dry_run:
        known = [told.label for told in ledger.descriptions(model)]
        if label not in known:
            raise NotFound(f"class {label!r} of {model} has no description; described are {', '.join(known) or 'none'}")
        return {"dry_run": True, "dropped": label, "rows": rows, "command": None}
    ledger.forget_description(model, label, actor)
    return {"dropped": label, "rows": rows, "command": _retraining(ledger, model, actor) if retrain else None}


def read_descriptions(path: Path) -> dict[str, str]:
    """Sentences by class out of a CSV file with the columns `label` and `description`.

    Raises:
        DataError: the file cannot be read, lacks a column, or names a class twice.
    """
    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            missing = sorted({"label", "description"} - set(reader.fieldnames or ()))
            if missing:
                raise DataError(f"{path} has the columns {reader.fieldnames or []}; it needs label and description")
            for row in reader:
                label, text = (row["label"] or "").strip(), (row["description"] or "").strip()
                if not label or not text:
                    raise DataError(f"{path} line {reader.line_num}: label {label!r}, description {text!r}; give both")
                if label in found:
                    raise DataError(f"{path} line {reader.line_num}: class {label!r} is described twice; keep one")
                found[label] = text
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as UTF-8 CSV ({error}); give columns label,description") from error
    return found


def _anchor_rows(ledger: Ledger, model: str) -> int:
    settings = {row.name: row.settings for row in ledger.models()}
    if model not in settings:
        raise NotFound(f"model {model!r} is not in the ledger; it knows {', '.join(settings) or 'none'}")
    params = settings[model].get("learning", {}).get("params", {})
    return int(params.get("anchor_rows", params.get("head_settings", {}).get("anchor_rows", _ANCHOR_ROWS)))


def _retraining(ledger: Ledger, model: str, actor: str) -> int | None:
    """The id of the command; None when the loop would refuse it, because nothing serves or a cycle is under way."""
    if ledger.route(model) is None or ledger.active_cycle(model) is not None:
        return None
    return ledger.request_command(model, "retrain", {"reason": "described classes"}, actor)
