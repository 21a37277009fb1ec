"""`init`, `serve`, `status`, `predict`, `retrain`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, ModelOption, print_json, print_table, say
from perennial.ops.cli.session import model_session, session

__all__ = ["register"]

_TOML = """# Settings of this workspace; every value can also be given as PERENNIAL_SECTION__NAME.
# state = "var"
# repository = "model_repository"

[triton]
grpc_port = 8001
http_port = 8000
metrics_port = 8002
# http = false                  # gRPC alone
# http_hosts = ["models.example"]   # names by which clients may call the HTTP port beside localhost
# http_body_bytes = 67108864    # most bytes of a request over HTTP

[api]
port = 8080
# hosts = ["models.example"]    # names that callers may use beside localhost, e.g. a proxy's

# [api.tokens]                  # `perennial token new --role operator` prints a token, and the line for here

[models.{model}.learning]
# encoder = "packaged:minilm"   # or any Hugging Face name or folder
replay_rows = 770

[models.{model}.policy]
kind = "any"
policies = [{{ kind = "drift" }}, {{ kind = "label_count", at_least = 1000 }}]
limits = {{ cooldown_s = 600.0, min_labels = 100, budget_per_day = 24 }}
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(serve)
    app.command()(status)
    app.command()(predict)
    app.command()(retrain)


def init(
    data: Annotated[Path | None, typer.Option(help="labelled rows (CSV with text,category or text,label)")] = None,
    model: ModelOption = "intent",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Write perennial.toml where there is none; with --data, train and publish the first version."""
    from perennial.continual.preparation import admit_name

    path = config or Path("perennial.toml")
    admit_name(model)
    if dry_run:
        print_json(_planned(path, data, model))
        return
    if not path.exists():
        from perennial.ops.store.workspace import write_atomically

        write_atomically(path, _TOML.format(model=model))
        say(f"wrote {path}")
    if data is None:
        say(f"next: perennial init --data FILE.csv --model {model}")
        return
    from perennial.continual.preparation import read_labelled_csv
    from perennial.ops.cli.progress import stages
    from perennial.ops.commands.first_version import first_version

    examples = read_labelled_csv(data)
    with session(path) as parts, stages(f"first version of {model}") as tell:
        made = first_version(parts.ledger, parts.workspace, model, examples, tell)
    print_json(
        {
            "model": model,
            "version": made.version,
            "rows": made.rows,
            "labels": len(made.labels),
            "replay_rows": made.replay_rows,
            "bundle": str(made.bundle),
        }
    )


def _planned(path: Path, data: Path | None, model: str) -> dict[str, Any]:
    """What `init` would do; a file that it could not read is refused here too."""
    told: dict[str, Any] = {"dry_run": True, "model": model, "writes": None if path.exists() else str(path)}
    if data is not None:
        from perennial.continual.preparation import read_labelled_csv

        rows = read_labelled_csv(data)
        told |= {"rows": len(rows), "labels": len({row.label for row in rows}), "then": "train and publish version 1"}
    return told


def serve(config: ConfigOption = None) -> None:
    """Start Triton, the loop and the control API; runs until SIGTERM or Ctrl-C."""
    import gc
    import logging

    gc.disable()  # a collection frees nothing while modules load, and takes a tenth of the time to the first answer
    from perennial.ops.app.service import Service

    gc.freeze()
    gc.enable()
    root = logging.getLogger()
    root.setLevel(min(root.level, logging.INFO))
    with session(config, may_be_new=True) as parts:
        _close_to_others(parts, config or Path("perennial.toml"))
        grpc, port = parts.controls[0].url, parts.settings.api.port
        say(f"perennial serves on grpc {grpc}, control API port {port}; Ctrl-C ends it")
        Service(parts).run()


def _close_to_others(parts: Any, config: Path) -> None:
    """Older releases left files that everybody could read; an external Triton's user may need the repository."""
    from perennial.ops.safety.permissions import close_to_others

    settings = parts.settings
    places = [settings.state, *([] if settings.triton.url else [settings.repository])]
    umask = int(settings.umask, 8)
    if changed := close_to_others((place for place in (*places, config) if place.exists()), umask):
        say(f"{changed} files and folders of this workspace were open to other users; they are closed now")


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Which version answers, how the traffic looks, and what the loop is doing.

    The estimated accuracy trusts the confidence and is blind to a change of concept; --json tells what each assumes.
    """
    from perennial.ops.store.ledger_guard import LedgerBehind, check_not_behind
    from perennial.ops.views.status import model_status

    with session(config) as parts:
        told = [model_status(parts.ledger, name) for name in parts.settings.models]
        live = all(control.live() for control in parts.controls)
        for name in parts.settings.models:
            try:
                check_not_behind(parts.ledger.route(name), parts.workspace, name)
            except LedgerBehind as behind:  # opening a lost ledger made an empty one, which looks like a fresh start
                say(str(behind))
    if as_json:
        print_json({"triton_live": live, "models": told})
        return
    print_table(
        f"Triton {'answers' if live else 'does not answer'}",
        (
            "model",
            "champion",
            "previous",
            "resident",
            "drift",
            "estimated accuracy",
            "measured accuracy",
            "cycle",
            "unlearnt labels",
            "replay rows",
        ),
        (
            (
                m["model"],
                m["champion"],
                m["previous"],
                m["resident"],
                None if m["drift"] is None else m["drift"]["state"],
                *_accuracies(m["accuracy"]),
                None if m["cycle"] is None else m["cycle"]["state"],
                m["labels"]["unlearnt"],
                m["replay_rows"],
            )
            for m in told
        ),
    )


def _accuracies(told: dict[str, Any] | None) -> list[str | None]:
    """Estimated and measured, each with its interval."""
    figures = [(told or {}).get(name) for name in ("estimated", "measured")]
    return [f and f"{f['value']:.3f} [{f['low']:.3f}, {f['high']:.3f}]" for f in figures]


def predict(
    texts: Annotated[list[str], typer.Argument(help="one or more texts")],
    model: ModelOption = "intent",
    key: Annotated[str | None, typer.Option(help="caller's id: keeps the caller on its arm")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="every label's probability")] = False,
    config: ConfigOption = None,
) -> None:
    """Ask the served model."""
    from dataclasses import asdict

    from perennial.ops.app.wiring import grpc_url
    from perennial.ops.serving.client import PerennialClient
    from perennial.ops.settings import load_settings

    with PerennialClient(grpc_url(load_settings(config)), model) as client:
        keys = None if key is None else [key] * len(texts)
        print_json([asdict(answer) for answer in client.predict(texts, keys, scores=scores)])


def retrain(model: ModelOption = "intent", dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Ask the running loop to train a challenger now, whatever the policy says."""
    from perennial.continual.errors import NotFound, Refused
    from perennial.ops.cli.actor import actor

    with model_session(config, model) as (parts, model):
        route, cycle = parts.ledger.route(model), parts.ledger.active_cycle(model)
        if route is None:
            raise NotFound(f"model {model} serves no version yet; train the first with `perennial init --data FILE`")
        if cycle is not None:
            raise Refused(
                f"{model} has cycle {cycle.id} under way ({cycle.state}); see `perennial rollout show`, or end it "
                f"with `perennial rollout abort`"
            )
        if dry_run:
            print_json({"dry_run": True, "now": "no cycle", "then": "training", "champion": route.champion})
            return
        number = parts.ledger.request_command(model, "retrain", {}, actor())
    say("asked; the running `perennial serve` takes it up (see `perennial status`)")
    print_json({"command": number})
