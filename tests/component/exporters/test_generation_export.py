"""Decoders of several families, exported: the same words as transformers writes, and what an adapter has learnt."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder_model import load_causal
from perennial.continual.learning.generation import Adapter, TrainedDecoder
from perennial.continual.learning.generation.training import train_rewriter
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.rows import write_rows
from perennial.continual.learning.spec import JobSpec
from perennial.continual.tasks.generation import AcceptedEdit, Generation, Rewrite
from perennial.exporters.bundle import read_manifest
from perennial.exporters.engine import Engine
from perennial.exporters.generation.codec import Codec, numbers
from perennial.exporters.generation.part import GenerationPart
from perennial.exporters.generation.signature import APPROVED, PROMPT, STEPS, TOKENS, WRITTEN
from perennial.exporters.port import exportable
from perennial.exporters.runtime import load_engine
from perennial.exporters.torch_engine import TorchEngine
from tests.component.generation_fixtures import REWRITES, export_decoder, train_decoder, write_decoder

pytestmark = pytest.mark.component
_STEPS = 24
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def opened(folder: Path, trained: Path, engine: str) -> tuple[Engine, Codec]:
    """The decoder in an engine, which takes a trace, or in torch by the same steps."""
    if engine == "torch":
        model = exportable("generation", trained)
        part = GenerationPart.read(model.part(trained))
        return TorchEngine(model.module(), model.signature), Codec(trained, part)
    bundle = export_decoder(folder, trained, engine=engine).bundle
    return load_engine(bundle, threads=1), Codec(bundle, GenerationPart.read(read_manifest(bundle).part))


@pytest.mark.parametrize(("kind", "engine"), [("qwen2", "torch"), ("gpt2", "openvino")])
def test_an_engine_writes_what_transformers_writes(tmp_path: Path, kind: str, engine: str) -> None:
    decoder = write_decoder(tmp_path / kind, kind)
    trained = train_decoder(tmp_path / "trained", decoder, guided=False)
    own, codec = opened(tmp_path / "bundle", trained, engine)
    model = load_causal(decoder).eval()
    rows = dict(codec.encode(REWRITES)) | {STEPS: np.full((len(REWRITES), 1), _STEPS, dtype=np.int64)}
    written = own.infer(rows)[TOKENS]
    for row, prompt in zip(written, rows[PROMPT], strict=True):
        asked = torch.from_numpy(prompt[prompt > 0] - 1)[None]
        wanted = model.generate(
            asked, attention_mask=torch.ones_like(asked), max_new_tokens=_STEPS, do_sample=False, pad_token_id=0
        )[0, asked.shape[1] :]
        ends = set(codec.prompt.ends)
        kept = [token for token in wanted.tolist() if token not in ends]
        assert (row[row > 0] - 1).tolist() == kept
    begun = {**rows, STEPS: np.ones_like(rows[STEPS])}
    again = {**rows, WRITTEN: own.infer(begun)[TOKENS], STEPS: rows[STEPS] - 1}
    assert np.array_equal(own.infer(again)[TOKENS][:, : _STEPS - 1], written[:, 1:_STEPS])
    assert own.infer({**rows, PROMPT: numbers([[]] * len(REWRITES))})[TOKENS].sum() == 0
    assert not rows[APPROVED].any()


def edit(number: int) -> AcceptedEdit:
    approved = f"It costs {number} pounds."
    return AcceptedEdit(input=Rewrite(approved=approved), target=f"Hi there! {approved}", at=NOON)


def spec(folder: Path, decoder: Path, name: str, previous: Path | None = None) -> JobSpec:
    rows = folder / f"{name}.jsonl"
    wrong = AcceptedEdit(input=Rewrite(approved="It costs 5 pounds."), target="It is free.", at=NOON)
    write_rows(rows, [*(edit(number) for number in range(8)), wrong], Generation())
    write_rows(folder / "held.jsonl", [edit(number) for number in range(90, 93)], Generation())
    return JobSpec(
        learner=LearnerName.REWRITER,
        examples=rows,
        holdout=folder / "held.jsonl",
        out=folder / name,
        previous=previous,
        params={"decoder": str(decoder), "rank": 2, "epochs": 2, "rate": 0.01},
    )


def test_accepted_edits_are_learnt_on_from_version_to_version_and_lies_are_not(tmp_path: Path) -> None:
    decoder = write_decoder(tmp_path / "decoder")
    first = train_rewriter(spec(tmp_path, decoder, "1"), Context())
    assert first.metrics["edits_that_change_facts"] == 1
    assert first.data["rows"] == 8
    assert first.metrics["holdout_loss"] < first.metrics["holdout_loss_before"]
    second = train_rewriter(spec(tmp_path, decoder, "2", tmp_path / "1"), Context())
    assert second.metrics["holdout_loss_before"] == pytest.approx(first.metrics["holdout_loss"], abs=1e-4)
    assert second.metrics["holdout_loss"] < first.metrics["holdout_loss"]
    plain, learnt = load_causal(decoder), TrainedDecoder.load(tmp_path / "2").model()
    changed = [name for name, weight in learnt.state_dict().items() if not weight.equal(plain.state_dict()[name])]
    assert changed
    assert all("q_proj" in name or "v_proj" in name for name in changed)


def test_an_adapter_of_another_decoder_and_a_folder_without_one_are_refused(tmp_path: Path) -> None:
    llama, gpt2 = (load_causal(write_decoder(tmp_path / kind, kind)) for kind in ("llama", "gpt2"))
    adapter = Adapter.fresh(gpt2, rank=2, seed=0)
    with pytest.raises(DataError, match="parts that the decoder lacks"):
        adapter.merge(llama)
    with pytest.raises(ConfigurationError, match=r"has no config\.json; give a folder"):
        train_decoder(tmp_path / "trained", tmp_path / "nothing")
