"""What every model has beside its task's own tensors: the router's bookkeeping, spelled here alone."""

from collections.abc import Iterable

from perennial.exporters.signature import BYTES, INT64, RouterSignature, Tensor

__all__ = ["ARM", "KEY", "PREDICTION_ID", "PROGRESS", "VERSION", "all_inputs", "all_outputs", "usual_outputs"]

KEY, VERSION, PREDICTION_ID, ARM = "KEY", "VERSION", "PREDICTION_ID", "ARM"
PROGRESS = PREDICTION_ID  # the output that carries a router's progress in the answer to a probe

_KEY = Tensor(name=KEY, datatype=BYTES, optional=True)
_USUAL = (Tensor(name=VERSION, datatype=INT64), Tensor(name=PREDICTION_ID, datatype=BYTES))
_ARM = Tensor(name=ARM, datatype=BYTES)


def all_inputs(signature: RouterSignature) -> tuple[Tensor, ...]:
    """What a router takes."""
    return (*signature.inputs, _KEY)


def usual_outputs(signature: RouterSignature) -> tuple[str, ...]:
    """The names of what a router sends when nothing is asked for by name."""
    return _names((*signature.usual, *_USUAL))


def all_outputs(signature: RouterSignature) -> tuple[Tensor, ...]:
    """What a router can send."""
    return (*signature.usual, *_USUAL, *signature.further, _ARM)


def _names(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in tensors)
