"""The scheduler and the election of its leader."""

from ops.scheduling.jobs import Catch, JobRun, JobSpec, Slot
from ops.scheduling.leader import Leader
from ops.scheduling.scheduler import JobView, LoopScheduler

__all__ = ["Catch", "JobRun", "JobSpec", "JobView", "Leader", "LoopScheduler", "Slot"]
