"""The scheduler and the election of its leader."""

from perennial.ops.scheduling.job_facts import JobFacts
from perennial.ops.scheduling.jobs import Catch, JobRun, JobSpec, Slot
from perennial.ops.scheduling.leader import Leader
from perennial.ops.scheduling.scheduler import JobView, LoopScheduler

__all__ = ["Catch", "JobFacts", "JobRun", "JobSpec", "JobView", "Leader", "LoopScheduler", "Slot"]
