"""A first export's libraries, loaded while the training is still under way."""

from collections.abc import Iterator
from contextlib import contextmanager

from perennial.continual.jobs.warm import WarmJobs
from perennial.continual.learning.learners import learner_named
from perennial.ops.settings import LearningSettings
from perennial.ops.store.workspace import Workspace

__all__ = ["LOADS_S", "export_loading"]

LOADS_S = 10.0  # to wait for it where the training was sooner; an export that begins cold then takes longer

_MODULES = (  # what an encoder's export reads it with, turns it into a graph and an engine with, and proves it with
    "torch",
    "torch.onnx._internal.exporter._core",
    "transformers.models.bert.modeling_bert",
    "onnx",
    "onnxscript.optimizer",
    "onnxruntime",
    "perennial.exporters.openvino_ahead",
    "perennial.exporters.job",
    "perennial.exporters.text_classification.export",
)


@contextmanager
def export_loading(workspace: Workspace, learning: LearningSettings) -> Iterator[WarmJobs | None]:
    """A process out of which jobs begin warm once it has loaded; one that begins sooner begins cold.

    None where the learner has no encoder, which takes the longest of all to export, or the settings want no such
    process. It has the priority of a training.
    """
    if not (learner_named(learning.learner).embeds and workspace.settings.schedule.warm_jobs):
        yield None
        return
    warm = WarmJobs(_MODULES, niceness=learning.niceness)
    warm.start()
    try:
        yield warm
    finally:
        warm.close()
