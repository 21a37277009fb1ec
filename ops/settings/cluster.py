"""Where trainings and replays are done that this machine is not to do itself."""

from pydantic import Field

from perennial.continual.jobs.ray_cluster import RayCluster
from perennial.ops.settings.section import Section

__all__ = ["RaySettings"]


class RaySettings(Section):
    """A Ray cluster whose workers train, and replay logged traffic for a shadow; docs/scale.md."""

    address: str = Field(
        "",
        description="HOST:PORT on a node of the cluster, ray://HOST:PORT from outside; empty: this machine does it",
    )
    cpus: float = Field(1.0, ge=0, description="that a job keeps on its worker")
    gpus: float = Field(0.0, ge=0, description="likewise")

    @property
    def cluster(self) -> RayCluster | None:
        """The cluster, where there is one."""
        return RayCluster(address=self.address, cpus=self.cpus, gpus=self.gpus) if self.address else None
