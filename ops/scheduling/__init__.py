"""The scheduler and the election of its leader."""

from ops.scheduling.job_facts import JobFacts
from ops.scheduling.jobs import Catch, JobRun, JobSpec, Slot
from ops.scheduling.leader import Leader
from ops.scheduling.scheduler import JobView, LoopScheduler

__all__ = ["Catch", "JobFacts", "JobRun", "JobSpec", "JobView", "Leader", "LoopScheduler", "Slot"]
