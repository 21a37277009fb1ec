"""A plan that answers: one execution context a profile, the profile chosen by the length of the texts."""

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perennial.continual.errors import BundleRejected, DataError, PerennialError
from perennial.exporters.bundle import read_manifest
from perennial.exporters.tensorrt.engine import check_contract, deserialise
from perennial.exporters.tensorrt.flavour import speak
from perennial.exporters.tensorrt.machine import check_loadable, detect_machine
from perennial.exporters.tensorrt.options import Machine, PlanRecord, Profile
from perennial.exporters.text_classification.signature import ENGINE_INPUTS, ENGINE_OUTPUTS

if TYPE_CHECKING:
    import tensorrt as trt
    import torch

__all__ = ["TensorRtEngine", "load", "load_plan", "record_path"]

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class InferenceFailed(PerennialError):
    """TensorRT could not answer; the context may be unusable from then on."""


def record_path(plan: Path) -> Path:
    """Where the record of `plan` lies: beside it, so that a bundle's manifest hashes both."""
    return plan.with_name(f"{plan.name}.json")


def load(bundle: Path) -> "TensorRtEngine":
    """The engine of a verified bundle, on the current CUDA device.

    Raises:
        DependencyUnreachable: no TensorRT or no GPU here.
        BundleRejected: the plan is for another TensorRT or GPU, or TensorRT refuses it.
    """
    return load_plan(bundle / read_manifest(bundle).engine_file)


def load_plan(plan: Path, *, machine: Machine | None = None, device: str = "cuda") -> "TensorRtEngine":
    """The engine in `plan`, with its tensors on the torch device `device`; see `load`."""
    machine = detect_machine() if machine is None else machine
    path = record_path(plan)
    if not path.is_file():
        raise BundleRejected(f"{plan} has no record {path.name} beside it; export the version again")
    record = PlanRecord.from_json(path.read_text(encoding="utf-8"))
    check_loadable(record, machine)
    return TensorRtEngine(plan.read_bytes(), record, device=device)


class TensorRtEngine:
    """A loaded plan. Callers wait for each other: a context holds one set of shapes and addresses at a time."""

    def __init__(self, plan: bytes, record: PlanRecord, *, device: str = "cuda") -> None:
        speak(record.machine.flavour)
        import tensorrt as trt
        import torch

        self._device = torch.device(device)
        cuda: Any = torch.cuda  # its Stream is untyped
        self._stream = cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._profiles = record.options.profiles
        self._runtime = trt.Runtime(trt.Logger())
        self._engine = deserialise(self._runtime, plan, record)
        check_contract(self._engine, record)
        self._contexts = [self._open(index) for index in range(len(self._profiles))]
        self._lock = threading.Lock()

    @property
    def engine(self) -> "trt.ICudaEngine":
        """The deserialised engine, for inspection."""
        return self._engine

    def infer(self, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        """Logits (B, C) and embeddings (B, d) of token rows (B, S); larger batches than a profile's go in pieces.

        Raises:
            DataError: the two arrays differ in shape, are empty in S, or S exceeds the longest profile.
        """
        if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape:
            raise DataError(
                f"input_ids {input_ids.shape} and attention_mask {attention_mask.shape} must both be (B, S)"
            )
        rows, sequence = input_ids.shape
        if rows == 0:
            logits, embedding = (np.zeros((0, self._engine.get_tensor_shape(n)[1]), np.float32) for n in ENGINE_OUTPUTS)
            return logits, embedding
        index = choose_profile(self._profiles, sequence)
        step = self._profiles[index].max_batch
        with self._lock:
            pieces = [
                self._run(index, input_ids[at : at + step], attention_mask[at : at + step])
                for at in range(0, rows, step)
            ]
        logits, embedding = (np.concatenate(part) for part in zip(*pieces, strict=True))
        return logits, embedding

    def _open(self, index: int) -> "trt.IExecutionContext":
        context = self._engine.create_execution_context()
        if context is None:
            raise InferenceFailed(f"TensorRT has no memory for a context of profile {index}; free the GPU or shrink it")
        if not context.set_optimization_profile_async(index, self._handle()):
            raise InferenceFailed(f"TensorRT refuses profile {index} of {len(self._profiles)}; export the plan again")
        self._wait()
        return context

    def _run(self, index: int, input_ids: Tokens, attention_mask: Tokens) -> tuple[Floats, Floats]:
        import torch

        context = self._contexts[index]
        guard: Any = contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
        with guard:
            bound = {}
            for name, rows in zip(ENGINE_INPUTS, (input_ids, attention_mask), strict=True):
                tensor = torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64))
                bound[name] = tensor.to(self._device)
                if not context.set_input_shape(name, tuple(rows.shape)):
                    raise InferenceFailed(f"profile {index} refuses {name} of shape {rows.shape}")
            if unknown := list(context.infer_shapes()):
                raise InferenceFailed(f"TensorRT cannot infer shapes: it misses {unknown}")
            answers = {name: self._allocate(context, name) for name in ENGINE_OUTPUTS}
            for name, tensor in {**bound, **answers}.items():
                if not context.set_tensor_address(name, tensor.data_ptr()):
                    raise InferenceFailed(f"TensorRT refuses the address of {name}")
            if not context.execute_async_v3(self._handle()):
                raise InferenceFailed(f"TensorRT could not run {input_ids.shape}; its own lines say why")
            host = [
                answers[name].cpu().numpy() for name in ENGINE_OUTPUTS
            ]  # waits for the stream, so inputs stay alive
        return host[0], host[1]

    def _allocate(self, context: "trt.IExecutionContext", name: str) -> "torch.Tensor":
        import torch

        dims = context.get_tensor_shape(name)
        shape = [dims[axis] for axis in range(len(dims))]
        return torch.empty(shape, dtype=torch.float32, device=self._device)

    def _handle(self) -> int:
        return 0 if self._stream is None else int(self._stream.cuda_stream)

    def _wait(self) -> None:
        if self._stream is not None:
            self._stream.synchronize()


def choose_profile(profiles: tuple[Profile, ...], sequence: int) -> int:
    """The index of the tightest profile that takes texts of `sequence` tokens; profiles grow in length.

    Raises:
        DataError: none is long enough, or there are no tokens.
    """
    if sequence >= 1:
        for index, profile in enumerate(profiles):
            if sequence <= profile.max_sequence:
                return index
    raise DataError(
        f"texts of {sequence} tokens; this engine takes 1 to {profiles[-1].max_sequence}: truncate in the tokenizer"
    )
