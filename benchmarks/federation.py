"""Three sites that exchange sums, beside each alone, all rows in one place, and averaging of weights in rounds.

    python -m benchmarks.federation --data FOLDER [--data FOLDER] [--out FOLDER] [--quick] [--flower]

BANKING77 and the gold headlines, dealt to the sites alike or by class (a Dirichlet draw of 0.3 for each class). Sums go
through a real exchange: files, masks, a total. FedAvg trains a linear softmax head on the same embeddings, one epoch a
round at each site; its learning rate is the one of three that is best on the test rows, in its favour. With `--flower`
the package Flower runs the same rounds at that rate, with a process for each site (in an environment of its own).
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import federation_data, record
from benchmarks.federation_data import Rows, Split
from benchmarks.federation_flower import averaged_by_flower
from perennial.continual.federation.announcement import announcement_of
from perennial.continual.federation.masking import Keys
from perennial.continual.federation.others import features_of
from perennial.continual.federation.round import Round
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.closed_form import CLOSED_FORMS, FastSettings
from perennial.continual.learning.kernel_lda import Discriminant
from perennial.continual.learning.selection import HeldOut, default_penalty

__all__ = ["main"]

SITES = ("east", "north", "west")
ROUNDS, RATES, BATCH = (1, 5, 20, 100), (0.3, 1.0, 3.0), 32
FLOWER_ROUNDS = 20  # at most: each one starts a process for each site
_ALPHA = 0.3
_NOTHING = HeldOut(X=np.zeros((0, 384), dtype=np.float32), labels=())


def dealt(labels: NDArray[np.str_], *, by_class: bool, seed: int) -> list[NDArray[np.intp]]:
    """The rows of each site."""
    rng = np.random.default_rng(seed)
    if not by_class:
        return list(np.array_split(rng.permutation(len(labels)), len(SITES)))
    site = np.empty(len(labels), dtype=np.intp)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(rng.dirichlet([_ALPHA] * len(SITES)))[:-1] * len(rows)
        for number, part in enumerate(np.split(rows, ends.astype(int))):
            site[part] = number
    return [np.flatnonzero(site == number) for number in range(len(SITES))]


def sums_of(form: str, rows: Rows) -> AnchoredSums:
    """Sums with the settings of the product, where no held-out row chooses."""
    settings = FastSettings(gamma=0.5)
    sums: AnchoredSums = CLOSED_FORMS[form].make(settings, rows.for_sums, _NOTHING, dimension=rows.X.shape[1], seed=0)
    sums.add(rows.for_sums)
    return sums


def answers(sums: AnchoredSums, test: Rows, settings: Any) -> tuple[float, NDArray[np.float64]]:
    """Percent right, and the scores."""
    head = sums.solve(settings)
    scores = head.logits(test.X, test.texts)
    right = np.array(head.labels)[scores.argmax(axis=1)] == test.labels
    return 100.0 * float(right.mean()), scores


def exchanged(form: str, split: Split, parts: Sequence[NDArray[np.intp]], central: AnchoredSums) -> dict[str, Any]:
    """One exchange of sums, and what the first site answers after it."""
    settings = default_penalty(central) if form == "ridge" else Discriminant()  # type: ignore[arg-type]
    own = {site: sums_of(form, split.train.at(rows)) for site, rows in zip(SITES, parts, strict=True)}
    keys = {site: Keys.made() for site in SITES}
    with tempfile.TemporaryDirectory() as folder:
        there, start = Round(Path(folder)), time.perf_counter()
        for site, sums in own.items():
            features = features_of(sums, encoder=split.encoder, max_length=128)
            there.announce(announcement_of(sums, site, keys[site], features))
        sent = [there.send(sums, keys[site]) for site, sums in own.items()]
        sent_s = (time.perf_counter() - start) / len(SITES)
        start = time.perf_counter()
        others = there.take(own["east"], keys["east"])
        taken_s = time.perf_counter() - start
    alone = [answers(sums, split.test, settings)[0] for sums in own.values()]
    merged = others.joined(own["east"])
    right, scores = answers(merged, split.test, settings)
    wanted, reference = answers(central, split.test, settings)
    apart = max(
        float(np.abs(array - central.named.sorted()[name]).max()) for name, array in merged.named.sorted().items()
    )
    return {
        "form": form,
        "rows": [len(rows) for rows in parts],
        "classes": [len(np.unique(split.train.labels[rows])) for rows in parts],
        "central": wanted,
        "merged": right,
        "alone": alone,
        "largest_difference_of_sums": apart,
        "largest_difference_of_scores": float(np.abs(scores - reference).max()),
        "bytes_sent_by_a_site": sent[0].bytes,
        "send_s": sent_s,
        "take_s": taken_s,
    }


def averaged(split: Split, parts: Sequence[NDArray[np.intp]], rounds: Sequence[int], rate: float) -> list[float]:
    """FedAvg: percent right after so many rounds.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data".
    """
    labels = np.unique(split.train.labels)
    place = {label: number for number, label in enumerate(labels)}
    y = np.array([place[label] for label in split.train.labels])
    X = np.concatenate([split.train.X, np.ones((len(split.train), 1), dtype=np.float32)], axis=1)
    test = np.concatenate([split.test.X, np.ones((len(split.test), 1), dtype=np.float32)], axis=1)
    rng, W, found = np.random.default_rng(0), np.zeros((X.shape[1], len(labels)), dtype=np.float32), []
    for number in range(1, max(rounds) + 1):
        locals_ = []
        for rows in parts:
            own, order = W.copy(), rng.permutation(rows)
            for start in range(0, len(order), BATCH):
                batch = order[start : start + BATCH]
                scores = X[batch] @ own
                scores -= scores.max(axis=1, keepdims=True)
                shares = np.exp(scores)
                shares /= shares.sum(axis=1, keepdims=True)
                shares[np.arange(len(batch)), y[batch]] -= 1.0
                own -= rate / len(batch) * (X[batch].T @ shares)
            locals_.append(len(rows) * own)
        W = np.sum(locals_, axis=0) / sum(len(rows) for rows in parts)
        if number in rounds:
            found.append(100.0 * float((labels[(test @ W).argmax(axis=1)] == split.test.labels).mean()))
    return found


def compared(split: Split, *, quick: bool, flower: bool) -> list[dict[str, Any]]:
    """All arms on one set."""
    rounds = ROUNDS[:2] if quick else ROUNDS
    centrals = {form: sums_of(form, split.train) for form in ("kernel_lda", "ridge")}
    results = []
    for by_class in (False, True):
        parts = dealt(split.train.labels, by_class=by_class, seed=0)
        start = time.perf_counter()
        runs = {rate: averaged(split, parts, rounds, rate) for rate in RATES}
        seconds = (time.perf_counter() - start) / len(RATES)
        rate = max(runs, key=lambda one: runs[one][-1])
        size = 4 * (split.train.X.shape[1] + 1) * len(np.unique(split.train.labels))
        fedavg = {"rate": rate, "after_rounds": dict(zip(rounds, runs[rate], strict=True)), "seconds": seconds}
        fedavg["bytes_sent_by_a_site"] = size * max(rounds)
        few = [number for number in rounds if number <= FLOWER_ROUNDS]
        by_flower = {"flower": averaged_by_flower(split, parts, few, rate)} if flower else {}
        for form, central in centrals.items():
            found = exchanged(form, split, parts, central)
            about = {"set": split.name, "dealt": "by class" if by_class else "alike"}
            results.append({**about, **found, "fedavg": fedavg, **by_flower})
            _show(results[-1])
    return results


def _show(one: dict[str, Any]) -> None:
    alone = " ".join(f"{value:.1f}" for value in one["alone"])
    rounds = " ".join(f"{number}: {value:.1f}" for number, value in one["fedavg"]["after_rounds"].items())
    print(
        f"{one['set']:10} {one['dealt']:8} {one['form']:10} central {one['central']:.2f} merged {one['merged']:.2f} "
        f"alone {alone} | FedAvg {rounds} | sums differ {one['largest_difference_of_sums']:.1e} "
        f"scores {one['largest_difference_of_scores']:.1e} | {one['bytes_sent_by_a_site'] / 1e6:.0f} MB "
        f"send {one['send_s']:.1f} s take {one['take_s']:.1f} s",
        flush=True,
    )
    if flower := one.get("flower"):
        rounds = " ".join(f"{number}: {value:.1f}" for number, value in flower["after_rounds"].items())
        sent, ours = flower["bytes_sent_by_a_site"] / 1e6, one["fedavg"]["bytes_sent_by_a_site"] / 1e6
        print(
            f"{'':19} Flower {flower['flower']} {rounds} | {sent:.2f} MB sent by a site, {flower['seconds']:.0f} s | "
            f"FedAvg in one process {ours:.2f} MB in all its rounds, {one['fedavg']['seconds']:.1f} s",
            flush=True,
        )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="banking77 or gold_news; repeatable")
    parser.add_argument("--out", type=Path, default=record.OUT)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--flower", action="store_true", help="beside FedAvg by the package Flower; it is installed")
    arguments = parser.parse_args()
    results = [
        one
        for folder in arguments.data
        for one in compared(
            federation_data.read(folder, arguments.out / "cache"), quick=arguments.quick, flower=arguments.flower
        )
    ]
    print(record.write("federation", {"comparisons": results}, arguments.out))


if __name__ == "__main__":
    main()
