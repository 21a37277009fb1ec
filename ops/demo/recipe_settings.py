"""The settings that a recipe's demonstration runs under: the recipe's own, on free ports, with an hour in a minute."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perennial.continual.atomic_file import write_atomically
from perennial.ops.demo.options import free_ports
from perennial.ops.demo.served import MARK
from perennial.ops.recipes import Recipe
from perennial.ops.settings import Settings, load_settings

__all__ = ["HASTE", "hasty_policy", "recipe_settings"]

HASTE: Mapping[str, Any] = {  # of one model: what waits for hours elsewhere may not wait here
    "learning": {"niceness": 0},
    "drift": {
        "window_rows": 120,
        "reference_rows": 240,
        "cooldown_requests": 240,
        "report_every_windows": 1000,
        "feedback_within_s": 3.0,
    },
    "cycle": {"probation_s": 5.0, "resident_versions": 2},
}
_WORKSPACE: Mapping[str, Any] = {
    "state": "state",
    "repository": "model_repository",
    "triton": {"engine_threads": 1, "keep_after_control_dies": False, "router_instances": 1},
    "traffic": {"rotate_rows": 1000, "rotate_s": 10.0},
    "schedule": {"watch_s": 1.0, "retrain_check_s": 1.0, "reconcile_s": 10.0, "compact_s": 30.0},
}


def recipe_settings(out: Path, recipe: Recipe, *, seed: int, changed: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Write `perennial.toml` into the folder and read it.

    Args:
        out: the folder.
        recipe: its models get the recipe's settings, and `HASTE` over them.
        seed: of the workspace.
        changed: by the model's name, what the demonstration sets over both; None leaves a setting out.
    """
    grpc, http, metrics, api = free_ports()
    ports = {"triton": {"grpc_port": grpc, "http_port": http, "metrics_port": metrics}, "api": {"port": api}}
    models = {}
    for model in recipe.models:
        own = tomllib.loads(model.section(model.name))["models"][model.name]
        models[model.name] = _over(_over(own, HASTE), changed.get(model.name, {}))
    document = _over(_over(_WORKSPACE, ports), {"seed": seed, "models": models})
    lines = [f"{name} = {_toml(value)}" for name, value in document.items()]
    head = f"# Written by `perennial demo --recipe {recipe.name}`; the loop runs under these settings.\n"
    write_atomically(out / MARK, head + "\n".join(lines) + "\n")
    return load_settings(out / MARK)


def hasty_policy(*, at_least: int, min_feedback: int) -> Mapping[str, Any]:
    """A policy that learns after a drift, or after `at_least` pieces of feedback, and hardly rests in between."""
    return {
        "kind": "any",
        "policies": [{"kind": "drift"}, {"kind": "feedback_count", "at_least": at_least}],
        "limits": {"cooldown_s": 5.0, "min_feedback": min_feedback, "budget_per_day": 100},
    }


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both; tables are merged, and of anything else the upper one counts, where None is no value."""
    merged = dict(below)
    for name, value in above.items():
        if value is None:
            merged.pop(name, None)
            continue
        known = merged.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping) and "kind" not in value
        merged[name] = _over(known, value) if both else value  # type: ignore[arg-type]
    return merged


def _toml(value: object) -> str:
    """A value as TOML writes it; texts, numbers and truth values are those of JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
