"""A tiny text model for the real Triton: a bundle that is built in milliseconds and answers by its first known word."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from perennial.continual.atomic_file import write_atomically
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.records import Route
from perennial.exporters.bundle import (
    EngineKind,
    Lineage,
    Manifest,
    Precision,
    digest,
    write_manifest,
)
from perennial.exporters.golden import Golden
from perennial.exporters.runtime import OnnxEngine
from perennial.exporters.text_classification.part import TextPart, digest_labels
from perennial.exporters.text_classification.signature import TEXT_ENGINE, TEXT_ROUTER
from perennial.exporters.text_classification.tokens import padded, token_inputs
from perennial.exporters.triton_config import EngineSpec, RouterSpec
from perennial.ops.serving.probe import EngineWatch, probe_router
from perennial.ops.serving.processes import free_port
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.serving.router.progress import Progress
from perennial.ops.serving.router.router import RouterSettings
from perennial.ops.serving.secret import PARAMETER
from perennial.ops.serving.server.server import OnParentDeath, ServerSpec, TritonServer
from perennial.ops.serving.tasks.text_classification import SIDE

WORDS = ("[PAD]", "[UNK]", "card", "lost", "money", "transfer", "hello")
LABELS = ("card_issue", "money_issue", "greeting")
_MEASURED_TRIPS = 200_000
_KNOWN = {"card": 0, "lost": 0, "money": 1, "transfer": 1, "hello": 2}
MODEL = "intent"
ENGINE = "intent_engine"


def write_bundle(
    folder: Path,
    version: int,
    *,
    labels: Sequence[str] = LABELS,
    shift: int = 0,
    golden_error: float = 0.0,
    hang: int = 0,
    fails: bool = False,
    task: str = "text_classification",
    limit: float | None = None,
) -> Path:
    """A verified bundle; `shift` rotates its answers, so that versions can be told apart by what they say.

    With `hang` the engine counts to that number for each "transfer" in a batch before it answers; with `fails` it
    raises an error at each "hello". With `limit` a text whose highest logit is below it is of no class.
    """
    folder.mkdir(parents=True)
    onnx.save(_graph(len(labels), shift, hang, fails), str(folder / "model.onnx"))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(32)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "labels.json").write_text(json.dumps(list(labels)))
    if limit is not None:
        OpenSet(limit=limit, per_logit=1.0, per_distance=0.0, false_refusals=0.05, rows=100).write(folder)
    texts = ("card lost", "money", "money lost" if fails else "hello hello hello")
    ids = tuple(tuple(tokenizer.encode(text).ids) for text in texts)
    engine = OnnxEngine(folder / "model.onnx", threads=1)
    golden = Golden.of(engine, TEXT_ENGINE, [padded([row]) for row in ids], tolerance=1e-3)
    logits = golden.outputs["logits"]
    wrong = replace(logits, rows=tuple(tuple(value + golden_error for value in row) for row in logits.rows))
    replace(golden, outputs={"logits": wrong}).write(folder)
    write_manifest(
        folder,
        Manifest(
            model=MODEL,
            version=version,
            engine=EngineKind.ONNXRUNTIME,
            precision=Precision.FP32,
            engine_file="model.onnx",
            **TextPart(
                classes=len(labels),
                dimension=len(labels),
                max_length=32,
                labels_sha256=digest_labels(labels),
                tokenizer_sha256=digest(folder / "tokenizer.json"),
            ).fields(task),
            encoder_fingerprint="tiny",
            graph_fingerprint="tiny",
            created_at="2026-01-01T00:00:00+00:00",
            toolchain={},
            lineage=Lineage(),
        ),
    )
    return folder


@cache
def trips_for(seconds: float) -> int:
    """How far `hang` must count at one "transfer" to take an engine of this machine at least about so long."""
    with TemporaryDirectory() as folder:
        onnx.save(_graph(len(LABELS), 0, _MEASURED_TRIPS, fails=False), f"{folder}/model.onnx")
        engine = OnnxEngine(Path(folder) / "model.onnx", threads=1)
    row = np.array([[WORDS.index("transfer")]])
    engine.infer(token_inputs(row, np.ones_like(row)))  # the first one allocates
    took = []
    for _ in range(5):
        began = time.thread_time()
        engine.infer(token_inputs(row, np.ones_like(row)))
        took.append(time.thread_time() - began)
    return int(_MEASURED_TRIPS * seconds / min(took))  # what others use of the machine makes it longer, never shorter


def _graph(classes: int, shift: int, hang: int = 0, fails: bool = False) -> onnx.ModelProto:
    table = np.full((len(WORDS), classes), 0.1, dtype=np.float32)
    for word, column in _KNOWN.items():
        table[WORDS.index(word), (column + shift) % classes] = 4.0
    if fails:
        table = table[: WORDS.index("hello")]  # its index is out of bounds
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),  # (B, S, C)
        helper.make_node("Cast", ["attention_mask"], ["mask2"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask2", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
        helper.make_node("MatMul", ["mean", "weight"], ["plain" if hang else "logits"]),
        *(_counting() if hang else ()),
    ]
    constants = {
        "table": table,
        "weight": np.eye(classes, dtype=np.float32),
        "last": np.array([2], dtype=np.int64),
        "middle": np.array([1], dtype=np.int64),
    }
    if hang:
        constants |= {
            "transfer": np.array(WORDS.index("transfer"), dtype=np.int64),
            "hang": np.array(hang, dtype=np.int64),
            "go": np.array(True),
            "zero": np.array(0.0, dtype=np.float32),
        }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["B", "S"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", classes]) for n in ("logits", "embedding")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return model


def _counting() -> list[onnx.NodeProto]:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["again"], ["again_out"]),
            helper.make_node("Cos", ["held"], ["held_out"]),
        ],
        "count",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("again_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held_out", TensorProto.FLOAT, []),
        ],
    )
    return [
        helper.make_node("Equal", ["input_ids", "transfer"], ["found"]),
        helper.make_node("Cast", ["found"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones"], ["times"], keepdims=0),
        helper.make_node("Mul", ["times", "hang"], ["trips"]),
        helper.make_node("Loop", ["trips", "go", "zero"], ["counted"], body=body),
        helper.make_node("Mul", ["counted", "zero"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["logits"]),
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """A workspace of its own: repository, route and traffic of one tiny model."""

    root: Path

    @property
    def repository(self) -> ModelRepository:
        return ModelRepository(self.root / "model_repository")

    @property
    def traffic(self) -> Path:
        return self.root / "var" / "traffic" / MODEL

    @property
    def route_path(self) -> Path:
        return self.root / "var" / "route" / f"{MODEL}.json"

    def install(
        self,
        versions: Sequence[int] = (1,),
        *,
        router_instances: int = 2,
        champion_limit_s: float = 10.0,
        challenger_limit_s: float = 1.0,
        queue_limit_s: float = 10.0,
        hang: int = 0,
        limit: float | None = None,
    ) -> None:
        settings = replace(
            router_settings(self),
            champion_limit_s=champion_limit_s,
            challenger_limit_s=challenger_limit_s,
            queue_limit_s=queue_limit_s,
        )
        self.repository.install_router(
            RouterSpec(
                signature=TEXT_ROUTER, model=MODEL, parameters=settings.to_parameters(), instances=router_instances
            )
        )
        self.repository.install_engine(EngineSpec(signature=TEXT_ENGINE, model=ENGINE, threads=1))
        for version in versions:
            self.publish(version, hang=hang, limit=limit if version == 1 else None)
        self.repository.set_versions(ENGINE, versions)
        self.route(champion=versions[0], resident=tuple(versions))

    def publish(
        self,
        version: int,
        *,
        shift: int | None = None,
        golden_error: float = 0.0,
        hang: int = 0,
        limit: float | None = None,
    ) -> None:
        shift = version - 1 if shift is None else shift
        staged = self.stage(version, shift=shift, golden_error=golden_error, hang=hang, limit=limit)
        self.repository.publish(staged, ENGINE, version)

    def stage(self, version: int, **bundle: Any) -> Path:
        """A bundle where an export leaves it."""
        return write_bundle(self.repository.staging / f"{ENGINE}-{version}", version, **bundle)

    def route(
        self,
        *,
        champion: int,
        resident: tuple[int, ...],
        challenger: int | None = None,
        previous: int | None = None,
        share: float = 0.0,
        epoch: int = 1,
    ) -> None:
        route = Route(
            model=MODEL,
            epoch=epoch,
            champion=champion,
            challenger=challenger,
            previous=previous,
            share=share,
            resident=resident,
        )
        content = {name: getattr(route, name) for name in Route.__dataclass_fields__}
        write_atomically(self.route_path, json.dumps(content))

    def spec(self, *, on_parent_death: OnParentDeath = OnParentDeath.STOP) -> ServerSpec:
        ports = [free_port() for _ in range(3)]
        return ServerSpec(
            folder=self.root / "var" / "triton",
            repository=self.repository.root,
            models=(ENGINE, MODEL),
            grpc_port=ports[0],
            http_port=ports[1],
            metrics_port=ports[2],
            routes=self.route_path.parent,
            on_parent_death=on_parent_death,
        )


def probe(
    server: TritonServer,
    model: str = MODEL,
    watch: EngineWatch | None = None,
    *,
    timeout_s: float = 5.0,
    stall_limit_s: float = 30.0,
) -> Progress:
    """What the control process asks each second."""
    secret = {PARAMETER: server.kept_secret()}
    seen = EngineWatch() if watch is None else watch
    return probe_router(server.spec.url, model, SIDE, secret, seen, timeout_s=timeout_s, stall_limit_s=stall_limit_s)


def router_settings(place: Place) -> RouterSettings:
    return RouterSettings(
        model=MODEL,
        engine_model=ENGINE,
        route_path=place.route_path,
        repository=place.repository.root,
        traffic_dir=place.traffic,
    )
