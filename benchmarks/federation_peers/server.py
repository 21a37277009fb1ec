"""The server of Flower's own FedAvg, which judges the averaged weights after each round; runs where Flower is."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

__all__ = ["app"]

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator,unused-ignore]
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and leave what they gave as JSON."""
    given = context.run_config
    rows: dict[str, Any] = dict(np.load(str(given["rows"])))
    sites, begun = len(np.unique(rows["site"])), time.monotonic()
    found: dict[int, float] = {}

    def judged(number: int, arrays: ArrayRecord) -> None:
        (weights,) = arrays.to_numpy_ndarrays()
        found[number] = 100.0 * float(((rows["test_X"] @ weights).argmax(axis=1) == rows["test_y"]).mean())

    start = np.zeros((rows["X"].shape[1], int(rows["y"].max()) + 1), dtype=np.float32)
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
    made = strategy.start(grid, ArrayRecord([start]), num_rounds=int(given["rounds"]), evaluate_fn=judged)
    sent = sum(float(metrics["bytes"]) for metrics in made.train_metrics_clientapp.values())
    told = {"right": found, "seconds": time.monotonic() - begun, "bytes": sent}
    Path(str(given["out"])).write_text(json.dumps(told), encoding="utf-8")
