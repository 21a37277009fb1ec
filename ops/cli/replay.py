"""`replay show|export|erase`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, ModelOption, print_json, print_table, say

__all__ = ["register"]

_app = typer.Typer(help="The replay buffer: labelled rows kept for retraining.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="replay")


@_app.command()
def show(model: ModelOption = "intent", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Its rule, its budgets, and the rows it holds of each class."""
    told = _with_buffer(config, model, lambda parts, buffer: _facts(model, buffer))
    if as_json:
        print_json(told)
        return
    if not told["rows"]:
        say(f"the buffer of {model} is empty; it fills with what the first training learns (`perennial init`)")
    counts = told.pop("classes")
    print_table(f"Replay buffer of {model}", tuple(told), [tuple(told.values())])
    print_table("Classes", ("class", "rows"), counts.items())


@_app.command()
def export(
    out: Annotated[Path, typer.Argument(help="where to write; .jsonl")],
    model: ModelOption = "intent",
    config: ConfigOption = None,
) -> None:
    """Write its rows as JSON lines, as training jobs read them."""
    from perennial.continual.learning.rows import write_rows

    def run(_: Any, buffer: Any) -> dict[str, Any]:
        write_rows(out, buffer.rows())
        return {"rows": len(buffer), "file": str(out)}

    told = _with_buffer(config, model, run)
    say(f"texts in {out} are as they were stored; keep the file as you keep the ledger")
    print_json(told)


@_app.command()
def erase(
    key: Annotated[str, typer.Option(help="the caller's key")],
    model: ModelOption = "intent",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and change nothing")] = False,
    config: ConfigOption = None,
) -> None:
    """Remove a key's rows from the buffer alone; `perennial erase` removes them everywhere."""
    from perennial.continual.errors import ConfigurationError
    from perennial.continual.preparation import key_spellings
    from perennial.ops.cli.actor import actor

    spellings = key_spellings(key)
    if not spellings:
        raise ConfigurationError(f"--key is {key!r}; give the caller's key as it was sent with requests and labels")

    def run(parts: Any, buffer: Any) -> dict[str, Any]:
        if dry_run:
            return {"dry_run": True, "rows": sum(row.key in spellings for row in buffer.rows())}
        gone = sum(buffer.erase(spelling) for spelling in spellings)
        if gone:
            parts.ledger.save_buffer(model, buffer.state())
            parts.ledger.audit(actor(), "replay.erase", model, {"rows": gone})
        return {"rows": gone, "left": len(buffer)}

    done = _with_buffer(config, model, run)
    if not done["rows"]:
        say(f"no row of the buffer of {model} carries the key {key!r}; keys are compared letter by letter")
    print_json(done)


def _with_buffer(config: Path | None, model: str, run: Any) -> Any:
    from perennial.ops.app.wiring import open_parts
    from perennial.ops.store.replay_buffer import open_buffer

    parts = open_parts(config)
    try:
        parts.workspace.model(model)
        return run(parts, open_buffer(parts.ledger, parts.workspace, model))
    finally:
        parts.close()


def _facts(model: str, buffer: Any) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for row in buffer.rows():
        counts[row.label] = counts.get(row.label, 0) + 1
    return {
        "model": model,
        "kind": buffer.name,
        "rows": len(buffer),
        "capacity": buffer.capacity,
        "bytes": buffer.bytes,
        "byte_budget": buffer.byte_budget,
        "offered": buffer.seen,
        "classes": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
    }
