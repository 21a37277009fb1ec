"""A training as a job of its own, here or on a cluster, for those who want several at once."""

import threading
import time
from dataclasses import dataclass

from perennial.continual.errors import DependencyUnreachable, TrainingFailed
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import KILLED_RETRIES, run_job
from perennial.continual.jobs.ray_cluster import RayCluster
from perennial.continual.learning.card import ModelCard, read_card
from perennial.continual.learning.context import Cancelled, Context
from perennial.continual.learning.spec import JobSpec

__all__ = ["TrainingJobs"]

_LIMIT_S = 86_400.0  # of one training


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJobs:
    """Trains as `train_model` does, each time in a process of its own; on a worker of the cluster where there is one.

    What was killed is begun again. Specs and logs of trainings that failed stay beside their folder.
    """

    cluster: RayCluster | None = None

    def __call__(self, spec: JobSpec, context: Context) -> ModelCard:
        """The card of the trained model.

        Raises:
            Cancelled: the context was cancelled, or its time is over.
            DependencyUnreachable: the cluster, or something that the training needs, is not there.
            TrainingFailed: the job ended without a model.
        """
        path, log = spec.out.with_name(f"{spec.out.name}.json"), spec.out.with_name(f"{spec.out.name}.log").absolute()
        spec.write(path)
        result = run_job(
            "perennial.continual.learning.job",
            [str(path.absolute())],
            log=log,
            timeout_s=min(_LIMIT_S, max(0.0, context.until - time.monotonic())),
            cancel=_Given(context),
            killed_retries=KILLED_RETRIES,
            cluster=self.cluster,
        )
        if result.cancelled or time.monotonic() >= context.until:
            raise Cancelled
        if result.exit_code != 0:
            missing = result.exit_code == DependencyUnreachable.exit_code
            failed = DependencyUnreachable if missing else TrainingFailed
            raise JobErrors(what=f"the training {spec.out.name}", failed=failed, log=log).of(result)
        for known in (path, log):
            known.unlink()
        return read_card(spec.out)


class _Given(threading.Event):
    """Set when the context is cancelled."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def is_set(self) -> bool:
        return self._context.cancelled
