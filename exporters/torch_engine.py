"""A torch module as an engine: the reference that every built engine is compared with."""

from typing import TYPE_CHECKING

from perennial.exporters.engine import Inputs, Outputs
from perennial.exporters.signature import EngineSignature

if TYPE_CHECKING:
    import torch

__all__ = ["TorchEngine"]


class TorchEngine:
    """The module is called with the signature's inputs in their order, and gives its outputs in theirs."""

    def __init__(self, module: "torch.nn.Module", signature: EngineSignature) -> None:
        self._module, self._signature = module, signature

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        import torch

        with torch.inference_mode():
            tensors = [torch.from_numpy(inputs[name]) for name in self._signature.input_names]
            outputs = self._module(*tensors)
        outputs = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        return {name: tensor.numpy() for name, tensor in zip(self._signature.output_names, outputs, strict=True)}
