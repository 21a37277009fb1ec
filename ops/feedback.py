"""Labelled texts that come without a prediction."""

from collections.abc import Sequence
from dataclasses import asdict

from continual.errors import NotFound
from continual.preparation import split_of
from continual.records import Example
from ops.ledger import Ledger

__all__ = ["add_labelled"]


def add_labelled(ledger: Ledger, model: str, examples: Sequence[Example]) -> dict[str, int]:
    """Store labelled texts by the model's own hold-out share, and count what became of them.

    Raises:
        NotFound: the ledger does not know the model.
    """
    settings = {row.name: row.settings for row in ledger.models()}
    if model not in settings:
        raise NotFound(f"model {model!r} is not in the ledger; it knows {', '.join(settings) or 'none'}")
    share = float(settings[model].get("learning", {}).get("holdout_share", 0.1))
    return asdict(ledger.add_examples(model, examples, lambda text: split_of(text, holdout_share=share)))
