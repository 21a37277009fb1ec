"""OpenVINO engines: FP32 files that run in FP32 or BF16, and INT8 by post-training quantisation on real text."""

import io
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from perennial.continual.arrays import pad
from perennial.continual.errors import ConfigurationError, DependencyUnreachable, ExportFailed
from perennial.exporters.built import BuiltEngine
from perennial.exporters.bundle import EngineKind, Precision
from perennial.exporters.openvino_toolkit import import_nncf, import_openvino
from perennial.exporters.openvino_weights import PLACES, convert_placed
from perennial.exporters.text_classification.signature import ATTENTION_MASK, EMBEDDING, INPUT_IDS

__all__ = ["build_openvino"]

_FILE = "model.xml"
_SUBSET = 300  # calibration texts; more changed no figure on BANKING77 (docs/engines.md)


def build_openvino(
    graph: Path, folder: Path, precision: Precision, calibration: Sequence[Sequence[int]] = ()
) -> BuiltEngine:
    """`folder/model.xml` and `model.bin` out of the portable graph, weights in FP32 or INT8.

    BF16 is a setting of the runtime, not of the file. INT8 reads `calibration`, token rows of the model's own domain.

    Raises:
        ConfigurationError: the precision is not fp32, bf16 or int8, or int8 has no calibration rows.
        DependencyUnreachable: int8 needs nncf, which is not installed.
        ExportFailed: OpenVINO refuses the graph.
    """
    openvino = import_openvino()

    started = time.perf_counter()
    if precision not in {Precision.FP32, Precision.BF16, Precision.INT8}:
        raise ConfigurationError(f"OpenVINO on the CPU is built as fp32, bf16 or int8, not {precision.value}")
    toolchain: tuple[str, ...] = ("onnx", "openvino", "torch", "transformers", "onnxscript")
    try:
        model = convert_placed(graph)
        if precision is Precision.INT8:
            model = _quantise(model, calibration)
            toolchain = (*toolchain, "nncf")
        openvino.save_model(model, str(folder / _FILE), compress_to_fp16=False)
    except RuntimeError as exc:
        raise ExportFailed(f"OpenVINO cannot compile {graph.name}: {exc}") from exc
    return BuiltEngine(
        engine=EngineKind.OPENVINO,
        precision=precision,
        file=_FILE,
        seconds=time.perf_counter() - started,
        options={"inference_precision": "bf16" if precision is Precision.BF16 else "f32", "hint": "LATENCY"},
        toolchain=toolchain,
    )


def _quantise(model: Any, calibration: Sequence[Sequence[int]]) -> Any:
    """The encoder in INT8 and the head as it was: 1% of the work, it decides the class, and new weights go into it.

    The head is cut off while nncf works. Listing it as ignored is not enough: SmoothQuant still rescales its weights.
    """
    openvino = import_openvino()

    if not calibration:
        raise ConfigurationError("int8 needs calibration texts from the training split; give some, or use fp32")
    places = model.get_rt_info(PLACES).astype(str) if model.has_rt_info(PLACES) else None
    results, joint = list(model.get_results()), model.output(EMBEDDING).get_node().input_value(0)
    readers = list(joint.get_target_inputs())
    cut = openvino.Model([openvino.opset8.result(joint)], model.get_parameters(), "encoder")
    encoder = _calibrate(cut, calibration)
    tail = encoder.output(0).get_node().input_value(0)
    for reader in readers:
        reader.replace_source_output(tail)
    tail.set_names({EMBEDDING})
    whole = openvino.Model(results, encoder.get_parameters(), "classifier")
    if places is not None:
        whole.set_rt_info(places, PLACES)
    return whole


def _calibrate(encoder: Any, calibration: Sequence[Sequence[int]]) -> Any:
    try:
        nncf = import_nncf()
    except ImportError as exc:
        raise DependencyUnreachable(
            f"int8 needs nncf ({exc}); pip install 'perennial-serving[quantisation]', or use fp32"
        ) from exc
    rows = [pad([row]) for row in calibration[:_SUBSET] if row]
    data = nncf.Dataset([{INPUT_IDS: ids, ATTENTION_MASK: mask} for ids, mask in rows])
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # nncf draws progress bars on the stream that carries our progress
        return nncf.quantize(
            encoder,
            data,
            subset_size=len(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
        )
