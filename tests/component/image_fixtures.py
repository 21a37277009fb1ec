"""Small images, drawn or out of scikit-learn, and small encoders of images."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perennial.continual.images import PREPROCESSING_FILE, ImageStore, Preprocessing, read_image
from perennial.continual.learning.open_set import OpenSet
from perennial.exporters.bundle import EngineKind, Lineage, Manifest, Precision, digest, write_manifest
from perennial.exporters.golden import Golden
from perennial.exporters.image_classification.part import ImagePart
from perennial.exporters.image_classification.signature import PIXELS
from perennial.exporters.runtime import OnnxEngine
from perennial.exporters.text_classification.part import digest_labels
from tests.component.exporters.conftest import write_trained

__all__ = [
    "COLOURS",
    "coloured",
    "digits",
    "file_of",
    "keep_coloured",
    "write_image_bundle",
    "write_image_encoder",
    "write_names",
    "write_trained_images",
]

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 210)}
_SIDE = 32


def file_of(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """An image file of these pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def coloured(label: str, seed: int, *, brightness: float = 1.0) -> bytes:
    """A PNG file of noise around a colour."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 25, (_SIDE, _SIDE, 3))
    return file_of(np.clip((np.array(COLOURS[label]) + noise) * brightness, 0, 255).astype(np.uint8))


def keep_coloured(store: ImageStore, each: int) -> list[tuple[str, str]]:
    """So many images of each colour, as (name, label), in turn."""
    made = []
    for seed in range(each):
        for place, label in enumerate(COLOURS):
            picture = read_image(coloured(label, seed * len(COLOURS) + place))
            store.put(picture)
            made.append((picture.name, label))
    return made


def digits(classes: range = range(10)) -> list[tuple[bytes, str]]:
    """Handwritten digits of scikit-learn as PNG files of 8 x 8 pixels, shuffled, with their labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    wanted = [place for place in order if int(found.target[place]) in classes]
    return [
        (file_of((found.images[place] * 15.9).astype(np.uint8)), f"digit {found.target[place]}") for place in wanted
    ]


def write_image_encoder(folder: Path, kind: str = "resnet", *, side: int = _SIDE, seed: int = 0) -> Path:
    """A network of images with random weights, as `save_pretrained` leaves it."""
    import torch
    from transformers import ConvNextConfig, ConvNextModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel

    torch.manual_seed(seed)
    made: torch.nn.Module
    match kind:
        case "vit":
            of_tokens = ViTConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=side,
                patch_size=8,
            )  # fmt: skip
            made = ViTModel(of_tokens, add_pooling_layer=False)
        case "whole":  # one patch is the whole picture: a random projection, which loses little
            about = ConvNextConfig(hidden_sizes=[96], depths=[1], num_stages=1, patch_size=side, initializer_range=0.1)
            made = ConvNextModel(about)
        case "convnext":
            made = ConvNextModel(ConvNextConfig(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, patch_size=4))
        case _:
            made = ResNetModel(
                ResNetConfig(embedding_size=32, hidden_sizes=[64, 128], depths=[1, 1], layer_type="basic")
            )
            for name, buffer in made.named_buffers():  # a fresh network's are 0 and 1, which hide what uses them
                if name.endswith(("running_mean", "running_var")):
                    buffer.uniform_(0.5, 1.0)
    made.save_pretrained(folder)  # type: ignore[operator]
    prepared = Preprocessing(
        resize=(side, side), crop=None, resample=2, scale=1 / 255, mean=(0.5, 0.45, 0.4), std=(0.25, 0.3, 0.35)
    )
    prepared.write(folder)
    return folder


def write_trained_images(folder: Path, encoder: Path, *, seed: int = 0) -> Path:
    """A trained model with a random head over an image encoder of 32 dimensions."""
    return write_trained(folder, encoder, seed=seed)


def write_names(path: Path, store: ImageStore, each: int = 4) -> tuple[Path, list[str]]:
    """A held-out file of names, in the order of `coloured` by seed and colour, whose pictures are in the store."""
    pictures = [read_image(coloured(label, seed)) for seed in range(each) for label in COLOURS]
    for picture in pictures:
        store.put(picture)
    names = [picture.name for picture in pictures]
    path.write_text(json.dumps({"texts": names}), "utf-8")
    return path, names


def write_image_bundle(folder: Path, version: int, *, labels: Sequence[str]) -> Path:
    """A verified bundle that answers with the strongest colour; version 1 knows what is bright enough."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True)
    weight = np.zeros((3, len(labels)), dtype=np.float32)
    weight[range(3), range(3)] = 8.0
    nodes = [
        helper.make_node("Cast", [PIXELS], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "most"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weight"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"),
        numpy_helper.from_array(np.array(255.0, dtype=np.float32), "most"),
        numpy_helper.from_array(weight, "weight"),
    ]
    values = [
        helper.make_tensor_value_info(name, kind, ["batch", *dims])
        for name, kind, dims in (
            (PIXELS, TensorProto.UINT8, (_SIDE, _SIDE, 3)),
            ("logits", TensorProto.FLOAT, (len(labels),)),
            ("embedding", TensorProto.FLOAT, (3,)),
        )
    ]
    graph = helper.make_graph(nodes, "colours", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    (folder / "labels.json").write_text(json.dumps(list(labels)))
    Preprocessing(resize=(_SIDE, _SIDE), crop=None, resample=2, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3).write(
        folder
    )
    if version == 1:
        OpenSet(limit=4.0, per_logit=1.0, per_distance=0.0, false_refusals=0.05, rows=100).write(folder)
    part = ImagePart(
        classes=len(labels),
        dimension=3,
        height=_SIDE,
        width=_SIDE,
        max_length=32,
        labels_sha256=digest_labels(labels),
        preprocessing_sha256=digest(folder / PREPROCESSING_FILE),
    )
    rows = [{PIXELS: np.full((1, _SIDE, _SIDE, 3), shade, dtype=np.uint8)} for shade in (60, 200)]
    engine = OnnxEngine(folder / "model.onnx", threads=1)
    Golden.of(engine, part.signature, rows, tolerance=1e-3).write(folder)
    write_manifest(
        folder,
        Manifest(
            model="colours",
            version=version,
            task="image_classification",
            signature=part.signature,
            part=asdict(part),
            engine=EngineKind.ONNXRUNTIME,
            precision=Precision.FP32,
            engine_file="model.onnx",
            encoder_fingerprint="tiny",
            graph_fingerprint="tiny",
            created_at="2026-01-01T00:00:00+00:00",
            toolchain={},
            lineage=Lineage(),
        ),
    )
    return folder
