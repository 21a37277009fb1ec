"""`serve`, `status`, `predict`, `retrain`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.console import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    ModelOption,
    known_facts,
    print_json,
    print_table,
    say,
    say_error,
)
from perennial.ops.cli.session import model_session, session

if TYPE_CHECKING:
    from perennial.ops.app.running import RunningServe
    from perennial.ops.app.service import Service
    from perennial.ops.store.state import LaneState
    from perennial.ops.views.health import HealthView
    from perennial.ops.views.status import AccuracyView

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(serve)
    app.command()(status)
    app.command()(predict)
    app.command()(retrain)


def serve(config: ConfigOption = None) -> None:
    """Start Triton, the loop and the control API; runs until SIGTERM or Ctrl-C."""
    import gc
    import logging
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # or a second thread spins after each small product
    from perennial.continual.jobs.memory import keep_little, without_pandas

    keep_little()
    without_pandas()
    gc.disable()  # a collection frees nothing while modules load, and takes a tenth of the time to the first answer
    from perennial.ops.app.service import Service

    gc.freeze()
    gc.enable()
    root = logging.getLogger()
    root.setLevel(min(root.level, logging.INFO))
    with session(config, may_be_new=True) as parts:
        _close_to_others(parts, config or Path("perennial.toml"))
        grpc, port = ", ".join(control.url for control in parts.controls), parts.settings.api.port
        say(f"perennial serves on grpc {grpc}, control API port {port}; Ctrl-C ends it")
        if not parts.settings.models:
            say("no model is named yet; name one in another terminal: perennial init NAME --data FILE")
        _run(Service(parts))


def _run(service: "Service") -> None:
    """Run it to its end, also where one of its threads hangs, which Python would wait for without end."""
    import logging
    import os

    from perennial.continual.errors import PerennialError

    code = 0
    try:
        service.run()
    except PerennialError as error:
        if not service.hung:
            raise
        say_error(type(error).__name__, str(error))
        code = error.exit_code
    if service.hung:
        say(f"stopped, although {', '.join(service.hung)} did not end; the next start repeats what was not done")
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)


def _close_to_others(parts: Any, config: Path) -> None:
    """Older releases left files that everybody could read; an external Triton's user may need the repository."""
    from perennial.ops.safety.permissions import close_to_others

    settings = parts.settings
    places = [settings.state, *([] if settings.triton.url else [settings.repository])]
    umask = int(settings.umask, 8)
    if changed := close_to_others((place for place in (*places, config) if place.exists()), umask):
        say(f"{changed} files and folders of this workspace were open to other users; they are closed now")


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Which version answers, how the traffic looks, what the loop is doing, and what of it is not well.

    The estimated accuracy trusts the confidence and is blind to a change of concept; --json tells what each assumes.
    The exit code is 0 also where something is not well: scripts ask `/healthz`.
    """
    from perennial.continual.errors import DataError
    from perennial.ops.app.running import RunningServe
    from perennial.ops.store.ledger_guard import LedgerBehind, check_not_behind
    from perennial.ops.views.status import model_status

    with session(config) as parts:
        names = (*parts.settings.models, *parts.settings.refused)
        statuses = [model_status(parts.ledger, name) for name in names]
        for status in statuses:
            for what in status.unreadable:
                say(f"of {status.model} not everything is shown: {what}")
        for name, refused in parts.settings.refused.items():
            say(f"{name} is not watched and retrained, because its settings cannot be used: {refused.problem}")
        live = all(control.live() for control in parts.controls)
        for name in names:
            try:
                check_not_behind(parts.ledger.route(name), parts.workspace, name)
            except (
                LedgerBehind,
                DataError,
            ) as behind:  # opening a lost ledger made an empty one, which looks like a fresh start
                say(str(behind))
    serve = RunningServe.of(parts.settings.state)
    health = None if serve is None else _health(serve)
    if as_json:
        running = {
            "running": serve is not None,
            "pid": None if serve is None else serve.pid,
            "health": known_facts(health),
        }
        print_json({"triton_live": live, "serve": running, "models": statuses})
        return
    _show_parts(serve, health)
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
            "training",
            "unlearnt rows",
            "replay rows",
        ),
        (
            (
                m.model,
                m.champion,
                m.previous,
                m.resident,
                None if m.drift is None else m.drift.state,
                *_accuracies(m.accuracy),
                None if m.cycle is None else m.cycle.state,
                _turn(m.training),
                m.labels.unlearnt,
                m.replay_rows,
            )
            for m in statuses
        ),
    )


def _turn(lane: "LaneState | None") -> str | None:
    """Whether the model's training is at work or waits, behind whom, and since when."""
    if lane is None:
        return None
    what = "at work" if lane.works else f"waits behind {', '.join(lane.behind)}"
    return f"{what} since {lane.since[:19].replace('T', ' ')}"


def _health(serve: "RunningServe") -> "HealthView | None":
    """What the running process tells of its parts; None, and a line that says why, where it does not answer."""
    from perennial.continual.errors import DependencyUnreachable

    try:
        return serve.health()
    except DependencyUnreachable as exc:
        say(str(exc))
        return None


def _show_parts(serve: "RunningServe | None", health: "HealthView | None") -> None:
    from perennial.ops.views.health import part_rows

    if serve is None:
        say("`perennial serve` does not run here: nobody watches, learns or mends; start it with `perennial serve`")
    if serve is None or health is None:
        return
    rows = part_rows(health)
    wrong = sum(not row.healthy for row in rows)
    title = (
        f"`perennial serve` (process {serve.pid}): {f'{wrong} of {len(rows)} parts' if wrong else 'nothing'} unhealthy"
    )
    cells = (
        (
            row.part,
            "yes" if row.healthy else "NO",
            row.last_s,
            row.limit_s,
            "; ".join(filter(None, (row.error, row.note))),
        )
        for row in rows
    )
    print_table(title, ("part", "healthy", "last did its work, s ago", "limit, s", "error and note"), cells)


def _accuracies(seen: "AccuracyView | None") -> list[str | None]:
    """Estimated and measured, each with its interval."""
    figures = [None, None] if seen is None else [seen.estimated, seen.measured]
    return [None if f is None else f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in figures]


def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(help="one or more texts, or files of images; none for a ranking")
    ] = None,
    user: Annotated[str, typer.Option(help="of a ranking: whom the list is for")] = "",
    count: Annotated[int, typer.Option(min=1, max=100, help="of a ranking: items in the list")] = 10,
    context: Annotated[str, typer.Option(help="of a ranking: the situation, in words")] = "",
    customer: Annotated[str, typer.Option(help="of replies: whose message it is; their history counts")] = "",
    after: Annotated[str, typer.Option(help="of replies: the intent of the turn before")] = "",
    language: Annotated[str, typer.Option(help="of replies: those of other languages are left out")] = "",
    tone: Annotated[str, typer.Option(help="of generation: how an approved reply is told, e.g. friendly")] = "",
    greet: Annotated[str, typer.Option(help="of generation: who is greeted by name")] = "",
    model: ModelOption = "",
    key: Annotated[str | None, typer.Option(help="caller's id: keeps the caller on its arm")] = None,
    scores: Annotated[bool, typer.Option("--scores", help="every label's probability")] = False,
    known: Annotated[bool, typer.Option("--known", help="whether each text is of any of the classes")] = False,
    config: ConfigOption = None,
) -> None:
    """Ask the served model: about texts, or with --user a ranking for a list."""
    from perennial.ops.app.wiring import grpc_url
    from perennial.ops.serving.client import PerennialClient
    from perennial.ops.settings import load_settings

    settings = load_settings(config)
    task = settings.task_of(model)
    inputs = _asked(task, texts or [], user, count, context)
    if customer or after or language:
        inputs = _messages(task, inputs, customer, after, language)
    if tone or greet:
        inputs = _manners(task, inputs, tone, greet)
    with PerennialClient(grpc_url(settings), model, task=task) as client:
        keys = None if key is None else [key] * len(inputs)
        print_json(client.predict(inputs, keys, scores=scores, known=known))


def _manners(task: str, rewrites: "list[Any]", tone: str, greet: str) -> "list[Any]":
    """The same rewrites in a tone, with a greeting.

    Raises:
        typer.BadParameter: the model rewrites nothing.
    """
    if task != "generation":
        raise typer.BadParameter(f"a model of task {task!r} rewrites nothing; leave --tone and --greet")
    from dataclasses import replace

    return [replace(each, tone=tone, name=greet) for each in rewrites]


def _messages(task: str, texts: "list[Any]", customer: str, after: str, language: str) -> "list[Any]":
    """The messages of a customer.

    Raises:
        typer.BadParameter: the model gives no replies.
    """
    if task != "replies":
        raise typer.BadParameter(f"a model of task {task!r} gives no replies; leave --customer, --after and --language")
    from perennial.continual.tasks.replies import Message, Turn

    turns = (Turn(intent=after),) if after else ()
    return [Message(text=text, customer=customer, language=language, turns=turns) for text in texts]


def _asked(task: str, texts: list[str], user: str, count: int, context: str) -> "list[Any]":
    """What the task is asked.

    Raises:
        typer.BadParameter: a ranking is asked about texts, or another task for a user's list.
    """
    if task == "generation" and texts:
        from perennial.continual.tasks.generation import Rewrite

        return [Rewrite(approved=text) for text in texts]
    if task != "ranking":
        if user or context or not texts:
            raise typer.BadParameter(f"a model of task {task!r} is asked about texts; give one or more, and no --user")
        return [_content(path) for path in texts] if task == "image_classification" else list(texts)
    if texts or not user:
        raise typer.BadParameter("a ranking is asked for a user's list; give --user, and no texts", param_hint="--user")
    from perennial.exporters.ranking.asked import Asked

    return [Asked(user=user, count=count, context=context)]


def _content(path: str) -> bytes:
    """The content of an image's file.

    Raises:
        typer.BadParameter: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise typer.BadParameter(f"{path!r} cannot be read ({exc.strerror}); give JPEG or PNG files") from exc


def retrain(model: ModelOption = "", dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Ask the running loop to train a challenger now, whatever the policy says."""
    from perennial.continual.errors import NotFound, Refused
    from perennial.ops.cli.actor import actor

    with model_session(config, model) as (parts, model):
        route, cycle = parts.ledger.route(model), parts.ledger.active_cycle(model)
        if route is None:
            raise NotFound(
                f"model {model} serves no version yet; train the first with `perennial init {model} --data FILE`"
            )
        if cycle is not None and not cycle.on_probation:
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
