"""One way to run a bundle's engine, whatever compiled it. No torch for CPU engines: this lives in Triton's stubs."""

import importlib
import os
import queue
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import BundleRejected, DependencyUnreachable
from perennial.continual.jobs.memory import let_go_of_pages
from perennial.exporters.bundle import MANIFEST, EngineKind, Manifest, Precision, digest, verify_bundle
from perennial.exporters.engine import Engine, Inputs, Outputs
from perennial.exporters.openvino_toolkit import openvino_core
from perennial.exporters.signature import EngineSignature
from perennial.exporters.streams import LaterEngine, StreamedEngine
from perennial.exporters.tasks import OPENED_BY

__all__ = ["OnnxEngine", "OpenVinoEngine", "load_engine", "load_exact", "open_engine", "open_onnx", "open_openvino"]

_CACHED_VERSIONS = 8  # of a model: as many as are ever resident at once, and those that were judged lately
_ROOMY = 0.5  # of the largest batch that there is room for: where none was as large for a while, the room goes
_first_inference = threading.Lock()
_SLOWER = ["SkipLayerNormFusion"]  # its CPU kernel takes four times as long as Add and LayerNormalization (1.32)


class OnnxEngine:
    """ONNX Runtime on the CPU. One session serves every thread: `run` is thread-safe there."""

    def __init__(self, model: Path, *, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # a thread that spins while it waits takes a processor from the router, Triton and whoever else is there
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
            )
        except Exception as exc:  # its eleven error types share no other base
            raise RuntimeError(str(exc)) from exc
        self._outputs = [output.name for output in self._session.get_outputs()]

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


class OpenVinoEngine:
    """OpenVINO on the CPU. An infer request is not thread-safe, so each call borrows one of its own."""

    def __init__(
        self,
        model: Path,
        *,
        threads: int = 0,
        cache_dir: Path | None = None,
        precision: str = "f32",
        hint: str = "LATENCY",
        streams: int = 1,
    ) -> None:
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        if streams > 1:
            settings["NUM_STREAMS"] = streams
        if cache_dir is not None:
            cache_dir.mkdir(parents=True, exist_ok=True)
            settings["CACHE_DIR"] = str(cache_dir)
        self._compiled = openvino_core().compile_model(str(model), "CPU", settings)
        self._outputs = {output.get_any_name(): output for output in self._compiled.outputs}
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = _Room()
        # OpenVINO's bindings (2026.x) fill static tables of NumPy types at the first inference; two threads that make
        # it at once wait for each other for ever, one with the interpreter's lock and one with the table's
        with _first_inference:
            self.infer({given.get_any_name(): _ones(given) for given in self._compiled.inputs})
        self._files = (model.with_suffix(".bin"), *(() if cache_dir is None else cache_dir.glob("*.blob")))
        let_go_of_pages(self._files)  # but for words' embeddings, weights are in memory in a form of their own

    def infer(self, inputs: Inputs) -> Outputs:
        """See `Engine`."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            self._room.used(max((array.size for array in feed.values()), default=0))
            results = request.infer(feed, share_inputs=True)
            return {name: np.array(results[output]) for name, output in self._outputs.items()}
        finally:
            self._idle.put(request)

    def rest(self) -> None:
        """Let go of what answers were computed in, which grows with every shape that was asked for."""
        for folder in {file.parent for file in self._files[1:]}:
            with suppress(OSError):
                os.utime(folder)  # its version may be loaded again for as long as it is resident
        self._give_room_back()
        let_go_of_pages(self._files)

    def settle(self) -> bool:
        """See `Settling`."""
        let_go_of_pages(self._files)  # with each page that is read, the system maps those around it
        return self._room.is_too_large() and self._give_room_back()

    def _give_room_back(self) -> bool:
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait()
        room, self._room = self._room, _Room()
        try:
            self._compiled.release_memory()
        except RuntimeError:  # it is asked just now
            self._room = room
            return False
        return True


class _Room:
    """How large the batches were that an engine made room for, in cells. Safe enough to share: a lost count is no harm.

    >>> room = _Room()
    >>> room.used(1024), room.is_too_large(), room.used(16), room.is_too_large()
    (None, False, None, True)
    """

    def __init__(self) -> None:
        self._made = self._lately = 0

    def used(self, cells: int) -> None:
        """A batch of this size is computed now."""
        if cells > self._lately:
            self._lately = cells

    def is_too_large(self) -> bool:
        """Whether far less was used since the last look than there is; where nothing was, rest is what it waits for."""
        lately, self._lately = self._lately, 0
        self._made = max(self._made, lately)
        return 0 < lately < _ROOMY * self._made


def _ones(port: Any) -> Any:
    """Two of everything, or as many as the graph fixes, with ones in it: every row is real."""
    sizes = [dim.get_length() if dim.is_static else 2 for dim in port.get_partial_shape()]
    return np.ones(sizes, dtype=port.get_element_type().to_dtype())


def open_onnx(model: Path, signature: EngineSignature, *, threads: int) -> Engine:
    """An ONNX Runtime engine that cuts padded batches; at work with several threads it has the weights twice."""
    alone = OnnxEngine(model, threads=threads)
    if signature.padding is None:
        return alone
    single: Engine | LaterEngine = alone if threads == 1 else LaterEngine(lambda: OnnxEngine(model, threads=1))
    return StreamedEngine(alone, single, threads, signature, signature.padding)


def open_openvino(
    model: Path, signature: EngineSignature, *, threads: int, cache_dir: Path | None = None, precision: str = "f32"
) -> Engine:
    """An OpenVINO engine that cuts padded batches; at work with several threads it is compiled for one and for all."""
    alone = OpenVinoEngine(model, threads=threads, cache_dir=cache_dir, precision=precision)
    if signature.padding is None:
        return alone

    def for_one() -> Engine:
        return OpenVinoEngine(model, threads=threads, cache_dir=cache_dir, precision=precision, streams=threads)

    single: Engine | LaterEngine = alone if threads == 1 else LaterEngine(for_one)
    return StreamedEngine(alone, single, threads, signature, signature.padding)


def load_engine(bundle: Path, *, threads: int = 0, cache_dir: Path | None = None, reread: bool = True) -> Engine:
    """The bundle's engine, ready to answer; the bundle is verified first, so nothing altered is ever executed.

    `threads` 0 lets the runtime choose. `cache_dir` is where OpenVINO keeps its compiled form between loads, one
    folder a bundle; those of the versions loaded last are kept. What lies there is executed, so only serve and
    its jobs may write to it. `reread` is that of `verify_bundle`.

    Raises:
        BundleRejected: the files do not match the manifest, or the runtime refuses the engine file.
        DependencyUnreachable: the runtime's package is not installed here.
    """
    return open_engine(bundle, verify_bundle(bundle, reread=reread), threads=threads, cache_dir=cache_dir)


def open_engine(bundle: Path, manifest: Manifest, *, threads: int = 0, cache_dir: Path | None = None) -> Engine:
    """The engine of a bundle that has this manifest: for one that the caller has verified, or has written just now.

    Raises:
        BundleRejected, DependencyUnreachable: see `load_engine`.
    """
    try:
        return _open(bundle, manifest, threads, cache_dir)
    except ImportError as exc:
        raise DependencyUnreachable(
            f"{bundle} needs the runtime {manifest.engine.value!r}, which cannot be imported here ({exc}); install it"
        ) from exc
    except RuntimeError as exc:
        raise BundleRejected(f"{bundle}: {manifest.engine.value} refuses {manifest.engine_file}: {exc}") from exc


def load_exact(bundle: Path, *, threads: int = 0, reread: bool = True) -> Engine | None:
    """The bundle's engine in FP32, whichever precision it is served in; None where its file has lost the FP32 weights.

    Raises:
        BundleRejected, DependencyUnreachable: see `load_engine`.
    """
    manifest = verify_bundle(bundle, reread=reread)
    if manifest.precision is Precision.FP32:
        return load_engine(bundle, threads=threads, reread=reread)
    if manifest.engine is not EngineKind.OPENVINO or manifest.precision is not Precision.BF16:
        return None
    count = threads or len(os.sched_getaffinity(0))
    return open_openvino(bundle / manifest.engine_file, manifest.signature, threads=count)  # BF16 is but a setting


def _open(bundle: Path, manifest: Manifest, threads: int, cache_dir: Path | None) -> Engine:
    path = bundle / manifest.engine_file
    count = threads or len(os.sched_getaffinity(0))
    if (opened_by := OPENED_BY.get(manifest.task)) is not None:
        cache = (
            None if cache_dir is None or manifest.engine is not EngineKind.OPENVINO else _cache_of(bundle, cache_dir)
        )
        engine: Engine = importlib.import_module(opened_by).open_engine(bundle, manifest, threads=count, cache=cache)
        return engine
    match manifest.engine:
        case EngineKind.ONNXRUNTIME:
            return open_onnx(path, manifest.signature, threads=count)
        case EngineKind.OPENVINO:
            precision = manifest.options.get("inference_precision", "f32")
            cache = None if cache_dir is None else _cache_of(bundle, cache_dir)
            return open_openvino(path, manifest.signature, threads=count, cache_dir=cache, precision=precision)
        case EngineKind.TENSORRT:
            return _plugin("perennial.exporters.tensorrt", bundle)
        case EngineKind.AOTINDUCTOR:
            return _plugin("perennial.exporters.aotinductor", bundle, threads=count)


def _cache_of(bundle: Path, cache_dir: Path) -> Path | None:
    """This bundle's own folder in the cache, marked as used now; those of versions long not loaded are deleted.

    None where there is none to be had: others delete there too, and no engine fails for want of a cache.
    """
    folder = cache_dir / digest(bundle / MANIFEST)[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        with os.scandir(cache_dir) as entries:
            used = {entry.path: entry.stat().st_mtime for entry in entries if entry.is_dir()}
    except OSError:
        return None
    for old in sorted(used, key=lambda path: -used[path])[_CACHED_VERSIONS:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _plugin(module: str, bundle: Path, **options: int) -> Engine:
    """Engines that need torch or a GPU live in modules of their own; they know token rows alone."""
    from perennial.exporters.text_classification.tokens import FromTokens  # no other engine's process reads texts

    return FromTokens(importlib.import_module(module).load(bundle, **options))
