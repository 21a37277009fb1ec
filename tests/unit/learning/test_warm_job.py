"""A warm job makes exactly the model that a cold one makes, and neither needs torch once the texts are embedded."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from perennial.continual.jobs.process import run_job
from perennial.continual.jobs.waiting import WaitingJobs
from perennial.continual.jobs.warm import WarmJobs
from perennial.continual.learning.card import MODEL_FILE
from perennial.continual.learning.context import Context
from perennial.continual.learning.fast import train_fast
from perennial.continual.learning.spec import JobSpec
from perennial.continual.learning.texts import Texts
from perennial.continual.learning.trained import HEAD_FILE, PROOF_FILE, STATISTICS_FILE
from tests.unit.learning.conftest import make_rows

pytestmark = pytest.mark.slow

FORMS = {"kernel_lda": {"features": 120}, "ridge": {"features": 120, "lexical": 60}}
FIRST, FRESH, HELD = (make_rows("card loan trip", count, seed) for count, seed in ((30, 1), (8, 5), (20, 9)))
JOB = "perennial.continual.learning.job"
AHEAD = "perennial.continual.learning.ahead_job"
SETTLES = {"temperature", "metrics"}  # numbers of a search, which moves with the last digits


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def no_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes `import torch` fail in whatever finds it first."""
    folder = tmp_path_factory.mktemp("no-torch")
    (folder / "torch.py").write_text('raise AssertionError("torch was imported")\n')
    return folder


@pytest.fixture(scope="module")
def warm(no_torch: Path) -> Iterator[WarmJobs]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(no_torch))
        jobs = WarmJobs([JOB, AHEAD, "perennial.continual.learning.fast", "scipy.linalg", "safetensors.numpy"])
        jobs.start()
        jobs.wait_loaded(120)
    yield jobs
    jobs.close()


@pytest.mark.parametrize("learner", sorted(FORMS))
def test_a_warm_update_is_byte_for_byte_the_cold_one(
    learner: str, make_spec: Callable[..., Path], tmp_path: Path, warm: WarmJobs, no_torch: Path
) -> None:
    own = {"learner": learner, "params": FORMS[learner]}
    first = JobSpec.read(make_spec("first", examples=FIRST, holdout=HELD, **own))
    train_fast(first, Context())
    Texts(first, Context())([row.text for row in FRESH])  # as the traffic log gives them
    made = {}
    for name, how in (("cold", None), ("warm", warm)):
        spec = make_spec(name, examples=FRESH, holdout=HELD, previous=first.out, **own)
        result = run_job(
            JOB,
            [str(spec)],
            log=tmp_path / f"{name}.log",
            timeout_s=120,
            environment={"PYTHONPATH": str(no_torch)},
            warm=how,
        )
        assert result.exit_code == 0, result.tail
        made[name] = _digests(JobSpec.read(spec).out)
    assert made["warm"] == made["cold"]


def test_an_update_that_was_worked_out_ahead_is_the_cold_one(
    make_spec: Callable[..., Path], tmp_path: Path, warm: WarmJobs, no_torch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sums to the last bit, and its heads as far as float32 tells."""
    monkeypatch.setenv("PYTHONPATH", str(no_torch))
    own = {"learner": "ridge", "params": {"features": 240, "lexical": 200}}
    first_path = make_spec("first", examples=FIRST, replay=FIRST, holdout=HELD, **own)
    first = JobSpec.read(first_path)
    train_fast(first, Context())
    Texts(first, Context())([row.text for row in FRESH])
    waiting = WaitingJobs(warm, AHEAD, log=tmp_path / "waiting.log", niceness=0)
    order = (str(first_path), str(first.out))
    made, pids = {}, set()
    for name in ("cold", "ahead", "changed"):
        spec = make_spec(name, examples=FRESH, replay=FIRST, holdout=HELD, previous=first.out, **own)
        if name != "cold":
            waiting.keep(order)
            waiting.keep(order)  # it waits already
            assert waiting.pid is not None
            pids.add(waiting.pid)
            until(lambda: "training.worked_ahead" in (tmp_path / "waiting.log").read_text())
        if name == "changed":  # what was read is not what lies there any more
            statistics = (first.out / STATISTICS_FILE).read_bytes()
            (first.out / STATISTICS_FILE).unlink()
            (first.out / STATISTICS_FILE).write_bytes(statistics)
        log = tmp_path / f"{name}.log"
        result = run_job(JOB, [str(spec)], log=log, timeout_s=120, warm=warm, waiting=waiting)
        assert (result.exit_code, waiting.pid) == (0, None), result.tail
        made[name] = JobSpec.read(spec).out
        assert ("solved_by_what_was_ready" in log.read_text()) == (name == "ahead")
    assert len(pids) == 2
    assert _digests(made["changed"]) == _digests(made["cold"])
    cold, ahead = (_digests(made[name]) for name in ("cold", "ahead"))
    assert cold[STATISTICS_FILE] == ahead[STATISTICS_FILE]
    for file in (HEAD_FILE, PROOF_FILE):
        one, other = (load_file(made[name] / file) for name in ("cold", "ahead"))
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=0, atol=2e-7 * max(1.0, np.abs(array).max()))
    cards = [json.loads((made[name] / MODEL_FILE).read_text()) for name in ("cold", "ahead")]
    assert cards[0]["temperature"] == pytest.approx(cards[1]["temperature"], rel=1e-6)
    assert cards[0]["metrics"] == pytest.approx(cards[1]["metrics"], rel=1e-6)
    rest = [{name: value for name, value in card.items() if name not in SETTLES} for card in cards]
    assert rest[0] == rest[1]


def _digests(out: Path) -> dict[str, str]:
    return {
        file: hashlib.sha256((out / file).read_bytes()).hexdigest() for file in (HEAD_FILE, PROOF_FILE, STATISTICS_FILE)
    }
