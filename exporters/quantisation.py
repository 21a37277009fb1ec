"""INT8 for ONNX Runtime: weights and activations of each product fitted to real text, so that AVX2 never saturates.

Three things make the difference to stock post-training quantisation, which moved 6 answers in 1,000 (docs/engines.md):

* Activations get a fixed scale from calibration, smoothed over channels, so that a row's answer does not depend on
  the rows beside it.
* Weights are rounded one input channel after the other, each later channel making up for the error so far.
* `vpmaddubsw` adds two products in 16 bits. Only the sum of two neighbours must fit, so weights use 8 bits and each
  pair of them keeps within the limit, instead of giving up one bit everywhere.

Sources: Xiao et al., SmoothQuant (2023); Frantar et al., GPTQ (2023).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from perennial.continual.arrays import pad
from perennial.continual.errors import ExportFailed
from perennial.exporters.text_classification.signature import ATTENTION_MASK, INPUT_IDS

__all__ = ["Calibration", "fit_weights", "quantise_products"]

Array = npt.NDArray[Any]
_DOMAIN = "com.microsoft"
_SMOOTHING = 0.9  # share of a channel's range that moves from the activation into the weights
_PAIR_LIMIT = 128  # 255 * 128 <= 32767: two neighbouring products fit 16 bits
_WEIGHT_LIMIT = 127
_DAMPING = 0.01  # of the mean variance, so that the covariance can be inverted
_BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What one activation looked like over the calibration texts: per channel low and high (K,), mean (K,), covariance.

    The covariance is (K, K), of real tokens only.
    """

    low: Array
    high: Array
    mean: Array
    covariance: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """A product with a constant: a MatMul, with its Add where there is one, a Gemm, or a fused Attention."""

    node: onnx.NodeProto
    add: onnx.NodeProto | None
    activation: str
    weight: str
    bias: str | None
    turned: bool = False  # the weight lies as (N, K), as a Gemm may have it


def quantise_products(model: onnx.ModelProto, rows: Sequence[Sequence[int]]) -> int:
    """Turn the encoder's products with weights into INT8, in place, fitted to the token rows; returns how many.

    Embeddings, norms, softmax and the head stay as they are: they are little work, and the head decides.

    Raises:
        ExportFailed: the graph has no such product.
    """
    products = list(_products(model.graph))
    if not products:
        raise ExportFailed("the graph has no product of an encoder's weights; export it as fp32")
    seen = _observe(model, [product.activation for product in products], rows)
    for product in products:
        _replace(model.graph, product, seen[product.activation])
    used = {name for node in model.graph.node for name in node.input}
    kept = [item for item in model.graph.initializer if item.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    if all(item.domain != _DOMAIN for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return len(products)


def fit_weights(weight: Array, covariance: Array) -> tuple[Array, Array]:
    """INT8 weights (K, N) and their scale (N,), rounded so that products with inputs of this covariance change least.

    Neighbouring input channels 2j and 2j+1 together stay within 128 on either side of zero.
    """
    left = np.array(weight, dtype=np.float64)
    pairs = left.reshape(-1, 2, left.shape[1])
    reach = np.maximum(np.maximum(pairs, 0).sum(axis=1), np.maximum(-pairs, 0).sum(axis=1)).max(axis=0)
    scale = np.maximum(np.maximum(reach / _PAIR_LIMIT, np.abs(left).max(axis=0) / _WEIGHT_LIMIT), 1e-12)
    damped = covariance + _DAMPING * max(float(np.diag(covariance).mean()), 1e-12) * np.eye(len(covariance))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    rounded = np.zeros_like(left)
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = np.zeros((end - start, left.shape[1]))
        for row in range(start, end):
            before = rounded[row - 1] if row % 2 else np.zeros_like(scale)
            highest = np.minimum(_WEIGHT_LIMIT, _PAIR_LIMIT - np.maximum(before, 0))
            lowest = -np.minimum(_WEIGHT_LIMIT, _PAIR_LIMIT - np.maximum(-before, 0))
            rounded[row] = np.clip(np.rint(left[row] / scale), lowest, highest)
            error = (left[row] - rounded[row] * scale) / upper[row, row]
            left[row + 1 : end] -= np.outer(upper[row, row + 1 : end], error)
            errors[row - start] = error
        left[end:] -= upper[start:end, end:].T @ errors
    return rounded.astype(np.int8), scale.astype(np.float32)


def _products(graph: onnx.GraphProto) -> Iterator[_Product]:
    values = {item.name: item for item in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type == "Attention" and node.domain == _DOMAIN:
            yield _Product(node=node, add=None, activation=node.input[0], weight=node.input[1], bias=node.input[2])
        elif node.op_type in {"MatMul", "Gemm"} and node.input[1].startswith("encoder.") and node.input[1] in values:
            product = (
                _matmul(node, readers.get(node.output[0], []), values) if node.op_type == "MatMul" else _gemm(node)
            )
            shape = values[node.input[1]].dims
            if product is not None and len(shape) == 2 and shape[1 if product.turned else 0] % 2 == 0:
                yield product  # neighbouring channels are rounded in pairs


def _matmul(node: onnx.NodeProto, after: Sequence[onnx.NodeProto], values: Mapping[str, onnx.TensorProto]) -> _Product:
    """The product with the bias that is added to it alone, if there is one."""
    add = after[0] if len(after) == 1 and after[0].op_type == "Add" else None
    bias = None if add is None else next((name for name in add.input if name != node.output[0]), None)
    if bias is None or bias not in values or len(values[bias].dims) != 1:
        add, bias = None, None
    return _Product(node=node, add=add, activation=node.input[0], weight=node.input[1], bias=bias)


def _gemm(node: onnx.NodeProto) -> _Product | None:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        return None
    bias = node.input[2] if len(node.input) > 2 else None
    turned = bool(attributes.get("transB", 0))
    return _Product(node=node, add=None, activation=node.input[0], weight=node.input[1], bias=bias, turned=turned)


def _observe(model: onnx.ModelProto, names: Sequence[str], rows: Sequence[Sequence[int]]) -> dict[str, Calibration]:
    """Run the float graph over the rows, equal lengths together so that no padding is seen, and watch `names`."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(names))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    by_length: dict[int, list[Sequence[int]]] = {}
    for row in rows:
        if row:  # a text without any token calls for no product
            by_length.setdefault(len(row), []).append(row)
    sums: dict[str, list[Array]] = {}
    count = 0
    wanted = list(dict.fromkeys(names))
    for group in by_length.values():
        ids, mask = pad(group)
        count += ids.size
        for name, value in zip(wanted, session.run(wanted, {INPUT_IDS: ids, ATTENTION_MASK: mask}), strict=True):
            flat = value.reshape(-1, value.shape[-1])
            new = [flat.min(axis=0), flat.max(axis=0), flat.sum(axis=0, dtype=np.float64), flat.T @ flat]
            old = sums.get(name)
            if old is not None:
                new = [np.minimum(old[0], new[0]), np.maximum(old[1], new[1]), old[2] + new[2], old[3] + new[3]]
            sums[name] = new
    return {
        name: Calibration(
            low=low, high=high, mean=total / count, covariance=gram / count - np.outer(total, total) / count**2
        )
        for name, (low, high, total, gram) in sums.items()
    }


def _replace(graph: onnx.GraphProto, product: _Product, seen: Calibration) -> None:
    """The product's nodes by quantised ones: Mul (smoothing), QuantizeLinear, and the INT8 operator."""
    values = {item.name: item for item in graph.initializer}
    weight = numpy_helper.to_array(values[product.weight]).astype(np.float64)
    weight = weight.T if product.turned else weight
    bias = np.zeros(weight.shape[1])
    if product.bias is not None:
        bias = numpy_helper.to_array(values[product.bias]).astype(np.float64)
    reach = np.maximum(np.maximum(np.abs(seen.low), np.abs(seen.high)), 1e-6).astype(np.float64)
    smooth = reach**_SMOOTHING / np.maximum(np.abs(weight).max(axis=1), 1e-6) ** (1 - _SMOOTHING)
    smooth /= np.exp(np.log(smooth).mean())
    low, high = min(0.0, float((seen.low / smooth).min())), max(0.0, float((seen.high / smooth).max()))
    step = max((high - low) / 255, 1e-12)
    zero = int(np.clip(np.rint(-low / step), 0, 255))
    turned = weight * smooth[:, None]
    noise = step**2 / 12 * np.eye(len(smooth))  # rounding of the activation, in its smoothed unit
    fitted, scale = fit_weights(turned, seen.covariance / np.outer(smooth, smooth) + noise)
    bias = bias + (seen.mean / smooth) @ (turned - fitted.astype(np.float64) * scale)

    stem = product.node.output[0]
    parts = {
        "smooth": (1.0 / smooth).astype(np.float32),
        "step": np.array(step, np.float32),
        "zero": np.array(zero, np.uint8),
        "weight": fitted,
        "scale": scale,
        "weight_zero": np.array(0, np.int8),
        "bias": bias.astype(np.float32),
    }
    names = {part: f"{stem}.int8.{part}" for part in parts}
    graph.initializer.extend(numpy_helper.from_array(value, names[part]) for part, value in parts.items())
    smoothed, quantised = f"{stem}.smoothed", f"{stem}.quantised"
    nodes = [
        helper.make_node("Mul", [product.activation, names["smooth"]], [smoothed], name=smoothed),
        helper.make_node("QuantizeLinear", [smoothed, names["step"], names["zero"]], [quantised], name=quantised),
    ]
    if product.node.op_type == "Attention":
        attributes = {item.name: helper.get_attribute_value(item) for item in product.node.attribute}
        inputs = [quantised, names["weight"], names["bias"], names["step"], names["scale"], product.node.input[3]]
        inputs += [names["zero"], names["weight_zero"]]
        nodes.append(helper.make_node("QAttention", inputs, [stem], name=f"int8.{stem}", domain=_DOMAIN, **attributes))
        replaced = [product.node]
    else:
        inputs = [quantised, names["weight"], names["step"], names["scale"], names["zero"], names["weight_zero"]]
        output = stem if product.add is None else product.add.output[0]
        nodes.append(
            helper.make_node(
                "MatMulIntegerToFloat", [*inputs, names["bias"]], [output], name=f"int8.{output}", domain=_DOMAIN
            )
        )
        replaced = [product.node] if product.add is None else [product.node, product.add]
    place = list(graph.node).index(product.node)
    for node in replaced:
        graph.node.remove(node)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
