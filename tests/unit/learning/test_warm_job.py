"""A warm job makes exactly the model that a cold one makes, and neither needs torch once the texts are embedded."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perennial.continual.jobs.process import run_job
from perennial.continual.jobs.warm import WarmJobs
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
        jobs = WarmJobs([JOB, "perennial.continual.learning.fast", "scipy.linalg", "safetensors.numpy"])
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
        out = JobSpec.read(spec).out
        made[name] = {
            file: hashlib.sha256((out / file).read_bytes()).hexdigest()
            for file in (HEAD_FILE, PROOF_FILE, STATISTICS_FILE)
        }
    assert made["warm"] == made["cold"]
