"""Every setting there is, by its dotted name: for a reference page, and for whoever mistyped one."""

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from perennial.ops.safety.secrecy import is_secret_place

__all__ = [
    "SettingInForce",
    "SettingLine",
    "may_be_secret",
    "meant",
    "reference_page",
    "setting_lines",
    "settings_in_force",
]

_TABLE_NAME = "NAME"  # stands for a name of the user's own
_HIDDEN = "***"
_LONGEST_DEFAULT = 60
_BOUNDS = {Ge: ">= ", Gt: "> ", Le: "<= ", Lt: "< "}
_INTRODUCTION = """# Settings

`perennial config docs` writes this page; a test holds it up to date. Settings stand in `perennial.toml` in the working
folder. A variable overrides each: `PERENNIAL_`, and `__` between levels (`PERENNIAL_TRITON__GRPC_PORT=9001`).
`perennial config show` prints what is in force beside the default, `perennial config check` tells what is wrong.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingLine:
    """One setting: its name, what it may be, what it is unless somebody says otherwise, and what it does."""

    name: str
    kind: str
    default: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingInForce:
    """One setting as it is: its value beside its default, both as text."""

    name: str
    value: str
    default: str

    @property
    def changed(self) -> bool:
        """Whether it differs from the default."""
        return self.value != self.default


def may_be_secret(name: str, value: object) -> bool:
    """Whether a setting's value is not to be shown. What people named in the path to it says nothing of that.

    >>> may_be_secret("headers", {"Authorization": "Bearer 1"}), may_be_secret("expose_unauthenticated_inference", True)
    (True, False)
    """
    return isinstance(value, SecretStr) or (not isinstance(value, bool) and is_secret_place([name]))


def settings_in_force(settings: BaseModel, below: str = "") -> Iterator[SettingInForce]:
    """Every setting with its value; what may be secret is shown as ***."""
    for name, info in type(settings).model_fields.items():
        path, value = f"{below}{name}", getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from settings_in_force(value, f"{path}.")
        elif isinstance(value, dict) and _section(info.annotation)[1]:
            for key, section in value.items():
                yield from settings_in_force(section, f"{path}.{key}.")
        else:
            told, hidden = _text(value), may_be_secret(name, value)
            yield SettingInForce(
                name=path, value=_HIDDEN if hidden and told != "-" else told, default=_default(info).strip("`")
            )


def setting_lines(of: type[BaseModel], below: str = "") -> Iterator[SettingLine]:
    """The settings of a section and of the sections in it, in their order."""
    for name, info in of.model_fields.items():
        path = f"{below}{name}"
        section, named = _section(info.annotation)
        if section is not None:
            yield from setting_lines(section, f"{path}.{_TABLE_NAME}." if named else f"{path}.")
            continue
        yield SettingLine(
            name=path, kind=_kind(info), default=_default(info), description=" ".join((info.description or "").split())
        )


def meant(of: type[BaseModel], place: Sequence[Any]) -> str:
    """The known name nearest to an unknown one; empty where none is near. `place` is the way to it."""
    *way, wrong = place
    section: type[BaseModel] | None = of
    steps = [str(step) for step in way]
    while steps and section is not None:
        info = section.model_fields.get(steps.pop(0))
        section, named = (None, False) if info is None else _section(info.annotation)
        if named and steps:
            steps.pop(0)
    if section is None:
        return ""
    near = difflib.get_close_matches(str(wrong), section.model_fields, n=1)
    return near[0] if near else ""


def reference_page(of: type[BaseModel]) -> str:
    """The page that lists every setting, one table a section."""
    tables: dict[str, list[SettingLine]] = {}
    for line in setting_lines(of):
        tables.setdefault(line.name.rpartition(".")[0], []).append(line)
    parts = [_INTRODUCTION]
    for section in sorted(tables, key=lambda name: (name != "", name.startswith("models"))):
        heading = f"[{section}]" if section else "At the top"
        rows = [f"| `{_last(line)}` | {_cell(line.kind)} | {_shown(line.default)} | {_cell(line.description)} |"
                for line in tables[section]]  # fmt: skip
        parts.append(
            "\n".join([f"## {heading}", "| setting | type | default | what it does |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _last(line: SettingLine) -> str:
    return line.name.rpartition(".")[2]


def _shown(default: str) -> str:
    return _cell(default) if len(default) <= _LONGEST_DEFAULT else "`perennial config show` prints it"


def _cell(text: str) -> str:
    return text.replace("|", "\\|") or "-"


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a setting is, and whether it is a table of sections by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is dict and len(inner) == 2 and isinstance(inner[1], type) and issubclass(inner[1], BaseModel):
        return inner[1], True
    if origin in {Union, UnionType}:
        found = [_section(each) for each in inner if each is not type(None)]
        if len(found) == 1:
            return found[0]
    return None, False


def _kind(info: FieldInfo) -> str:
    bounds = [
        f"{sign}{getattr(limit, kind.__name__.lower())}"
        for limit in info.metadata
        for kind, sign in _BOUNDS.items()
        if isinstance(limit, kind)
    ]
    return " ".join([_type(info.annotation), *([f"({', '.join(bounds)})"] if bounds else [])])


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in {Union, UnionType}:
        return " or ".join(_type(each) for each in inner if each is not type(None))
    if origin in {tuple, list}:
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    names: dict[Any, str] = {Path: "path", SecretStr: "secret", str: "text", bool: "true or false"}
    names |= {int: "whole number", float: "number", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", "text"))


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "none: it is needed"
    value = info.get_default(call_default_factory=True, validated_data={})
    told = _text(value)
    return told if told == "-" else f"`{told}`"


def _text(value: Any) -> str:
    """A value as a settings file has it, but for paths and lists of names; a dash where there is none."""
    if value is None or value in ("", (), [], {}):
        return "-"
    if isinstance(value, SecretStr):
        return _HIDDEN
    if isinstance(value, Enum):
        value = value.value
    return json.dumps(value, default=str, ensure_ascii=False)
