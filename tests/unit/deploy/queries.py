"""The queries of alert rules and dashboard, and the series that they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
import yaml

__all__ = ["DEPLOY", "is_of_triton", "queries", "series_asked", "series_of", "series_told"]

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


def _names(expression: object) -> Iterator[str]:
    if isinstance(expression, promql.VectorSelector):
        assert expression.name is not None, "a query names its series"
        yield expression.name
        return
    for part in ("expr", "lhs", "rhs", "vector_selector", "param"):
        below = getattr(expression, part, None)
        if below is not None:
            yield from _names(below)
    for argument in getattr(expression, "args", None) or ():
        yield from _names(argument)
