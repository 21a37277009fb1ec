"""The application: every command, and how an error becomes an exit code.

Results go to stdout, logs and progress to stderr. Exit codes: 0 done, 1 failed, 2 usage or configuration,
3 a dependency is unreachable, 4 refused by a gate, 130 interrupted.
"""

import io
import logging
import os
import sys
import traceback
from typing import Annotated

import typer

from perennial.continual.errors import PerennialError
from perennial.ops.cli import (
    account,
    alerts,
    audit,
    backup,
    config,
    demo,
    doctor,
    drift,
    engines,
    erase,
    federate,
    feedback,
    hear,
    init,
    items,
    label,
    learn,
    ledger,
    models,
    opening,
    policy,
    replay,
    reply,
    rollout,
    schedule,
    serving,
    token,
    users,
)
from perennial.ops.cli.console import say, say_error
from perennial.ops.cli.system_errors import told
from perennial.ops.safety.permissions import PRIVATE

__all__ = ["app", "main"]

logger = logging.getLogger(__name__)

_PIPE_CLOSED = 128 + 13  # as a process that SIGPIPE ends
app = typer.Typer(
    name="perennial",
    help="Keeps a deployed text model good by itself: serve, watch, retrain, prove, swap.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: panels load a Markdown reader, which takes longer than all else together
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"perennial {version('perennial-serving')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="print the version and stop", is_eager=True, callback=_version)
    ] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error; logs go to stderr")] = "warning",
) -> None:
    del version
    from perennial.ops.app.logs import configure_logging

    if log_level.lower() not in {"debug", "info", "warning", "error"}:
        raise typer.BadParameter(f"{log_level!r}; allowed are debug, info, warning, error", param_hint="--log-level")
    configure_logging(log_level)


alerts.register(app)
init.register(app)
serving.register(app)
models.register(app)
engines.register(app)
feedback.register(app)
drift.register(app)
erase.register(app)
label.register(app)
learn.register(app)
ledger.register(app)
replay.register(app)
reply.register(app)
policy.register(app)
schedule.register(app)
audit.register(app)
hear.register(app)
backup.register(app)
config.register(app)
opening.register(app)
rollout.register(app)
demo.register(app)
doctor.register(app)
token.register(app)
users.register(app)
account.register(app)
items.register(app)
federate.register(app)


def _open_what_is_closed() -> None:
    """Open standard streams that were closed on /dev/null, so that no file takes their numbers."""
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def main() -> int:
    """Run the command line and return its exit code."""
    os.umask(PRIVATE)  # what this process and its children write is its user's alone
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):  # a terminal of another encoding shows what it lacks as \u..., and goes on
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except PerennialError as error:
        say_error(type(error).__name__, str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        say_error("Interrupted", "stopped by you")
        return 130
    except typer.Exit as end:
        return int(end.exit_code)
    except BrokenPipeError:  # whoever read the result, e.g. `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        logger.debug("cli.system_error", exc_info=error)
        say_error(type(error).__name__, told(error))
        return 1
    except Exception as error:  # typer 0.29 raises usage errors of its own, older ones click's: both show themselves
        show, exit_code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if not callable(show) or not isinstance(exit_code, int):
            say(traceback.format_exc().rstrip())  # by the way that makes visible what would act on the terminal
            return 1
        show()
        return exit_code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
