"""The settings as they are in force, each with what it is for; nothing that may be a secret."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from perennial.ops.settings import Settings
from perennial.ops.settings.reference import may_be_secret

__all__ = ["SettingRow", "settings_in_force", "token_roles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One setting: its section, its name there, its value (None where it may be a secret), and what it is for."""

    section: str
    name: str
    value: object
    hidden: bool
    default: bool
    description: str


def settings_in_force(settings: Settings) -> tuple[SettingRow, ...]:
    """Return every setting, those of the file's top first, then section by section."""
    return tuple(_rows(settings, ()))


def token_roles(tokens: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the tokens that are let in, each by the beginning of its hash, with its role."""
    return tuple((name.removeprefix("sha256:")[:8], role) for name, role in tokens.items())


def _rows(section: BaseModel, path: Sequence[str]) -> Iterator[SettingRow]:
    within: list[tuple[str, BaseModel]] = []
    for name, about in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            within.append((name, value))
            continue
        if isinstance(value, Mapping) and value and all(isinstance(each, BaseModel) for each in value.values()):
            within += [(f"{name}.{key}", each) for key, each in value.items()]
            continue
        hidden = bool(value) and may_be_secret(name, value)
        yield SettingRow(
            section=".".join(path),
            name=name,
            value=None if hidden else _plain(value),
            hidden=hidden,
            default=name not in section.model_fields_set,
            description=about.description or "",
        )
    for name, inner in within:
        yield from _rows(inner, (*path, *name.split(".", 1)))


def _plain(value: Any) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(_plain(each) for each in value)
    return str(value) if not isinstance(value, Mapping) else ", ".join(map(str, value)) or None
