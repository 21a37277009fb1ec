"""The slow learner: it learns, it remembers, and it goes on exactly where it was stopped."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.errors import ConfigurationError, TrainingFailed
from perennial.continual.learning.augmentation import augment
from perennial.continual.learning.card import read_card
from perennial.continual.learning.context import Cancelled, Context
from perennial.continual.learning.encoder import Encoder
from perennial.continual.learning.finetune import SlowSettings, train_slow
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.strategies import STRATEGIES, make_strategy
from perennial.continual.learning.strategies.derpp import logit_distance
from perennial.continual.learning.trainer import _by_length
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

Write = Callable[..., Path]
QUICK = {"epochs": 2, "batch": 16, "learning_rate": 1e-3, "head_settings": {"features": 100, "gamma": 0.5}}


DISTURBED = {"typos": 0.5, "synonyms": 0.5, "adversary": 0.5, "embedding_noise": 5.0}


class StopAfter(Context):
    """A context that is told to stop when the training has made some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def report(self, stage: str, done: int, total: int) -> None:
        if stage == "train" and done == self._steps:
            self.cancelled = True


def tune(path: Path, context: Context | None = None) -> Path:
    spec = JobSpec.read(path)
    train_slow(spec, context or Context())
    return spec.out


def weights(out: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(out / "encoder" / "model.safetensors") | load_file(out / "head.safetensors")


def test_tuned_model_answers_from_its_own_folder(make_spec: Write) -> None:
    holdout = make_rows("card loan trip", 30, 9)
    path = make_spec(
        "one", learner="finetune", examples=make_rows("card loan trip", 40, 1), holdout=holdout, params=QUICK
    )
    out = tune(path)
    card = read_card(out)
    assert (card.encoder, card.head, card.labels) == ("encoder", "kernel_lda", ("card", "loan", "trip"))
    assert card.metrics["holdout_accuracy"] > 0.9
    assert Encoder.load(str(out / "encoder"), max_length=24).embed(["my card"]).shape == (1, 32)
    assert (out / "statistics.safetensors").is_file()
    assert not (out / "checkpoint.pt").exists()


@pytest.mark.parametrize(("steps", "more"), [(1, {}), (7, DISTURBED), (12, {})])
def test_stopped_training_ends_in_the_same_weights(make_spec: Write, steps: int, more: dict[str, float]) -> None:
    fields = {
        "learner": "finetune",
        "examples": make_rows("card loan trip", 30, 1),
        "replay": make_rows("fees", 12, 3),
        "holdout": make_rows("card loan trip", 10, 9),
        "params": QUICK | {"checkpoint_steps": 5, "augment": 0.1} | more,
    }
    whole = tune(make_spec("whole", **fields))
    path = make_spec("stopped", **fields)
    with pytest.raises(Cancelled):
        tune(path, StopAfter(steps))
    assert not (path.parent / "stopped-out" / "model.json").exists()
    resumed = tune(path)
    expected, got = weights(whole), weights(resumed)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_checkpoint_of_another_job_is_not_used(make_spec: Write) -> None:
    params = QUICK | {"checkpoint_steps": 1}
    path = make_spec("one", learner="finetune", examples=make_rows("card loan", 30, 1), params=params)
    with pytest.raises(Cancelled):
        tune(path, StopAfter(3))
    fresh = make_spec("one", learner="finetune", examples=make_rows("card trip", 30, 5), params=params)
    assert read_card(tune(fresh)).metrics["steps"] == 8
    assert read_card(tune(fresh)).labels == ("card", "trip")


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_each_strategy_learns_a_second_lesson(make_spec: Write, strategy: str) -> None:
    params = QUICK | {"strategy": strategy, "head": "linear", "epochs": 4}
    first = tune(make_spec("one", learner="finetune", examples=make_rows("card loan", 40, 1), params=params))
    path = make_spec(
        "two",
        learner="finetune",
        previous=first,
        encoder=str(first / "encoder"),
        examples=make_rows("trip fees", 40, 2),
        replay=make_rows("card loan", 40 if strategy == "cumulative" else 10, 1),
        holdout=make_rows("trip fees" if strategy in {"naive", "lwf", "ewc"} else "card loan trip fees", 20, 9),
        params=params,
    )
    card = read_card(tune(path))
    assert card.labels == ("card", "fees", "loan", "trip")
    assert card.metrics["holdout_accuracy"] > 0.8


def test_lora_and_frozen_layers_leave_the_rest_alone(make_spec: Write, tiny_encoder: Path) -> None:
    from safetensors.numpy import load_file

    before = load_file(tiny_encoder / "model.safetensors")
    for name, params in (("frozen", {"frozen_layers": 1}), ("lora", {"lora_rank": 2})):
        rows = make_rows("card loan", 40, 1)
        out = tune(make_spec(name, learner="finetune", examples=rows, params=QUICK | params | {"balanced": True}))
        after = load_file(out / "encoder" / "model.safetensors")
        changed = {key for key, value in after.items() if not np.array_equal(value, before[key])}
        assert after.keys() == {key for key in before if not key.startswith("pooler.")}  # no answer asks the pooler
        assert any("layer.1" in key for key in changed)
        assert not any("embeddings" in key for key in changed)
        assert name == "lora" or not any("layer.0" in key for key in changed)


def test_dark_replay_keeps_the_logits_of_the_first_time(make_spec: Write) -> None:
    from safetensors.numpy import load_file

    params = QUICK | {"strategy": "der++", "head": "linear", "epochs": 1}
    old = make_rows("card loan", 10, 1)
    first = tune(make_spec("one", learner="finetune", examples=make_rows("card loan", 40, 4), params=params))
    outs = [first]
    for name, label in (("two", "trip"), ("three", "fees")):
        fields = {"previous": outs[-1], "encoder": str(outs[-1] / "encoder"), "replay": old, "params": params}
        outs.append(tune(make_spec(name, learner="finetune", examples=make_rows(label, 20, 2), **fields)))
    second, third = (load_file(out / "replay_logits.safetensors")["logits"] for out in outs[1:])
    assert np.isnan(second).sum() == 20  # (20 rows, 3 classes): the third class was not known then
    assert np.isnan(third).sum() == 40
    np.testing.assert_array_equal(third[:, [0, 2]], second[:, [0, 1]])


def test_dark_replay_holds_later_classes_down_for_old_rows() -> None:
    import torch

    stored = torch.tensor([[2.0, -1.0, torch.nan], [torch.nan, torch.nan, torch.nan]])
    kept = torch.tensor([[2.0, -1.0, -1.0], [9.0, -9.0, 3.0]])
    assert float(logit_distance(kept, stored)) == 0.0  # the second row has nothing stored
    assert float(logit_distance(kept + 5.0, stored)) == pytest.approx(0.0, abs=1e-10)
    drawn = torch.tensor([[2.0, -1.0, 4.0], [9.0, -9.0, 3.0]], requires_grad=True)
    logit_distance(drawn, stored).backward()
    assert drawn.grad is not None
    assert drawn.grad[0, 2] > 0 > drawn.grad[0, 0]
    assert drawn.grad[1].abs().max() == 0
    assert float(logit_distance(kept, torch.full((2, 3), torch.nan))) == 0.0


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigurationError, match="epoch_count"):
        SlowSettings.of({"epoch_count": 3})
    with pytest.raises(ConfigurationError, match="at least 1"):
        SlowSettings.of({"epochs": 0})
    with pytest.raises(ConfigurationError, match="not known"):
        make_strategy("magic")
    with pytest.raises(ConfigurationError, match="colour"):
        make_strategy("replay", {"colour": 1})


def test_one_class_is_not_enough(make_spec: Write) -> None:
    path = make_spec("one", learner="finetune", examples=make_rows("card", 5, 1), params=QUICK)
    with pytest.raises(TrainingFailed, match="two classes"):
        tune(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"params": QUICK | {"frozen_layers": 9}}))


@pytest.mark.parametrize("rows", [1, 64, 700, 1037])
def test_batches_hold_rows_of_like_length_and_an_epoch_every_row_once(rows: int) -> None:
    rng = np.random.default_rng(0)
    texts = ["w" * int(size) for size in rng.integers(1, 100, size=rows)]
    lengths = np.array([len(text) for text in texts])

    def padded(order: np.ndarray) -> int:
        return sum(int(lengths[order[at : at + 32]].max()) * len(order[at : at + 32]) for at in range(0, rows, 32))

    first, second = (_by_length(texts, 32, np.random.default_rng([seed, 1])) for seed in (0, 1))
    assert sorted(first) == sorted(second) == list(range(rows))
    if rows > 500:
        assert padded(first) < 1.1 * lengths.sum() < 1.5 * lengths.sum() < padded(np.arange(rows))
        assert not np.array_equal(first, second)
        batches = [lengths[first[at : at + 32]].mean() for at in range(0, 512, 32)]
        assert not np.all(np.diff(batches) > 0), "short batches do not always come first"


def test_augmented_text_keeps_most_of_its_words() -> None:
    rng = np.random.default_rng(0)
    text = "one two three four five six seven eight nine ten"
    changed = [augment(text, rng, share=0.2) for _ in range(50)]
    assert len(set(changed)) > 25
    assert all(set(new.split()) <= set(text.split()) for new in changed)
    assert np.mean([len(new.split()) for new in changed]) > 7


def test_training_killed_at_any_step_ends_in_the_same_weights(make_spec: Write) -> None:
    """kill -9 on the process, right after a checkpoint: no handler runs, and nothing is flushed."""
    fields = {
        "learner": "finetune",
        "examples": make_rows("card loan trip", 30, 1),
        "replay": make_rows("fees", 12, 3),
        "holdout": make_rows("card loan trip", 10, 9),
        "params": QUICK | {"checkpoint_steps": 3, "epochs": 20, "patience": 20, "strategy": "der++"},
    }
    whole = tune(make_spec("whole", **fields))
    path = make_spec("killed", **fields)
    out = path.parent / "killed-out"
    command = [sys.executable, "-m", "perennial.continual.learning.job", str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (out / "checkpoint.pt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
        assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (out / "model.json").exists()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    assert "training.resumed" in done.stderr
    expected, got = weights(whole), weights(out)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
