"""`users show|block|want|export`: what is known of a user of a ranking, and what they ask for."""

from typing import TYPE_CHECKING, Annotated

import typer

from perennial.ops.cli.console import ConfigOption, DryRunOption, JsonOption, ModelOption, print_json, print_table, say
from perennial.ops.cli.session import model_session

if TYPE_CHECKING:
    from perennial.ops.commands.users import UserProfile

__all__ = ["register"]

_app = typer.Typer(
    help="Users of a ranking: what is known of them, and what they ask for. `erase` forgets one.", no_args_is_help=True
)
_User = Annotated[str, typer.Argument(help="as requests and signals name them")]
_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_app, name="users")


@_app.command()
def show(user: _User, model: ModelOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What a user likes, in words, what they asked for, and what they did last."""
    profile = _profile(user, model, config)
    if as_json:
        print_json(profile)
        return
    if not (profile.events or profile.wanted or profile.blocked):
        say(f"nothing is known of {profile.user}; names are compared letter by letter")
        return
    print_table(f"{profile.user} in words", ("word", "weight"), [(one.word, one.weight) for one in profile.words])
    if profile.wanted:
        print_table("Asked for", ("word", "weight"), [(one.word, one.weight) for one in profile.wanted])
    if profile.blocked:
        say(f"never shown: {', '.join(profile.blocked)}")
    last = profile.events[: -_SHOWN - 1 : -1]
    print_table(
        f"Last {len(last)} of {len(profile.events)} events",
        ("item", "text", "liked", "at"),
        [(one.item, one.text, one.liked, one.at) for one in last],
    )


@_app.command()
def export(user: _User, model: ModelOption = "", config: ConfigOption = None) -> None:
    """All that is kept of a user, as JSON: what they may take with them."""
    print_json(_profile(user, model, config))


@_app.command()
def block(
    user: _User,
    item: Annotated[str, typer.Argument(help="never shown to this user")],
    undo: Annotated[bool, typer.Option("--undo", help="show it again")] = False,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Never show an item to a user; it counts in their next list."""
    from perennial.ops.commands.users import UserWishes, change_wishes

    wishes = UserWishes(unblock=(item,)) if undo else UserWishes(block=(item,))
    with model_session(config, model) as (parts, model):
        profile = change_wishes(parts.workspace, model, user, wishes, dry_run=dry_run)
    print_json({"dry_run": dry_run, "user": profile.user, "blocked": profile.blocked})


@_app.command()
def want(
    user: _User,
    text: Annotated[str, typer.Argument(help="words of the items' texts, e.g. 'space comedy'")],
    weight: Annotated[float, typer.Option(help="below 0: less of it; 0: forget the words")] = 1.0,
    model: ModelOption = "",
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """Show a user more, or less, of what has these words; it counts in their next list."""
    from perennial.ops.commands.users import UserWishes, Wish, change_wishes

    wishes = UserWishes(want=(Wish(text=text, weight=weight),))
    with model_session(config, model) as (parts, model):
        profile = change_wishes(parts.workspace, model, user, wishes, dry_run=dry_run)
    print_json({"dry_run": dry_run, "user": profile.user, "wanted": profile.wanted})


def _profile(user: str, model: str, config: ConfigOption) -> "UserProfile":
    from perennial.ops.commands.users import user_profile

    with model_session(config, model) as (parts, model):
        return user_profile(parts.workspace, model, user)
