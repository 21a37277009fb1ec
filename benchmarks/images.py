"""Images classified: what a head on the packaged encoder is worth beside what anybody would try first, and its price.

`make bench-images` takes scikit-learn's digits; `--data FOLDER` takes a folder for each class of your own. Each arm
learns the same rows and answers the same others. A second part has the classes come one after the other. A third times
the way of one image: reading, the engine, and both, the engines taking turns.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import record
from perennial.continual.images import ImageStore, Preprocessing, read_image
from perennial.continual.images.files import image_rows
from perennial.continual.intervals import wilson
from perennial.continual.learning.answering import answer
from perennial.continual.learning.context import Context
from perennial.continual.learning.embedding_cache import EmbeddingCache
from perennial.continual.learning.encoder import PACKAGED_LITE0, fingerprint, hidden_size, resolve_encoder
from perennial.continual.learning.learners import train_model
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.preparation import deduplicate, split_of
from perennial.continual.records import Example, Split

_SIDE = 16  # pixels of a side, of what a regression on pixels sees
_TEST_SHARE = 0.3
_TIMED = 60  # images


@dataclass(frozen=True, kw_only=True)
class World:
    """The rows to learn and to be asked, their pictures, and the embeddings of all."""

    encoder: str
    store: ImageStore
    work: Path
    learnt: list[Example]
    asked: list[Example]

    def embeddings(self, rows: Sequence[Example]) -> NDArray[np.float32]:
        """From the cache, where the trainings' are too."""
        from perennial.continual.images.encoder import ImageEncoder

        folder = resolve_encoder(self.encoder)
        cache = EmbeddingCache(
            self.work / "cache", encoder=fingerprint(folder), max_length=128, dimension=hidden_size(folder)
        )
        loaded = ImageEncoder.load(folder, self.store.folder)
        return cache.embed([row.text for row in rows], loaded.embed)

    def pixels(self, rows: Sequence[Example]) -> NDArray[np.float64]:
        """Small grey pictures, (rows, pixels)."""
        small = Preprocessing(resize=(_SIDE, _SIDE), crop=None, resample=2, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        pictures = (self.store.get(row.text) for row in rows)
        return np.stack([small.pixels(p.pixels).mean(axis=2).ravel() / 255.0 for p in pictures if p is not None])

    def perennial(self, rows: Sequence[Example], before: Path | None = None) -> tuple[list[str], Path]:
        """What the fast learner's job answers; it goes on from the model `before`."""
        out = self.work / f"perennial-{len(rows)}{'' if before is None else '-after'}"
        held = [row for row in rows if split_of(row.text) is Split.HOLDOUT]
        write_rows(self.work / "fresh.jsonl", [row for row in rows if split_of(row.text) is Split.TRAIN])
        write_rows(self.work / "held.jsonl", held)
        spec = JobSpec(
            learner=LearnerName.AUTO,
            examples=self.work / "fresh.jsonl",
            holdout=self.work / "held.jsonl",
            previous=before,
            encoder=self.encoder,
            images=self.store.folder,
            out=out,
            cache=self.work / "cache",
        )
        train_model(spec, Context())
        names = [row.text for row in self.asked]
        labels, logits = answer(out, names, cache=self.work / "cache", images=self.store.folder)
        return [labels[place] for place in logits.argmax(axis=1)], out


def _logistic(
    seen: Callable[[Sequence[Example]], NDArray[Any]], learnt: Sequence[Example], asked: Sequence[Example]
) -> list[str]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=2000))
    model.fit(seen(learnt), [row.label for row in learnt])
    return [str(label) for label in model.predict(seen(asked))]


def _world(data: Path | None, encoder: str, most: int, work: Path) -> World:
    store = ImageStore(work / "images")
    rows = _digits(store) if data is None else list(deduplicate(image_rows(data, store)).examples)
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    rows = [rows[place] for place in order]
    cut = int(len(rows) * _TEST_SHARE)
    return World(encoder=encoder, store=store, work=work, learnt=rows[cut:], asked=rows[:cut])


def _digits(store: ImageStore) -> list[Example]:
    import io
    from datetime import UTC, datetime

    from PIL import Image
    from sklearn.datasets import load_digits

    found, rows = load_digits(), []
    for image, target in zip(found.images, found.target, strict=True):
        buffer = io.BytesIO()
        Image.fromarray((image * 15.9).astype(np.uint8)).save(buffer, format="PNG")
        picture = read_image(buffer.getvalue())
        store.put(picture)
        rows.append(Example(text=picture.name, label=f"digit {target}", at=datetime(2026, 1, 1, tzinfo=UTC)))
    return list(deduplicate(rows).examples)


def _arms(world: World) -> list[dict[str, Any]]:
    """Every arm on all rows. Embeddings are made once before, and their time is told apart."""
    began = time.perf_counter()
    world.embeddings([*world.learnt, *world.asked])
    embed_s = time.perf_counter() - began
    truth = [row.label for row in world.asked]
    common = max({*truth}, key=[row.label for row in world.learnt].count)
    arms: dict[str, Callable[[], list[str]]] = {
        "perennial": lambda: world.perennial(world.learnt)[0],
        "frozen features, logistic": lambda: _logistic(world.embeddings, world.learnt, world.asked),
        "pixels, logistic": lambda: _logistic(world.pixels, world.learnt, world.asked),
        "most frequent label": lambda: [common] * len(truth),
    }
    rows = []
    for name, answers in arms.items():
        began = time.perf_counter()
        given = answers()
        right = sum(one == other for one, other in zip(given, truth, strict=True))
        interval = wilson(right, len(truth))
        rows.append(
            {
                "arm": name,
                "accuracy": right / len(truth),
                "interval": [interval.low, interval.high],
                "seconds": time.perf_counter() - began,
                "embedding_s": embed_s if "perennial" in name or "frozen" in name else 0.0,
            }
        )
    return rows


def _classes_one_by_one(world: World) -> list[dict[str, Any]]:
    """Classes come in two halves: what an update costs, and whether it equals learning all at once."""
    classes = sorted({row.label for row in world.learnt})
    first = [row for row in world.learnt if row.label in classes[: len(classes) // 2]]
    _, before = world.perennial(first)
    rest = [row for row in world.learnt if row.label not in classes[: len(classes) // 2]]
    began = time.perf_counter()
    given, _ = world.perennial(rest, before)
    updated_s = time.perf_counter() - began
    truth = [row.label for row in world.asked]
    return [
        {
            "classes": f"{len(classes) // 2} then {len(classes) - len(classes) // 2}",
            "accuracy": float(np.mean([a == b for a, b in zip(given, truth, strict=True)])),
            "update_s": updated_s,
        }
    ]


def _times(world: World) -> dict[str, float]:
    """Median milliseconds of one image: reading a photograph's file, and each engine, alone on one thread."""
    import torch

    from perennial.exporters.built import BuiltEngine
    from perennial.exporters.bundle import Precision
    from perennial.exporters.engine import Engine
    from perennial.exporters.image_classification.export import ImageExportable
    from perennial.exporters.onnxruntime import build_onnxruntime
    from perennial.exporters.openvino import build_openvino
    from perennial.exporters.runtime import OnnxEngine, OpenVinoEngine
    from perennial.exporters.torch_engine import TorchEngine

    torch.set_num_threads(1)
    _, trained = world.perennial(world.learnt)
    model, folder = ImageExportable.load(trained), world.work / "engines"
    folder.mkdir()
    module = model.module()
    graph = model.graph(folder / "graph.onnx", module)
    for kind, build in (("ort", build_onnxruntime), ("openvino", build_openvino)):
        (folder / kind).mkdir()
        built: BuiltEngine = build(graph.path, folder / kind, Precision.FP32)
        assert (folder / kind / built.file).is_file()
    engines: dict[str, Engine] = {
        "torch": TorchEngine(module, model.signature),
        "ONNX Runtime": OnnxEngine(folder / "ort" / "model.onnx", threads=1),
        "OpenVINO": OpenVinoEngine(folder / "openvino" / "model.xml", threads=1),
    }
    photograph = _photograph()
    shape = (1, *model.prepared.size, 3)
    rng, taken = np.random.default_rng(0), {name: list[float]() for name in (*engines, "read a photograph")}
    for _ in range(_TIMED):
        pixels = {"pixels": rng.integers(256, size=shape, dtype=np.uint8)}
        for name, engine in engines.items():
            taken[name].append(_clocked(partial(engine.infer, pixels)))
        taken["read a photograph"].append(_clocked(lambda: model.prepared.pixels(read_image(photograph).pixels)))
    return {name: 1e3 * float(np.median(times[5:])) for name, times in taken.items()}


def _photograph() -> bytes:
    import io

    from PIL import Image
    from sklearn.datasets import load_sample_image

    buffer = io.BytesIO()
    Image.fromarray(load_sample_image("china.jpg")).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _clocked(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure, print a table and write `images.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder for each class; default scikit-learn's digits")
    parser.add_argument("--encoder", default=PACKAGED_LITE0)
    parser.add_argument("--most", type=int, default=4_000, help="images, drawn at random")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="bench-images-") as work:
        world = _world(asked.data, asked.encoder, asked.most, Path(work))
        results: dict[str, Any] = {
            "data": "digits" if asked.data is None else asked.data.name,
            "learnt": len(world.learnt),
            "asked": len(world.asked),
            "arms": _arms(world),
            "in_two_halves": _classes_one_by_one(world),
            "milliseconds": _times(world),
        }
    for row in results["arms"]:
        low, high = row["interval"]
        print(f"{row['arm']:28} {row['accuracy']:.1%} [{low:.1%}, {high:.1%}] {row['seconds']:7.2f} s")
    print(results["in_two_halves"], results["milliseconds"])
    print(record.write("images", results, asked.out))


if __name__ == "__main__":
    main()
