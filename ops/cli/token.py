"""`token new|hash`."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from perennial.ops.cli.console import print_json, say

__all__ = ["register"]

_app = typer.Typer(help="Tokens of the control API; the settings keep their hashes only.", no_args_is_help=True)


class _Role(StrEnum):
    viewer = "viewer"
    labeller = "labeller"
    operator = "operator"
    admin = "admin"


_RoleOption = Annotated[
    _Role,
    typer.Option(
        "--role",
        "-r",
        help="a viewer reads, a labeller labels too, an operator commands too, an admin may do everything",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="token")


@_app.command()
def new(role: _RoleOption) -> None:
    """Make a token and print it this once, with the settings line that lets it in."""
    from perennial.ops.safety.tokens import new_token

    token = new_token()
    say("give the token to its owner; it is stored nowhere and cannot be shown again")
    print_json({"token": token, "role": role.value, "setting": _setting(token, role)})


@_app.command(name="hash")
def hash_token(role: _RoleOption) -> None:
    """Print the settings line for a token that is in use. It is read from standard input, never from an argument."""
    from perennial.continual.errors import InputError

    if sys.stdin.isatty():
        token = str(typer.prompt("token", hide_input=True, err=True)).strip()
    else:
        token = sys.stdin.readline().strip()
    if len(token) < 22:
        raise InputError(
            f"the token has {len(token)} characters; one that may be guessed is refused: run `perennial token new`"
        )
    print_json({"role": role.value, "setting": _setting(token, role)})


def _setting(token: str, role: _Role) -> str:
    from perennial.ops.safety.tokens import hashed

    return f'[api.tokens]\n"{hashed(token)}" = "{role.value}"'
