"""ALS and BPR of `implicit` on the benchmark's stream; run by the Python of an environment of its own.

    python ranking_peers.py INPUTS.npz OUTPUTS.json

Inputs: users, items (n,), begin and end of the window, the places that are scored, events between two fittings. With
`tune` every choice of the grid is run; else the choices named. Nothing of Perennial is imported.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

__all__ = ["main"]

GRID: Mapping[str, list[dict[str, Any]]] = {
    "ALS": [
        {"factors": factors, "regularization": reg, "alpha": alpha, "iterations": 15}
        for factors in (32, 64, 128)
        for reg in (0.1, 10.0)
        for alpha in (1.0, 10.0)
    ],
    "BPR": [
        {"factors": factors, "regularization": reg, "learning_rate": rate, "iterations": 100}
        for factors in (32, 128)
        for reg in (0.01, 0.1)
        for rate in (0.01, 0.05)
    ],
}


def model_of(kind: str, settings: Mapping[str, Any], seed: int) -> Any:
    """An unfitted model; the module is not there where Perennial is installed."""
    module = importlib.import_module(f"implicit.{kind.lower()}")
    made = module.AlternatingLeastSquares if kind == "ALS" else module.BayesianPersonalizedRanking
    return made(**settings, random_state=seed, num_threads=0, use_gpu=False)


def scores_of(kind: str, model: Any, user: int, seen: list[int], count: int) -> Any:
    """A score for every item."""
    if kind == "ALS":  # the user's factors are made anew from all that they liked up to now
        liked = csr_matrix((np.ones(len(seen), np.float32), (np.zeros(len(seen), int), seen)), shape=(1, count))
        return model.item_factors @ model.recalculate_user(0, liked)
    if user < len(model.user_factors):
        return model.item_factors @ model.user_factors[user]
    return model.item_factors[:, -1]  # nobody knows the user yet: the items' biases


def ranks_of(kind: str, settings: Mapping[str, Any], data: Mapping[str, Any], refit: int, seed: int) -> list[int]:
    """The rank of each scored event's item; the model is fitted anew before each `refit` events."""
    users, items = data["users"], data["items"]
    begin, end, due = int(data["begin"]), int(data["end"]), set(data["due"].tolist())
    count, rng = int(data["count"]), np.random.default_rng(seed)
    histories: dict[int, list[int]] = {}
    for user, item in zip(users[:begin], items[:begin], strict=True):
        histories.setdefault(int(user), []).append(int(item))
    ranks: list[int] = []
    for start in range(begin, end, refit):
        known = sorted(histories)
        row = {user: place for place, user in enumerate(known)}
        pairs = [(row[user], item) for user in known for item in histories[user]]
        liked = csr_matrix(
            (np.ones(len(pairs), np.float32), tuple(zip(*pairs, strict=False))), shape=(len(known), count)
        )
        model = model_of(kind, settings, seed)
        model.fit(liked, show_progress=False)
        for place in range(start, min(start + refit, end)):
            user, target = int(users[place]), int(items[place])
            if place in due:
                seen = histories[user]
                scores = np.asarray(scores_of(kind, model, row.get(user, 1 << 30), seen, count))
                higher, equal = scores > scores[target], scores == scores[target]
                higher[seen] = equal[seen] = False
                equal[target] = False
                ranks.append(int(higher.sum()) + int(rng.integers(0, int(equal.sum()) + 1)))
            histories.setdefault(user, []).append(target)
    return ranks


def main(inputs: str, outputs: str) -> None:
    """Run what the inputs ask for, and keep each finished choice."""
    data = dict(np.load(inputs))
    run = json.loads(str(data["settings"]))
    found = []
    for kind, choices in (GRID if run["tune"] else run["choices"]).items():
        for settings in choices:
            ranks = ranks_of(kind, settings, data, run["refit"], run["seed"])
            found.append({"kind": kind, "settings": settings, "ranks": ranks})
            Path(outputs).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
