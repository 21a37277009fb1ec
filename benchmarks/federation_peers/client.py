"""A site of Flower: one epoch of a linear softmax head on its own rows for each message; runs where Flower is."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

__all__ = ["app"]

_BATCH = 32

app = ClientApp()


@app.train()  # type: ignore[untyped-decorator,unused-ignore]
def train(message: Message, context: Context) -> Message:
    """The weights of the message after an epoch here, and how many rows there were."""
    rows = np.load(str(context.run_config["rows"]))
    here = rows["site"] == int(context.node_config["site"])
    X, y, rate = rows["X"][here], rows["y"][here], float(context.run_config["rate"])
    (own,) = message.content["arrays"].to_numpy_ndarrays()
    own = own.copy()
    order = np.random.default_rng().permutation(len(X))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        scores = X[batch] @ own
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        shares[np.arange(len(batch)), y[batch]] -= 1.0
        own -= rate / len(batch) * (X[batch].T @ shares)
    arrays = ArrayRecord([own])
    size = sum(len(array.data) for array in arrays.values())
    metrics = MetricRecord({"num-examples": len(X), "bytes": float(size)})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
