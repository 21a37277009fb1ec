"""Rewrites of a thousand approved replies: how many are let through, what changed in them, and how fast they come.

    python -m benchmarks.generation [--decoder packaged:smollm2] [--replies 1000] [--free 100] [--speed 20] [--work DIR]
        [--no-genai]

The replies are generated, with numbers, links, names and negations. Each is rewritten by the guided engine; some are
rewritten freely too. An independent checker looks for changed facts in what was let through. Then engines,
transformers and OpenVINO GenAI write as many tokens in turn, each with the same threads, with no guide. The time to the
first token is of a prompt that nothing is remembered of, and of one that was seen before. OpenVINO GenAI lives in an
environment of its own in the work folder. It reads the packaged decoder's GGUF file, with weights of four bits as it
is shipped, and with weights of sixteen.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from benchmarks.generation_check import changed_facts
from benchmarks.generation_data import approved_replies
from benchmarks.generation_peers import WEIGHTS, environment, gguf_of, peer
from perennial.continual.intervals import wilson
from perennial.continual.learning.generation import DEFAULT_DECODER, TrainedDecoder
from perennial.continual.learning.names import LearnerName
from perennial.continual.tasks.generation import Rewrite, check_rewrite
from perennial.exporters.bundle import read_manifest
from perennial.exporters.engine import Engine, Inputs
from perennial.exporters.generation.codec import Codec, numbers
from perennial.exporters.generation.part import GenerationPart
from perennial.exporters.generation.signature import APPROVED, PROMPT, STEPS, TOKENS
from perennial.exporters.job import export_bundle
from perennial.exporters.runtime import load_engine
from perennial.exporters.spec import ExportSpec

__all__ = ["main"]

TONES = ("friendly", "formal", "warm and short", "")
NAMES = ("Maria", "", "Tom", "")
ENGINES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
WRITTEN = 24  # tokens that each arm writes of a reply
_FIRST_IDS = 1_000  # of words that begin a prompt for time
Arm = Callable[[list[int], int], int]  # writes so many tokens behind a prompt, and tells how many


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", default=DEFAULT_DECODER)
    parser.add_argument("--replies", type=int, default=1_000)
    parser.add_argument("--free", type=int, default=100, help="of them that are written freely too")
    parser.add_argument("--speed", type=int, default=20, help="replies that each arm writes for time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--genai", action=argparse.BooleanOptionalAction, default=True, help="with OpenVINO GenAI")
    parser.add_argument("--work", type=Path, default=Path("var") / "bench-generation")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args(arguments)
    bundles = {engine: _bundle(asked.work, asked.decoder, *engine, threads=asked.threads) for engine in ENGINES}
    rewrites = [
        Rewrite(approved=reply, tone=TONES[place % 4], name=NAMES[place % 4])
        for place, reply in enumerate(approved_replies(asked.replies))
    ]
    first = bundles[ENGINES[0]]
    engine, codec = load_engine(first, threads=asked.threads), _codec(first)
    results: dict[str, Any] = {"decoder": asked.decoder, "threads": asked.threads}
    results["guided"] = _told(engine, codec, rewrites, guided=True)
    results["free"] = _told(engine, codec, rewrites[: asked.free], guided=False)
    with ExitStack() as peers:
        arms = {
            " ".join(kind): _engine_arm(load_engine(bundle, threads=asked.threads)) for kind, bundle in bundles.items()
        }
        arms["transformers"] = _transformers_arm(asked.decoder, asked.threads)
        if asked.genai and asked.decoder == DEFAULT_DECODER:
            python = environment(asked.work / ".venv-genai")
            for weights in WEIGHTS:
                model = gguf_of(weights, asked.work)
                arms[f"openvino genai {weights}"] = peers.enter_context(peer(python, model, asked.threads))
        results["speed"] = _speed(codec, arms, rewrites[: asked.speed])
    print(json.dumps(results, indent=1, ensure_ascii=False))
    print(record.write("generation", results, asked.out))
    return 0


def _bundle(work: Path, decoder: str, engine: str, precision: str, *, threads: int) -> Path:
    """The bundle, made where it is not there yet."""
    folder, trained = work / f"{engine}-{precision}", work / "trained"
    if folder.is_dir():
        return folder
    if not trained.is_dir():
        TrainedDecoder.take(decoder, trained, learner=LearnerName.REWRITER.value, settings={"guided": True})
    held = work / "held.json"
    held.write_text(json.dumps([{"approved": reply} for reply in approved_replies(4, seed=9)]), encoding="utf-8")
    spec = ExportSpec(
        task="generation",
        trained_dir=trained,
        out_dir=folder,
        held_out=held,
        model="bench",
        version=1,
        engine=engine,
        precision=precision,
        threads=threads,
    )
    export_bundle(spec)
    return folder


def _codec(bundle: Path) -> Codec:
    return Codec(bundle, GenerationPart.read(read_manifest(bundle).part))


def _told(engine: Engine, codec: Codec, rewrites: Sequence[Rewrite], *, guided: bool) -> dict[str, Any]:
    """What is let through, what a second opinion says of it, and why the rest is not."""
    through, changed, other, tokens = 0, list[dict[str, Any]](), 0, 0
    reasons, examples, firsts = Counter[str](), list[dict[str, str]](), list[float]()
    began = time.perf_counter()
    for rewrite in rewrites:
        inputs = dict(codec.encode([rewrite]))
        if not guided:
            inputs[APPROVED] = numbers([[]])
        started = time.perf_counter()
        engine.infer({**inputs, STEPS: np.ones((1, 1), dtype=np.int64)})
        firsts.append(1_000 * (time.perf_counter() - started))
        outputs = engine.infer(inputs)
        tokens += int((outputs[TOKENS] > 0).sum())
        text = codec.texts(outputs)[0]
        verdict = check_rewrite(rewrite.approved, text, name=rewrite.name)
        if len(examples) < 12:
            examples.append({"approved": rewrite.approved, "rewritten": text, "why": verdict.why})
        if not verdict.let_through:
            reasons[verdict.why.split(" ", 1)[0]] += 1
            continue
        through += 1
        other += text != rewrite.approved
        if facts := changed_facts(rewrite.approved, text, rewrite.name):
            changed.append({"approved": rewrite.approved, "rewritten": text, "facts": facts})
    seconds = time.perf_counter() - began
    interval = wilson(through, len(rewrites))
    return {
        "replies": len(rewrites),
        "let_through": through,
        "share_let_through": through / max(1, len(rewrites)),
        "interval": [interval.low, interval.high],
        "other_than_approved": other,
        "with_changed_facts": len(changed),
        "changed": changed[:20],
        "reasons": dict(reasons.most_common(8)),
        "tokens_a_second": tokens / seconds,
        "replies_a_second": len(rewrites) / seconds,
        "first_token_ms": _spread(firsts),
        "examples": examples,
    }


def _speed(codec: Codec, arms: Mapping[str, Arm], rewrites: Sequence[Rewrite]) -> dict[str, Any]:
    """Each arm writes the same number of tokens of each reply, in turn: time to the first, and tokens a second."""
    kinds = ("first_token_ms", "first_token_of_a_known_prompt_ms", "all_ms")
    seen: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in arms}
    for place, rewrite in enumerate(rewrites):
        known = codec.ids(codec.prompt.ask(rewrite))
        ids = [_FIRST_IDS + place, *known]  # begins as no other does, so that nothing of it is remembered
        for name, write in arms.items():
            first, _ = _timed(write, ids, 1)
            write(known, 1)
            warm, _ = _timed(write, known, 1)
            whole, count = _timed(write, [_FIRST_IDS + 500 + place, *known], WRITTEN)
            if count != WRITTEN:
                raise SystemExit(f"{name} wrote {count} tokens of {WRITTEN}; choose another reply")
            seen[name]["first_token_ms"].append(1_000 * first)
            seen[name]["first_token_of_a_known_prompt_ms"].append(1_000 * warm)
            seen[name]["all_ms"].append(1_000 * whole)
    return {name: _told_speed(told) for name, told in seen.items()}


def _told_speed(told: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The spread of each time, and tokens a second behind the first one, by the medians."""
    spread = {kind: _spread(values) for kind, values in told.items()}
    behind_ms = spread["all_ms"]["median"] - spread["first_token_ms"]["median"]
    return {**spread, "tokens_a_second": 1_000 * (WRITTEN - 1) / behind_ms if behind_ms > 0 else None}


def _timed(write: Arm, ids: list[int], steps: int) -> tuple[float, int]:
    """Seconds, and how many tokens were written."""
    started = time.perf_counter()
    count = write(ids, steps)
    return time.perf_counter() - started, count


def _engine_arm(engine: Engine) -> Arm:
    nothing = numbers([[]])

    def write(ids: list[int], steps: int) -> int:
        inputs: Inputs = {
            PROMPT: numbers([ids]),
            "written": nothing,
            APPROVED: nothing,
            "greeted": nothing,
            "manner": nothing,
            STEPS: np.array([[steps]], dtype=np.int64),
        }
        return int((engine.infer(inputs)[TOKENS] > 0).sum())

    return write


def _transformers_arm(decoder: str, threads: int) -> Arm:
    """Transformers as it comes: float32, and the attention that it chooses itself."""
    import torch

    from perennial.continual.learning.encoder_model import load_causal
    from perennial.continual.learning.generation import decoder_folder

    torch.set_num_threads(threads)
    model = load_causal(decoder_folder(decoder), attention=None)

    def write(ids: list[int], steps: int) -> int:
        with torch.inference_mode():
            made = model.generate(
                torch.tensor([ids]), attention_mask=torch.ones((1, len(ids)), dtype=torch.int64), max_new_tokens=steps,
                do_sample=False, use_cache=True, pad_token_id=0,
            )  # fmt: skip
        return int(made.shape[1]) - len(ids)

    return write


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {
        "median": statistics.median(ordered),
        "low": ordered[len(ordered) // 10],
        "high": ordered[-1 - len(ordered) // 10],
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
