"""`account list|set|remove|token|revoke`: who may come in, and what they may do for which model."""

import sys
from typing import Annotated

import typer

from perennial.ops.cli.actor import actor
from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, print_json, print_table, say
from perennial.ops.cli.session import session

__all__ = ["register"]

_app = typer.Typer(
    help="Accounts of people and programs: roles by model, passwords, tokens. `api.accounts` lets them in.",
    no_args_is_help=True,
)
_Name = Annotated[str, typer.Argument(help="of the account; an e-mail address will do")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="account")


@_app.command("list")
def list_accounts(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every account, its roles, and its tokens by number."""
    from perennial.ops.commands.accounts import AccountView

    with session(config) as parts:
        views = [AccountView.of(row) for row in parts.ledger.accounts()]
    if as_json:
        print_json(views)
        return
    if not views:
        say("no accounts yet; make one with `perennial account set NAME --role operator --password`")
        return
    print_table(
        "Accounts",
        ("name", "roles", "blocked", "password", "tokens"),
        (
            (
                view.name,
                ", ".join(role if model == "*" else f"{model}={role}" for model, role in view.roles.items()),
                "yes" if view.blocked else "no",
                "yes" if view.password else "no",
                ", ".join(f"{token.number} {token.label}".strip() for token in view.tokens),
            )
            for view in views
        ),
    )


@_app.command("set")
def set_roles(
    name: _Name,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role", "-r", help="viewer, labeller, operator or admin for every model, or MODEL=ROLE; replaces all"
        ),
    ] = None,
    password: Annotated[bool, typer.Option("--password", help="ask for a password, or read it from stdin")] = False,
    blocked: Annotated[bool | None, typer.Option("--block/--unblock", help="let it in no more, or again")] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Make an account, or change what is given of it."""
    from perennial.ops.commands.accounts import set_account

    with session(config) as parts:
        view = set_account(
            parts.ledger,
            name,
            actor=actor(),
            roles=None if role is None else _roles(role),
            blocked=blocked,
            password=_password() if password else None,
            dry_run=dry_run,
        )
        if not parts.settings.api.accounts:
            say("accounts are not let in yet: write `accounts = true` under [api], and start `perennial serve` again")
    print_json(view)


@_app.command()
def remove(name: _Name, dry_run: DryRunOption = False, config: ConfigOption = None) -> None:
    """Take an account out; its tokens and sessions end with it."""
    from perennial.ops.commands.accounts import AccountView

    with session(config) as parts:
        view = AccountView.of(parts.ledger.account(name))
        if not dry_run:
            parts.ledger.remove_account(name, actor=actor())
    print_json({"dry_run": dry_run, "removed": view})


@_app.command("token")
def new_token(
    name: _Name,
    label: Annotated[str, typer.Option(help="what it is for")] = "",
    days: Annotated[float | None, typer.Option(min=0.001, max=3650, help="it ends after so many days")] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Make a token that may do what the account may, and print it this once."""
    from perennial.ops.commands.accounts import AccountView, add_token

    with session(config) as parts:
        if dry_run:
            print_json({"dry_run": True, "account": AccountView.of(parts.ledger.account(name)), "label": label})
            return
        token = add_token(parts.ledger, name, label=label, days=days, actor=actor())
    say("give the token to its owner; its hash alone is kept, and it cannot be shown again")
    print_json(token)


@_app.command()
def revoke(
    name: _Name,
    number: Annotated[int, typer.Argument(help="of the token; see `perennial account list`")],
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Let a token in no more, from the next request on."""
    from perennial.continual.errors import NotFound

    with session(config) as parts:
        if dry_run:
            if number not in {token.number for token in parts.ledger.account(name).tokens}:
                raise NotFound(f"account {name} has no token {number}; see `perennial account list`")
        else:
            parts.ledger.revoke_access_token(name, number, actor=actor())
    print_json({"dry_run": dry_run, "account": name, "revoked": number})


def _roles(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    return {model if sign else "*": role if sign else model for model, sign, role in pairs}


def _password() -> str:
    """From a terminal it is asked for twice; from standard input the first line is taken. Never from an argument."""
    if sys.stdin.isatty():
        return str(typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
