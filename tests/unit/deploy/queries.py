"""The queries of alert rules and dashboard, and the series that they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
import yaml

__all__ = ["DEPLOY", "is_of_triton", "labels_wrong", "queries", "series_asked", "series_of", "series_told"]

DEPLOY = Path(__file__).resolve().parents[3] / "ops" / "deploy"


def queries() -> dict[str, str]:
    """Each query by where it stands. Grafana's variable is put in as a pattern."""
    rules = yaml.safe_load((DEPLOY / "alerts.yml").read_text())
    found = {f"alert {rule['alert']}": rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"].replace("$model", "intent")
    return found


def series_of(query: str) -> set[str]:
    """The names of the series that a query reads."""
    return set(_names(promql.parse(query)))


def series_asked() -> set[str]:
    """The names of the series that all of them read."""
    return {name for query in queries().values() for name in series_of(query)}


def is_of_triton(name: str) -> bool:
    """Triton's own figures, and those that the routers count there."""
    return name.startswith("nv_") or name.endswith("_total")


def series_told(exposition: str) -> set[str]:
    """The names of the series that a process tells Prometheus; a histogram has three."""
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", exposition, flags=re.MULTILINE)
    ends = {"histogram": ("_bucket", "_count", "_sum")}
    return {f"{name}{end}" for name, kind in kinds for end in ends.get(kind, ("",))}


def labels_wrong(exposition: str) -> list[str]:
    """Labels that a query asks of a series, and no sample of it here has; series without a sample are left out."""
    told: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:{(.*)})? \S+$", exposition, flags=re.MULTILINE):
        told.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return [
        f"{where}: {name} has no label {label}"
        for where, query in queries().items()
        for name, label in _labels(promql.parse(query), frozenset())
        if name in told and label.removeprefix("exported_") not in told[name]  # as Prometheus calls one of its own
    ]


def _labels(expression: object, kept: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Each series with the labels that its selector names, and those that a sum around it keeps."""
    if isinstance(expression, promql.VectorSelector):
        named = {matcher.name for matcher in expression.matchers.matchers}
        yield from ((str(expression.name), label) for label in named | kept)
        return
    modifier = getattr(expression, "modifier", None)
    if isinstance(expression, promql.AggregateExpr) and modifier is not None and str(modifier).startswith("by"):
        kept = frozenset(modifier.labels)
    for below in _below(expression):
        yield from _labels(below, kept)


def _below(expression: object) -> Iterator[object]:
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (below := getattr(expression, part, None)) is not None:
            yield below
    yield from getattr(expression, "args", None) or ()


def _names(expression: object) -> Iterator[str]:
    if isinstance(expression, promql.VectorSelector):
        assert expression.name is not None, "a query names its series"
        yield expression.name
        return
    for below in _below(expression):
        yield from _names(below)
