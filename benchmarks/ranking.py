"""Recommendation, prequential: each scored event is ranked among all unseen items before anything learns it.

    python -m benchmarks.ranking --data FOLDER [--orders 5] [--refit 1000] [--tune] [--no-peers]

Each finished order is kept in `benchmarks/out/ranking-parts`: a run that was cut off goes on where it was.

The first 60% by time are learnt, then every fifth event is scored. Events of equal time are shuffled, in five orders.
Constants are those of the product, chosen with `--tune` on the window from 40% to 60%; the peers' are chosen there too.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from benchmarks.kept_parts import KeptParts
from benchmarks.ranking_arms import ARMS, Arm, Ranks, erasure, live_ranks
from benchmarks.ranking_logged import off_policy
from benchmarks.ranking_stream import Ratings, Stream, gains, scored_places
from perennial.continual.learning.ranking import Blend, GramSettings, measure_exposure

__all__ = ["main", "recipes_of"]

EARLIER, MEASURED = (0.4, 0.6), (0.6, 1.0)
_REQUIREMENTS = ("implicit==0.7.3", "numpy<2.3")
_SOURCES = ("perennial/continual/learning/ranking/*.py", "benchmarks/ranking*.py")
_RESAMPLES = 1000
_GRID = {"nearness": (1.0, 0.97), "ridge": (100.0, 200.0), "text": (10.0, 20.0, 40.0)}
_BLENDS = {"recency": (0.95, 0.85), "sequel": (0.0, 0.3, 0.6, 1.2), "blend_text": (0.0, 0.02, 0.05)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table and write `ranking.json`."""
    parser = argparse.ArgumentParser(prog="benchmarks.ranking", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with ratings.csv and movies.csv")
    parser.add_argument("--out", type=Path, default=record.OUT, help="where the result and the peers' environment go")
    parser.add_argument("--orders", type=int, default=5, help="shuffles of events of equal time")
    parser.add_argument("--refit", type=int, default=1000, help="events between two fittings, the peers' too")
    parser.add_argument("--tune", action="store_true", help="choose the product's constants on earlier time, and stop")
    parser.add_argument("--no-peers", action="store_true", help="without ALS and BPR, which need an installation")
    options = parser.parse_args(arguments)
    ratings = Ratings.read(options.data)
    if options.tune:
        _tune(ratings, options.refit)
        return 0
    files = [options.data / name for name in ("ratings.csv", "movies.csv")]
    kept = KeptParts(options.out / "ranking-parts", *files, sources=_SOURCES)
    runs = [_order(kept, ratings, seed, options.refit) for seed in range(options.orders)]
    peers = None if options.no_peers else _peers(kept, ratings, options)
    for seed, run in enumerate(runs):
        run.ranks.update({} if peers is None else peers["ranks"][seed])
    results = _results(ratings, runs) | {
        "events": len(ratings.likings),
        "items": len(ratings.items),
        "orders": options.orders,
        "refit_events": options.refit,
        "chosen_for_peers": None if peers is None else peers["chosen"],
        "erasure": kept.part("erasure", {}, lambda: erasure(ratings, ARMS["Perennial"])),
        "off_policy": kept.part(
            "off-policy",
            {"refit": options.refit},
            lambda: off_policy(ratings, ARMS["Perennial"], options.refit),
        ),
    }
    results["recipes"] = recipes_of(results["arms"])
    print(_table(results))
    print(record.write("ranking", results, options.out), file=sys.stderr)
    return 0


def _order(kept: KeptParts, ratings: Ratings, seed: int, refit: int) -> Ranks:
    def made() -> dict[str, Any]:
        found = live_ranks(ratings, Stream.of(ratings, seed, MEASURED), ARMS, refit=refit, seed=seed)
        return asdict(replace(found, ranks=dict(found.ranks)))

    found = Ranks(**kept.part("order", {"seed": seed, "refit": refit}, made))
    figures = {name: round(float(gains(np.array(ranks))[0].mean()), 4) for name, ranks in found.ranks.items()}
    print(f"order {seed}: NDCG@10 {figures}", file=sys.stderr, flush=True)
    return found


def _tune(ratings: Ratings, refit: int) -> None:
    """One line a choice of the constants, by NDCG@10 on the earlier window of one order."""
    stream = Stream.of(ratings, 0, EARLIER)
    for nearness, ridge, text in product(*_GRID.values()):
        arms = {
            f"nearness {nearness} ridge {ridge} text {text} recency {recency} sequel {sequel} blend {near}": Arm(
                gram=GramSettings(ridge=ridge, text=text),
                blend=Blend(recency=recency, sequel=sequel, text=near),
                nearness=nearness,
            )
            for recency, sequel, near in product(*_BLENDS.values())
        }
        found = live_ranks(ratings, stream, arms, refit=refit, seed=0)
        for name in arms:
            ndcg, hits = gains(np.array(found.ranks[name]))
            print(f"{ndcg.mean():.4f} {hits.mean():.4f} {name}", flush=True)


def _peers(kept: KeptParts, ratings: Ratings, options: argparse.Namespace) -> dict[str, Any]:
    """ALS and BPR: the best choice of each on earlier time, and its ranks on every order."""
    python = _environment(options.out / "peers-implicit")

    def ask(seed: int, window: tuple[float, float], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        asked = {"seed": seed, "window": window, "settings": settings, "requirements": _REQUIREMENTS}
        found: list[dict[str, Any]] = kept.part(
            "peers", asked, lambda: _ask(python, ratings, seed, window, options, settings)
        )
        return found

    tried = ask(0, EARLIER, {"tune": True, "refit": 4 * options.refit})
    chosen: dict[str, Any] = {}
    for one in tried:
        one["ndcg"] = float(gains(np.array(one["ranks"]))[0].mean())
        if one["kind"] not in chosen or one["ndcg"] > chosen[one["kind"]]["ndcg"]:
            chosen[one["kind"]] = {"ndcg": one["ndcg"], "settings": one["settings"]}
    print(f"peers: {chosen}", file=sys.stderr, flush=True)
    choices = {kind: [best["settings"]] for kind, best in chosen.items()}
    settings = {"tune": False, "choices": choices, "refit": options.refit}
    runs = [ask(seed, MEASURED, settings) for seed in range(options.orders)]
    ranks = [{f"{one['kind']} tuned": one["ranks"] for one in run} for run in runs]
    return {"chosen": chosen, "ranks": ranks, "tried": len(tried)}


def _environment(folder: Path) -> Path:
    """The Python of a virtual environment that has `implicit`, made on the first call."""
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.exists():
        print(f"installing {_REQUIREMENTS[0]} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", *_REQUIREMENTS], check=True
        )
        ready.write_text("\n".join(_REQUIREMENTS) + "\n", encoding="utf-8")
    return python


def _ask(
    python: Path,
    ratings: Ratings,
    seed: int,
    window: tuple[float, float],
    options: argparse.Namespace,
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """The peers' ranks on one order of the stream."""
    stream = Stream.of(ratings, seed, window)
    users = {user: place for place, user in enumerate(sorted({event.user for event in stream.events}))}
    items = {item.name: place for place, item in enumerate(ratings.items)}
    inputs, outputs = options.out / "peers-inputs.npz", options.out / "peers-outputs.json"
    np.savez(
        inputs,
        users=np.array([users[event.user] for event in stream.events]),
        items=np.array([items[event.item] for event in stream.events]),
        begin=stream.begin,
        end=stream.end,
        due=np.array(scored_places(stream)),
        count=len(items),
        settings=json.dumps({**settings, "seed": seed}),
    )
    script = Path(__file__).with_name("ranking_peers.py")
    subprocess.run([str(python), "-W", "ignore", str(script), str(inputs), str(outputs)], check=True)
    found: list[dict[str, Any]] = json.loads(outputs.read_text(encoding="utf-8"))
    inputs.unlink()
    outputs.unlink()
    return found


def _results(ratings: Ratings, runs: Sequence[Ranks]) -> dict[str, Any]:
    users = np.array([user for run in runs for user in run.users])
    cold = np.array([cold for run in runs for cold in run.cold])
    ours = gains(np.array([rank for run in runs for rank in run.ranks["Perennial"]]))
    arms = []
    for name in runs[0].ranks:
        ndcg, hits = gains(np.array([rank for run in runs for rank in run.ranks[name]]))
        by_order = [float(gains(np.array(run.ranks[name]))[0].mean()) for run in runs]
        arms.append(
            {
                "arm": name,
                "ndcg": ndcg.mean(),
                "ndcg_interval": _interval(ndcg, users),
                "ndcg_by_order": by_order,
                "hit_rate": hits.mean(),
                "hit_rate_interval": _interval(hits, users),
                "ndcg_cold": ndcg[cold].mean(),
                "ndcg_cold_interval": _interval(ndcg[cold], users[cold]),
                "ndcg_warm": ndcg[~cold].mean(),
                "ours_ahead": (ours[0] - ndcg).mean(),
                "ours_ahead_interval": _interval(ours[0] - ndcg, users),
            }
        )
    likes = {item.name: 0.0 for item in ratings.items}
    for event in Stream.of(ratings, 0, MEASURED).events:
        likes[event.item] += 1.0
    exposure = measure_exposure([one for run in runs for one in run.lists], likes)
    clicks = np.array([one for run in runs for one in run.click_s])
    return {
        "arms": arms,
        "scored": len(runs[0].users),
        "cold_share": cold.mean(),
        "exposure": {name: getattr(exposure, name) for name in exposure.__dataclass_fields__},
        "click_to_answer_s": {"median": np.median(clicks), "p95": np.quantile(clicks, 0.95)},
        "click_changes_list": np.mean([one for run in runs for one in run.click_changed]),
        "fit_s_median": np.median([one for run in runs for one in run.fit_s]),
    }


def recipes_of(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The headlines, as every recipe's benchmark gives them: each beside the best of the others, ahead or behind."""
    (ours,) = (arm for arm in arms if arm["arm"] == "Perennial")
    rows = []
    for name, metric, figure in (
        ("recommendation", "NDCG@10", "ndcg"),
        ("recommendation", "HR@10", "hit_rate"),
        ("recommendation: items that nobody had liked", "NDCG@10", "ndcg_cold"),
    ):
        best = max((arm for arm in arms if arm is not ours), key=lambda arm: float(arm[figure]))
        baseline = {"name": best["arm"], "value": best[figure]}
        if figure == "ndcg":
            baseline["ahead_interval"] = best["ours_ahead_interval"]
        rows.append(record.recipe(name, metric, ours[figure], ours[f"{figure}_interval"], baseline))
    return rows


def _interval(values: NDArray[np.float64], users: NDArray[np.str_]) -> tuple[float, float]:
    """The 95% interval of a mean whose rows come in users: whole users are drawn."""
    _, whose = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(whose, values), np.bincount(whose).astype(np.float64)
    drawn = np.random.default_rng(0).integers(0, len(sums), (_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _table(results: Mapping[str, Any]) -> str:
    lines = ["arm             NDCG@10  95% interval     HR@10    warm    cold   ours ahead by"]
    for row in sorted(results["arms"], key=lambda row: float(row["ndcg"])):
        low, high = row["ndcg_interval"]
        ahead = "" if row["arm"] == "Perennial" else "{:+.4f} to {:+.4f}".format(*row["ours_ahead_interval"])
        lines.append(
            f"{row['arm']:<15} {row['ndcg']:.4f}   {low:.4f} to {high:.4f} {row['hit_rate']:7.4f} "
            f"{row['ndcg_warm']:7.4f} {row['ndcg_cold']:7.4f}   {ahead}"
        )
    listed = ("scored", "cold_share", "exposure", "click_to_answer_s", "erasure", "off_policy")
    lines += [f"{name}: {results[name]}" for name in listed]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
