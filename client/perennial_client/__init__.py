"""Asks a model that Perennial serves, and tells it what became of its answers.

from perennial_client import Client, Label

with Client("intent") as client:
    answer = client.predict("my card was stolen")
    client.feedback([Label(prediction_id=answer.prediction_id, label="lost_card")])
"""

from typing import TYPE_CHECKING

from .errors import (
    BadInput,
    ClientError,
    NotAllowed,
    NotFound,
    Overloaded,
    Refused,
    RowsRefused,
    TooLate,
    Unreachable,
)
from .trace import trace_context

if TYPE_CHECKING:
    from .aio import AsyncClient
    from .client import Client
    from .feedback import Edit, Kept, Label, Signal, Verdict
    from .opinions import Headline, Opinion, Symbol, SymbolOpinion
    from .places import Places
    from .rankings import ListRequest, RankedList
    from .replies import Message, SuggestedReplies, Turn
    from .retry import Retry
    from .rewrites import Rewrite, Rewritten
    from .status import ModelStatus, ServiceHealth
    from .streams import Piece
    from .texts import Prediction

_MODULES = {  # loaded when they are asked for: Triton's processes read a module of these and need no client
    "AsyncClient": "aio",
    "Client": "client",
    "Edit": "feedback",
    "Headline": "opinions",
    "Kept": "feedback",
    "Label": "feedback",
    "ListRequest": "rankings",
    "Message": "replies",
    "ModelStatus": "status",
    "Opinion": "opinions",
    "Piece": "streams",
    "Places": "places",
    "Prediction": "texts",
    "RankedList": "rankings",
    "Retry": "retry",
    "Rewrite": "rewrites",
    "Rewritten": "rewrites",
    "ServiceHealth": "status",
    "Signal": "feedback",
    "SuggestedReplies": "replies",
    "Symbol": "opinions",
    "SymbolOpinion": "opinions",
    "Turn": "replies",
    "Verdict": "feedback",
}

__all__ = [
    "AsyncClient",
    "BadInput",
    "Client",
    "ClientError",
    "Edit",
    "Headline",
    "Kept",
    "Label",
    "ListRequest",
    "Message",
    "ModelStatus",
    "NotAllowed",
    "NotFound",
    "Opinion",
    "Overloaded",
    "Piece",
    "Places",
    "Prediction",
    "RankedList",
    "Refused",
    "Retry",
    "Rewrite",
    "Rewritten",
    "RowsRefused",
    "ServiceHealth",
    "Signal",
    "SuggestedReplies",
    "Symbol",
    "SymbolOpinion",
    "TooLate",
    "Turn",
    "Unreachable",
    "Verdict",
    "trace_context",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
