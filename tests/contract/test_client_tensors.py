"""What the client sends and asks for by name is what each task's router takes and gives."""

from types import ModuleType

import pytest

from perennial.client import images, opinions, rankings, replies, rewrites, texts
from perennial.client.tensors import KEY, PREDICTION_ID, VERSION
from perennial.exporters import contract
from perennial.exporters.contract import usual_outputs
from perennial.ops.serving.tasks import SIDES, serving_side

MODULES = {
    "generation": rewrites,
    "image_classification": images,
    "text_classification": texts,
    "ranking": rankings,
    "replies": replies,
    "opinion": opinions,
}


def test_every_task_has_its_part_of_the_client() -> None:
    assert set(MODULES) == set(SIDES)
    assert (KEY, VERSION, PREDICTION_ID) == (contract.KEY, contract.VERSION, contract.PREDICTION_ID)


@pytest.mark.parametrize(("task", "module"), MODULES.items())
def test_the_outputs_have_the_names_of_the_routers(task: str, module: ModuleType) -> None:
    signature = serving_side(task).signature
    assert sorted(module.USUAL) == sorted(usual_outputs(signature))
    further = {tensor.name for tensor in signature.further}
    assert further - {texts.KNOWN} == set(module.FURTHER)
