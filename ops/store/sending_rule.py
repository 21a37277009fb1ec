"""What the operator states of sending, as the library of replies keeps it."""

import json
from dataclasses import asdict

from perennial.continual.errors import DataError
from perennial.continual.learning.replies import SendingRule
from perennial.ops.store.reply_store import ReplyStore

__all__ = ["read_rule", "write_rule"]

_NAME = "sending"


def read_rule(store: ReplyStore) -> SendingRule:
    """The operator's rule; nothing is sent where there is none.

    Raises:
        DataError: what is kept is none.
    """
    kept = store.setting(_NAME)
    try:
        return SendingRule() if kept is None else SendingRule(**json.loads(kept))
    except (ValueError, TypeError) as exc:
        raise DataError(f"the library's rule of sending cannot be read ({exc}); state it again") from exc


def write_rule(store: ReplyStore, rule: SendingRule) -> None:
    """Keep it; the next answer follows it."""
    store.set(_NAME, json.dumps(asdict(rule)))
