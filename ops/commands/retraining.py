"""A version that is asked of the running loop, because what it would be made of has changed."""

from perennial.ops.ledger import Ledger

__all__ = ["asked_retraining"]


def asked_retraining(ledger: Ledger, model: str, actor: str, *, reason: str) -> int | None:
    """The id of the command; None when the loop would refuse it, because nothing serves or a cycle is under way."""
    cycle = ledger.active_cycle(model)
    if ledger.route(model) is None or not (cycle is None or cycle.on_probation):
        return None
    return ledger.request_command(model, "retrain", {"reason": reason}, actor)
