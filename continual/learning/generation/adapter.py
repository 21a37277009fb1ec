"""Two thin matrices beside each projection of a decoder's attention, and what they add to its weights.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["ADAPTER_FILE", "Adapter"]

ADAPTER_FILE = "adapter.safetensors"
_PROJECTIONS = ("q_proj", "v_proj", "c_attn")  # of Llama and its kin, and of GPT-2
_ALPHA = 2.0  # times the product of both matrices


class Adapter:
    """The matrices by the name of the weight that they are for: `down` (rank, in) and `up` (out, rank)."""

    def __init__(self, parts: Mapping[str, tuple["torch.Tensor", "torch.Tensor"]]) -> None:
        self.parts = dict(parts)

    @classmethod
    def fresh(cls, model: Any, *, rank: int, seed: int) -> "Adapter":
        """One that adds nothing yet."""
        import torch

        dice, parts = torch.Generator().manual_seed(seed), {}
        for name, weight, turned in _weights(model):
            wide, high = (weight.shape[0], weight.shape[1]) if turned else (weight.shape[1], weight.shape[0])
            down = torch.randn((rank, wide), generator=dice) / wide**0.5
            parts[name] = (down.requires_grad_(), torch.zeros((high, rank), requires_grad=True))
        if not parts:
            raise DataError(f"the decoder {type(model).__name__} has no projection called {', '.join(_PROJECTIONS)}")
        return cls(parts)

    @property
    def parameters(self) -> list["torch.Tensor"]:
        """What is learnt."""
        return [matrix for pair in self.parts.values() for matrix in pair]

    def hold(self, model: Any) -> "_Held":
        """While the block runs, the model computes with the adapter, and gradients reach it."""
        return _Held(self, model)

    def merge(self, model: Any) -> None:
        """Add it to the model's weights for good.

        Raises:
            DataError: it is of another model.
        """
        import torch

        weights = {name: (weight, turned) for name, weight, turned in _weights(model)}
        if strange := sorted(set(self.parts) - set(weights)):
            raise DataError(f"the adapter has {len(strange)} parts that the decoder lacks, e.g. {strange[0]}")
        with torch.no_grad():
            for name, (down, up) in self.parts.items():
                weight, turned = weights[name]
                added = _ALPHA * (up @ down)
                if (added.T if turned else added).shape != weight.shape:
                    raise DataError(
                        f"the adapter's part {name} is {tuple(added.shape)}, the weight {tuple(weight.shape)}"
                    )
                weight += added.T if turned else added

    def write(self, folder: Path) -> None:
        """Put `adapter.safetensors` into the folder."""
        from safetensors.torch import save_file

        named = {
            f"{name}.{which}": part
            for name, pair in self.parts.items()
            for which, part in zip(("down", "up"), pair, strict=True)
        }
        save_file({name: part.detach().contiguous() for name, part in named.items()}, folder / ADAPTER_FILE)

    @classmethod
    def read(cls, folder: Path) -> "Adapter | None":
        """What `write` left; None where there is none.

        Raises:
            DataError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = folder / ADAPTER_FILE
        if not path.is_file():
            return None
        try:
            read = load_file(path)
            names = {name.rpartition(".")[0] for name in read}
            return cls({name: (read[f"{name}.down"], read[f"{name}.up"]) for name in sorted(names)})
        except (OSError, SafetensorError, KeyError) as error:
            raise DataError(f"{path} is no adapter ({error}); run the job again") from error


class _Held:
    def __init__(self, adapter: Adapter, model: Any) -> None:
        self._adapter, self._model, self._hooks = adapter, model, list[Any]()

    def __enter__(self) -> None:
        modules = dict(self._model.named_modules())
        for name, pair in self._adapter.parts.items():
            module = modules[name.removesuffix(".weight")]
            self._hooks.append(module.register_forward_hook(_added(*pair)))

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _added(down: "torch.Tensor", up: "torch.Tensor") -> Any:
    return lambda module, given, result: result + _ALPHA * (given[0] @ down.T @ up.T)


def _weights(model: Any) -> Iterator[tuple[str, "torch.Tensor", bool]]:
    """The projections' weights, and whether they lie turned, as those of GPT-2 do."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _PROJECTIONS:
            yield f"{name}.weight", module.weight, type(module).__name__ == "Conv1D"
