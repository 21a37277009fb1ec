"""Policies from and to plain values, as settings files hold them."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import time
from types import NoneType
from typing import Any, get_args, get_type_hints

from perennial.continual.errors import ConfigurationError
from perennial.continual.policy.conditions import Condition
from perennial.continual.policy.decide import Limits, QuietHours, TriggerPolicy
from perennial.continual.policy.facts import DriftState

__all__ = ["parse_policy", "policy_values"]

_FORMER_NAMES = {  # of kinds and fields, which settings of earlier releases hold
    "estimated_accuracy": "estimated_quality",
    "label_count": "feedback_count",
    "measured_accuracy": "measured_quality",
    "min_labels": "min_feedback",
}
_LONGEST_S = 10_000_000_000.0  # 300 years: no time is reckoned with beyond
_WORDS: dict[type[Any], str] = {str: "a text", bool: "true or false", time: "a time, such as '22:00'"}
_KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in get_args(Condition)}


def parse_policy(values: Mapping[str, Any]) -> TriggerPolicy:
    """A policy from plain values: a condition with its `kind`, and `limits` beside it at the top.

    Raises:
        ConfigurationError: an unknown kind or field, a missing field, or a value out of range; the message says where.

    >>> policy = parse_policy({"kind": "any", "limits": {"budget_per_day": 2}, "policies": [
    ...     {"kind": "drift"}, {"kind": "feedback_count", "at_least": 200}]})
    >>> policy.limits.budget_per_day, [member.kind for member in policy.when.policies]
    (2, ['drift', 'feedback_count'])
    """
    rest = dict(values)
    limits = rest.pop("limits", {})
    return TriggerPolicy(when=_condition(rest, "policy"), limits=_limits(limits))


def policy_values(policy: TriggerPolicy) -> dict[str, Any]:
    """Return the plain values that `parse_policy` reads back, without those that are left at their default."""
    values: dict[str, Any] = _values(policy.when)
    limits = _values(policy.limits)
    return values | {"limits": limits} if limits else values


def _condition(values: Any, where: str) -> Condition:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} is {values!r}; it must be a table with a kind")
    rest = dict(values)
    kind = rest.pop("kind", None)
    kind = _FORMER_NAMES.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigurationError(f"{where} has kind {kind!r}; allowed are {', '.join(sorted(_KINDS))}")
    if "policies" in rest:
        members = rest["policies"]
        if not isinstance(members, (list, tuple)):
            raise ConfigurationError(f"{where}.policies is {members!r}; it must be a list of policies")
        rest["policies"] = tuple(_condition(each, f"{where}.policies[{i}]") for i, each in enumerate(members))
    if "level" in rest:
        rest["level"] = _level(rest["level"], where)
    condition: Condition = _make(_KINDS[kind], rest, where)
    return condition


def _limits(values: Any) -> Limits:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"policy.limits is {values!r}; it must be a table")
    rest = dict(values)
    if isinstance(rest.get("quiet_hours"), Mapping):
        quiet = dict(rest["quiet_hours"])
        for name in ("start", "end"):
            if isinstance(quiet.get(name), str):
                quiet[name] = _time(quiet[name], name)
        rest["quiet_hours"] = _make(QuietHours, quiet, "policy.limits.quiet_hours")
    limits: Limits = _make(Limits, rest, "policy.limits")
    return limits


def _make(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    known = {field.name for field in fields(kind)}
    for former, name in _FORMER_NAMES.items():
        if former in values and name in known - set(values):
            values = {**values, name: values[former]}
            del values[former]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigurationError(f"{where} has unknown fields {unknown}; allowed are {sorted(known)}")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if (wanted := _wanted(name, get_args(hints[name]) or (hints[name],), value)) is not None:
            raise ConfigurationError(f"{where}.{name} is {value!r}; it must be {wanted}")
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigurationError(
            f"{where} cannot be made of {values}: {error}; its fields are {sorted(known)}"
        ) from error


def _wanted(name: str, kinds: tuple[Any, ...], value: Any) -> str | None:
    """What a field of a plain kind must hold, where this value is none of it."""
    if value is None and NoneType in kinds:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if float in kinds:
        if not number or (isinstance(value, float) and not math.isfinite(value)):
            return "a number"
        longest = _LONGEST_S if name.endswith("_s") else math.inf
        return f"at most {longest:,.0f} seconds" if value > longest else None
    if int in kinds:
        return None if number and isinstance(value, int) else "a whole number"
    plain = tuple(kind for kind in kinds if isinstance(kind, type))
    if not plain or isinstance(value, plain):  # a list of policies has been looked at
        return None
    return _WORDS.get(plain[0], "a table")


def _level(value: Any, where: str) -> DriftState:
    try:
        return DriftState(value)
    except ValueError as error:
        raise ConfigurationError(f"{where}.level is {value!r}; allowed are warning, alert") from error


def _time(value: str, name: str) -> time:
    try:
        return time.fromisoformat(value)
    except ValueError as error:
        raise ConfigurationError(f"policy.limits.quiet_hours.{name} is {value!r}; write HH:MM, e.g. '22:00'") from error


def _values(record: Any) -> dict[str, Any]:
    values = {"kind": record.kind} if hasattr(record, "kind") else {}
    for field in fields(record):
        value = getattr(record, field.name)
        if value == field.default or value is None:
            continue
        if isinstance(value, tuple):
            values[field.name] = [_values(each) for each in value]
        elif is_dataclass(value):
            values[field.name] = _values(value)
        elif isinstance(value, time):
            values[field.name] = f"{value:%H:%M}"
        else:
            values[field.name] = str(value) if isinstance(value, DriftState) else value
    return values
