"""Requests for people who label in Label Studio or Argilla, and what they gave, read from the files of both.

Sources: Label Studio's task format (https://labelstud.io/guide/task_format) and Argilla's records as `Record.to_dict`
of its Python package writes them (https://docs.argilla.io/latest/how_to_guides/import_export/).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

from perennial.continual.errors import DataError

__all__ = ["Asked", "Exchange", "exported", "given_rows", "labelling_config", "read_exchange"]

_TEXT, _LABEL, _ID = "text", "label", "prediction_id"


class Exchange(StrEnum):
    """A format."""

    LABEL_STUDIO = "label-studio"
    ARGILLA = "argilla"


class Asked(Protocol):
    """A request that waits for a label, with what was answered."""

    @property
    def prediction_id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def answered(self) -> str: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def version(self) -> int: ...
    @property
    def reason(self) -> str: ...


def exported(items: Sequence[Asked], kind: Exchange, *, model: str) -> list[dict[str, Any]]:
    """The requests as tasks or records, each with the model's answer as a suggestion."""
    write = _task if kind is Exchange.LABEL_STUDIO else _record
    return [write(item, model) for item in items]


def labelling_config(labels: Sequence[str]) -> str:
    """The labelling interface of Label Studio for these classes."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name=_TEXT, value=f"${_TEXT}")
    choices = ElementTree.SubElement(view, "Choices", name=_LABEL, toName=_TEXT, choice="single")
    for label in labels:
        ElementTree.SubElement(choices, "Choice", value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def read_exchange(path: Path) -> list[Any] | None:
    """The tasks or records of a file of one of both kinds; None where it is another one."""
    if path.suffix.lower() != ".json":
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # whoever reads tables says what is wrong with it
    rows = document if isinstance(document, list) else []
    known = bool(rows) and all(isinstance(row, dict) and (_is_task(row) or _is_record(row)) for row in rows)
    return rows if known else None


def given_rows(rows: Sequence[Any], attributes: Sequence[str] = ()) -> Iterator[Mapping[str, Any] | str | None]:
    """Of each task or record its label as `prediction_id,label` or `text,label`; None without one, or what is wrong.

    `attributes` are read from a task's data, or from a record's metadata.
    """
    for row in rows:
        try:
            yield _given(row, attributes)
        except DataError as exc:
            yield str(exc)


def _is_task(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations", []), list)


def _is_record(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses", {}), dict)


def _task(item: Asked, model: str) -> dict[str, Any]:
    choice = {"from_name": _LABEL, "to_name": _TEXT, "type": "choices", "value": {"choices": [item.answered]}}
    suggested: dict[str, Any] = {"model_version": f"{model} {item.version}", "result": [choice]}
    if item.confidence is not None:
        suggested["score"] = item.confidence
    data = {_TEXT: item.text, _ID: item.prediction_id, "reason": item.reason}
    return {"data": data, "predictions": [suggested]}


def _record(item: Asked, model: str) -> dict[str, Any]:
    suggested = {"value": item.answered, "score": item.confidence, "agent": f"{model} {item.version}"}
    return {
        "id": item.prediction_id,
        "fields": {_TEXT: item.text},
        "metadata": {"reason": item.reason, "version": item.version},
        "suggestions": {_LABEL: suggested},
        "responses": {},
        "vectors": {},
        "status": "pending",
    }


def _given(row: Mapping[str, Any], attributes: Sequence[str]) -> Mapping[str, Any] | None:
    data, labels, at = (_of_task if _is_task(row) else _of_record)(row)
    if not labels:
        return None
    if len(set(labels)) > 1:
        raise DataError(f"people gave {len(set(labels))} labels; settle on one there, and export again")
    whose = {_ID: data[_ID]} if data.get(_ID) else {_TEXT: data.get(_TEXT)}
    told = row["data"] if _is_task(row) else row.get("metadata")
    said = {name: told[name] for name in attributes if name in told} if isinstance(told, dict) else {}
    return {**whose, _LABEL: labels[0], **({} if at is None else {"at": at}), **({"attributes": said} if said else {})}


def _of_task(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str], str | None]:
    counted = [one for one in row.get("annotations", ()) if isinstance(one, dict) and not one.get("was_cancelled")]
    labels, at = [], None
    for one in counted:
        for result in one.get("result", ()):
            chosen = result.get("value", {}).get("choices", []) if result.get("type") == "choices" else []
            if len(chosen) > 1:
                raise DataError("one annotation has several choices; a text has one label")
            labels += [str(choice) for choice in chosen]
        at = one.get("updated_at") or one.get("created_at") or at
    return row["data"], labels, at


def _of_record(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str], str | None]:
    answers = row.get("responses", {}).get(_LABEL) or []
    labels = [str(one["value"]) for one in answers if isinstance(one, dict) and one.get("value") is not None]
    known = str(row.get("id", ""))
    is_prediction = len(known) == 32 and not set(known) - set("0123456789abcdef")
    return {**row["fields"], **({_ID: known} if is_prediction else {})}, labels, None
