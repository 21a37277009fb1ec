"""What is remembered of a person beside versions and logs, by the model's task."""

from collections.abc import Callable, Mapping

from perennial.ops.store.workspace import Workspace

__all__ = ["forget", "remembered"]


def remembered(workspace: Workspace, model: str, task: str, key: str) -> int:
    """How much of it there is.

    Of a user events, blocked items and wanted words; of a key headlines; of a customer questions and verdicts.
    """
    return _ASKED[task](workspace, model, key, False) if task in _ASKED else 0


def forget(workspace: Workspace, model: str, task: str, key: str) -> int:
    """Forget it, and return how much it was."""
    return _ASKED[task](workspace, model, key, True) if task in _ASKED else 0


def _of_user(workspace: Workspace, model: str, key: str, gone: bool) -> int:
    from perennial.ops.store.user_events import UserEvents

    path = workspace.user_events(model)
    if not path.is_file():
        return 0
    with UserEvents(path) as users:
        profile = users.profile(key)
        held = len(profile.events) + len(profile.blocked) + len(profile.wanted)
        if gone and held:
            users.erase(key)
    return held


def _of_headlines(workspace: Workspace, model: str, key: str, gone: bool) -> int:
    from perennial.ops.store.headlines import Headlines

    path = workspace.headlines(model)
    if not path.is_file():
        return 0
    headlines = Headlines(path)
    try:
        return headlines.erase(key) if gone else headlines.held(key)
    finally:
        headlines.close()


def _of_customer(workspace: Workspace, model: str, key: str, gone: bool) -> int:
    from perennial.ops.store.reply_store import ReplyStore

    path = workspace.replies(model)
    if not path.is_file():
        return 0
    with ReplyStore(path) as library:
        held = library.carried_by(key)
        return library.erase(key) if gone and held else held


_ASKED: Mapping[str, Callable[[Workspace, str, str, bool], int]] = {
    "opinion": _of_headlines,
    "ranking": _of_user,
    "replies": _of_customer,
}
