"""`doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from perennial.ops.cli.console import ConfigOption, JsonOption, print_json, print_table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    http: Annotated[str, typer.Option(help="Triton's HTTP, as http://host:port; the embedded one's is known")] = "",
    metrics: Annotated[str, typer.Option(help="Triton's metrics, likewise")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look at this machine, and try without any secret what is open on Triton; changes nothing.

    Exit code 1 when something dangerous is open.
    """
    from perennial.ops.app.wiring import configured_models, grpc_urls
    from perennial.ops.commands.doctor import engine_question, examine, examine_binary
    from perennial.ops.commands.machine import examine_machine
    from perennial.ops.serving.tasks import serving_side
    from perennial.ops.settings import load_settings
    from perennial.ops.store.workspace import Workspace

    settings = load_settings(config)
    triton, workspace = settings.triton, Workspace(settings)
    questions = {
        model: engine_question(serving_side(settings.task_of(model)), workspace.champion(model))
        for model in configured_models(config)
    }
    if not triton.url:
        host = "127.0.0.1" if triton.host in {"", "0", "0.0.0.0"} else triton.host
        http = http or (f"http://{host}:{triton.http_port}" if triton.http else "")
        metrics = metrics or f"http://{host}:{triton.metrics_port}"
    findings = [
        finding
        for number, url in enumerate(grpc_urls(settings))
        for finding in examine(questions, url, http="" if number else http, metrics="" if number else metrics)
    ]
    if not triton.url:
        findings.append(examine_binary(settings.state / "triton"))
    facts = examine_machine(settings, config or Path("perennial.toml"))
    if as_json:
        print_json([*(finding.to_json() for finding in findings), *(fact.to_json() for fact in facts)])
    else:
        print_table("This machine", ["what", "seen", "what to do"], [[f.what, f.seen, f.todo] for f in facts])
        rows = [[f.what, f.where, f.state.value, f.todo if f.wrong else ""] for f in findings]
        print_table("What Triton lets in without a secret", ["what", "where", "state", "what to do"], rows)
    if any(finding.wrong for finding in findings):
        raise typer.Exit(1)
