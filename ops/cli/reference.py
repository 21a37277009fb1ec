"""Every command and every operation of the API as pages of Markdown, out of the programs themselves."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

__all__ = ["api_page", "commands_page", "described_api"]

_SHARED = {  # told once, above the tables
    "config": "`--config` names the settings file; `./perennial.toml` is the default.",
    "model": "`--model` names the model; the only one of the settings is the default.",
    "as_json": "`--json` prints what a program can read.",
    "dry_run": "`--dry-run` says what would happen, and changes nothing.",
}


def commands_page(root: Any) -> str:
    """The page of a group of commands: each with its arguments and options, by its first word."""
    rows: dict[str, list[str]] = {}
    for name, command in _commands(root):
        rows.setdefault(name.partition(" ")[0] if " " in name else "", []).append(_command_row(name, command))
    page = ["# Commands\n", "`perennial config docs --of commands` writes this page; a test holds it up to date.\n"]
    page += ["These options mean the same everywhere:\n", *(f"- {told}" for told in _SHARED.values())]
    page += [
        "\nExit codes: 0 done, 1 failed, 2 usage or settings, 3 a dependency is unreachable, 4 refused by a gate.\n"
    ]
    for group in sorted(rows):
        page += [f"## {f'perennial {group}' if group else 'perennial'}", "| command | what it does | options |"]
        page += ["|---|---|---|", *rows[group], ""]
    return "\n".join(page).rstrip() + "\n"


def api_page(document: Mapping[str, Any], roles: Mapping[str, str]) -> str:
    """The page of an OpenAPI document; `roles` has the least role by method and path, as `get /v1/models`."""
    page = [
        "# Operations of the API\n",
        "`perennial config docs --of api` writes this page; a test holds it up to date.",
    ]
    page += ["`/docs` of a running service shows each operation with its parameters and bodies, and needs no internet."]
    page += ["Lists come in pages: `limit`, `after`, and a `Link` to the next one. Errors are problems of RFC 9457.\n"]
    page += ["| operation | least role | what it does |", "|---|---|---|"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            told = " ".join((operation.get("description") or operation["summary"]).split("\n\n")[0].split())
            role = roles.get(f"{method} {path}", "open")
            page.append(f"| `{method.upper()} {path}` | {role} | {_cell(told)} |")
    return "\n".join(page) + "\n"


def described_api() -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """The OpenAPI document, and the least role by method and path. Nothing is opened: the routes are only read."""
    from fastapi.routing import APIRoute

    from perennial.ops.api.app import create_api
    from perennial.ops.api.auth import need_of
    from perennial.ops.settings import Settings

    nothing = cast("Any", None)
    api = create_api(nothing, nothing, nothing, Settings().api)
    needed = {
        f"{method.lower()} {route.path}": need[0].word
        for route in api.routes
        if isinstance(route, APIRoute) and (need := need_of(route)) is not None
        for method in route.methods or ()
    }
    return api.openapi(), needed


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from _commands(below, f"{name} {word}".strip())


def _command_row(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([name, *(_argument(each) for each in arguments)])
    told = " ".join(str(command.help or "").split("\n\n")[0].split())
    given = [f"`{each.name.upper()}`: {each.help}" for each in arguments if each.help]
    given += [
        f"`{'`, `'.join(option.opts)}`{f': {option.help}' if option.help else ''}"
        for option in command.params
        if option.param_type_name == "option" and not option.hidden and option.name not in {*_SHARED, "help"}
    ]
    shared = [f"`{option.opts[0]}`" for option in command.params if option.name in _SHARED]
    return f"| `perennial {usage}` | {_cell(told)} | {_cell('; '.join([*given, *shared]))} |"


def _argument(argument: Any) -> str:
    name = f"{argument.name.upper()}{'...' if argument.nargs != 1 else ''}"
    return name if argument.required else f"[{name}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
