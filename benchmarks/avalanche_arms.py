"""Avalanche's arms of the learning benchmark; runs in an environment of its own, where Perennial is not installed.

    python avalanche_arms.py SPEC.json OUT_FOLDER

SPEC: {"data": an .npz with x_train, y_train, x_test and the first weights w0..w3 a seed, "epochs", "batch",
"runs": [{"name", "arm", "buffer_rows", "order", "classes": [77 ints], "per_update", "seed"}]}. Each run leaves
OUT_FOLDER/NAME.npz: scores float16 (updates, test rows, classes), seconds and steps (updates,). A run whose file exists
is passed over, so that an interrupted benchmark goes on where it was. Scoring is done elsewhere, alike for all arms.
"""

import importlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

ARMS = ("class_balanced_replay", "der", "er_ace", "gdumb", "streaming_lda", "cumulative")


def main(spec_path: Path, out: Path) -> None:
    """Run every run of the spec that has no result yet."""
    _let_torchvision_import()
    _avalanche("training")  # it sets a warning filter of its own when imported

    warnings.simplefilter("ignore")  # Avalanche 0.6.0 uses deprecated parts of torch and of itself
    spec = json.loads(spec_path.read_text())
    data = np.load(spec["data"])
    out.mkdir(parents=True, exist_ok=True)
    for run in spec["runs"]:
        path = out / f"{run['name']}.npz"
        if path.exists():
            continue
        result = _run(run, spec, data)
        partial = path.with_suffix(".partial.npz")
        np.savez_compressed(partial, **result)
        partial.replace(path)
        print(json.dumps({"done": run["name"], "seconds": round(float(result["seconds"].sum()), 1)}), flush=True)


def _let_torchvision_import() -> None:
    """Define the two operators whose absence stops torchvision's import beside a CPU build of torch (0.28 and 2.13)."""
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    main.library = library  # type: ignore[attr-defined]  # dropped operators are undefined again


def _avalanche(module: str) -> Any:
    return importlib.import_module(f"avalanche.{module}")


def _run(run: dict[str, Any], spec: dict[str, Any], data: Any) -> dict[str, Any]:
    import torch

    dataset = _avalanche("benchmarks.utils")._make_taskaware_tensor_classification_dataset  # the only way to make one

    torch.set_num_threads(1)
    torch.manual_seed(run["seed"])
    train = dataset(torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"]))
    test_rows = torch.from_numpy(data["x_test"])
    test = dataset(test_rows[:77], torch.arange(77))  # the stream wants one; scores are taken below, from all rows
    stream = _avalanche("benchmarks").nc_benchmark(
        train,
        test,
        n_experiences=len(run["classes"]) // run["per_update"],
        task_labels=False,
        shuffle=False,
        fixed_class_order=run["classes"],
    )
    strategy = _strategy(run, spec, data)
    steps = {"count": 0}
    strategy.plugins.append(_step_counter(steps))
    scores, seconds, taken = [], [], []
    for experience in stream.train_stream:
        if run["arm"] == "gdumb":  # it learns the buffer only: as many steps as the others
            rows = len(experience.dataset)
            batches = -(-min(run["buffer_rows"], _rows_so_far(stream, experience)) // spec["batch"])
            strategy.train_epochs = max(1, round(spec["epochs"] * -(-rows // spec["batch"]) / batches))
        before, start = steps["count"], time.perf_counter()
        strategy.train(experience, num_workers=0)
        seconds.append(time.perf_counter() - start)
        taken.append(steps["count"] - before)
        strategy.model.eval()
        with torch.no_grad():
            logits = strategy.predict(test_rows) if run["arm"] == "streaming_lda" else strategy.model(test_rows)
        scores.append(logits.numpy().astype(np.float16))
    return {"scores": np.stack(scores), "seconds": np.array(seconds), "steps": np.array(taken)}


def _rows_so_far(stream: Any, experience: Any) -> int:
    return sum(len(past.dataset) for past in stream.train_stream[: experience.current_experience + 1])


def _strategy(run: dict[str, Any], spec: dict[str, Any], data: Any) -> Any:
    import torch

    plugins, supervised = _avalanche("training.plugins"), _avalanche("training.supervised")
    rows, batch = run["buffer_rows"], spec["batch"]
    criterion, quiet = torch.nn.CrossEntropyLoss(), plugins.EvaluationPlugin(loggers=[])
    classes, width = len(run["classes"]), data["x_train"].shape[1]
    if run["arm"] == "streaming_lda":
        return supervised.StreamingLDA(
            slda_model=torch.nn.Identity(),
            criterion=criterion,
            input_size=width,
            num_classes=classes,
            shrinkage_param=1e-4,
            train_mb_size=512,
            eval_mb_size=512,
            evaluator=quiet,
        )
    net = _avalanche("models").SimpleMLP(
        num_classes=classes, input_size=width, hidden_size=512, hidden_layers=1, drop_rate=0.1
    )
    first = [torch.from_numpy(data[f"w{i}_seed{run['seed']}"]) for i in range(4)]
    with torch.no_grad():
        for parameter, value in zip(net.parameters(), first, strict=True):
            parameter.copy_(value)
    common: dict[str, Any] = {
        "model": net,
        "optimizer": torch.optim.Adam(net.parameters(), lr=spec["rate"]),
        "criterion": criterion,
        "train_mb_size": batch,
        "train_epochs": spec["epochs"],
        "eval_mb_size": 512,
        "evaluator": quiet,
    }
    if run["arm"] == "class_balanced_replay":
        policy = _avalanche("training.storage_policy").ClassBalancedBuffer(max_size=rows, adaptive_size=True)
        plugin = plugins.ReplayPlugin(mem_size=rows, batch_size=batch, batch_size_mem=batch, storage_policy=policy)
        return supervised.Naive(plugins=[plugin], **common)
    if run["arm"] == "der":  # both of its terms: DER++
        return supervised.DER(
            mem_size=rows, batch_size_mem=batch, alpha=spec["der_alpha"], beta=spec["der_beta"], **common
        )
    if run["arm"] == "er_ace":
        return supervised.ER_ACE(mem_size=rows, batch_size_mem=batch, **common)
    if run["arm"] == "gdumb":
        return supervised.GDumb(mem_size=rows, **common)
    if run["arm"] == "cumulative":
        return supervised.Cumulative(**common)
    raise SystemExit(f"arm {run['arm']!r} is unknown; use one of {ARMS}")


def _step_counter(steps: dict[str, int]) -> Any:
    base = _avalanche("core").SupervisedPlugin

    class StepCounter(base):  # type: ignore[misc, valid-type]
        def after_training_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            steps["count"] += 1

    return StepCounter()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
