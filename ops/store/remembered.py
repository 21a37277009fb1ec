"""What is remembered of a person beside versions and logs, by the model's task."""

from collections.abc import Callable, Mapping

from perennial.ops.store.workspace import Workspace

__all__ = ["forget", "remembered", "remembered_texts"]


def remembered(workspace: Workspace, model: str, task: str, key: str) -> int:
    """How much of it there is.

    Of a user events, blocked items and wanted words; of a key headlines; of a customer questions and verdicts.
    """
    return _ASKED[task](workspace, model, key, False) if task in _ASKED else 0


def forget(workspace: Workspace, model: str, task: str, key: str) -> int:
    """Forget it, and return how much it was."""
    return _ASKED[task](workspace, model, key, True) if task in _ASKED else 0


def remembered_texts(workspace: Workspace, model: str, task: str, key: str) -> frozenset[str]:
    """Texts of it that stand in no log as they are kept here; a search for what is left has to know them."""
    from perennial.ops.store.reply_store import ReplyStore

    path = workspace.replies(model)
    if task != "replies" or not path.is_file():
        return frozenset()
    with ReplyStore(path) as library:
        return library.texts_of(key)


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
        told = library.erase(key) if gone and held else held
    if gone:  # the library as the last training read it; the next one writes it anew
        workspace.items(model).unlink(missing_ok=True)
    return told


_ASKED: Mapping[str, Callable[[Workspace, str, str, bool], int]] = {
    "opinion": _of_headlines,
    "ranking": _of_user,
    "replies": _of_customer,
}
