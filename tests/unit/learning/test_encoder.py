"""Encoders are found, told apart and embed in the order given."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning import texts as texts_of_a_job
from perennial.continual.learning.context import Context
from perennial.continual.learning.encoder import Encoder, InBfloat16, fingerprint, hidden_size, resolve_encoder
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.spec import JobSpec

pytestmark = pytest.mark.slow

TEXTS = ["my card", "the loan with interest please help", "my card", "", "new trip"]


def test_embeddings_are_unit_vectors_in_the_order_given(tiny_encoder: Path) -> None:
    encoder = Encoder.load(str(tiny_encoder), max_length=16)
    progress: list[tuple[int, int]] = []
    together = encoder.embed(TEXTS, batch=2, progress=lambda done, total: progress.append((done, total)))
    assert (together.shape, together.dtype) == ((5, 32), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(together[0], together[2])
    alone = np.concatenate([encoder([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert progress == [(2, 4), (4, 4)]
    assert encoder.embed([]).shape == (0, 32)


def test_long_texts_are_cut_at_max_length(tiny_encoder: Path) -> None:
    encoder = Encoder.load(str(tiny_encoder), max_length=6)
    one, other = encoder.embed(["my card was lost and gone", "my card was lost please help me"])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert Encoder.load(str(tiny_encoder), max_length=4000).max_length == 32


def test_fingerprint_follows_the_content_alone(tiny_encoder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_encoder, copy)
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"_name_or_path": "elsewhere"}))
    assert fingerprint(copy) == fingerprint(tiny_encoder)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert fingerprint(copy) != fingerprint(tiny_encoder)


def test_folders_and_packaged_names_are_resolved(tiny_encoder: Path) -> None:
    assert resolve_encoder(str(tiny_encoder)) == tiny_encoder.resolve()
    packaged = resolve_encoder("packaged:minilm")
    assert (packaged / "model.safetensors").is_file()
    assert hidden_size(packaged) == 384


@pytest.mark.parametrize("name", ["packaged:giant", "/nowhere/at/all", "./missing", "a b c!"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        resolve_encoder(name)


def test_folders_that_are_no_encoders_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no config\.json"):
        resolve_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="lacks"):
        fingerprint(tmp_path)
    with pytest.raises(ConfigurationError, match="hidden_size"):
        hidden_size(tmp_path)
    with pytest.raises(ConfigurationError, match="at least 3"):
        Encoder.load(str(tiny_encoder), max_length=2)


def test_weights_in_shards_are_read_and_told_apart(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    shutil.copytree(tiny_encoder, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    model = AutoModel.from_pretrained(tiny_encoder, local_files_only=True, trust_remote_code=False)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    whole, sharded = (Encoder.load(str(folder), max_length=16) for folder in (tiny_encoder, tmp_path / "sharded"))
    np.testing.assert_allclose(sharded(TEXTS), whole(TEXTS), atol=1e-6)
    before = fingerprint(tmp_path / "sharded")
    shard = sorted((tmp_path / "sharded").glob("model-*.safetensors"))[0]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert fingerprint(tmp_path / "sharded") != before


def test_another_pooling_is_another_encoder(tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "cls")
    (tmp_path / "cls" / "1_Pooling").mkdir()
    (tmp_path / "cls" / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert fingerprint(tmp_path / "cls") != fingerprint(tiny_encoder)
    mean, first = (Encoder.load(str(folder), max_length=16)(TEXTS[:2]) for folder in (tiny_encoder, tmp_path / "cls"))
    assert np.abs(mean - first).max() > 0.01


@pytest.mark.parametrize("damage", ["half", "less", "no table"])
def test_weights_that_are_not_all_there_are_refused(tiny_encoder: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_encoder, tmp_path / "damaged")
    path = tmp_path / "damaged" / "model.safetensors"
    if damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "less":
        kept = {name: value for name, value in load_file(path).items() if "layer.1." not in name}
        save_file(kept, path, metadata={"format": "pt"})
    else:
        settings = json.loads((tmp_path / "damaged" / "config.json").read_text())
        (tmp_path / "damaged" / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": -1}))
    with pytest.raises(ConfigurationError, match="lacks .* weights" if damage == "less" else "cannot be loaded"):
        Encoder.load(str(tmp_path / "damaged"), max_length=16)


class _Coarse:
    """An encoder whose embeddings in bfloat16 are turned by an angle, which remembers how it was asked."""

    folder = Path("coarse")

    def __init__(self, angle: float) -> None:
        self._angle = angle
        self.asked: list[tuple[int, bool]] = []

    def embed(self, texts: Sequence[str], *, bf16: bool = False) -> NDArray[np.float32]:
        self.asked.append((len(texts), bf16))
        angle = self._angle if bf16 else 0.0
        return np.full((len(texts), 2), (np.cos(angle), np.sin(angle)), dtype=np.float32)


@pytest.mark.parametrize(("angle", "fast"), [(0.02, True), (0.1, False)])
def test_bfloat16_is_used_where_it_gives_the_same_embeddings(angle: float, fast: bool) -> None:
    encoder = _Coarse(angle)
    embedder = InBfloat16(cast("Encoder", encoder))
    assert embedder([]).shape == (0, 2)
    for _ in range(2):
        embedder([f"text {n}" for n in range(40)])
    assert encoder.asked == [(0, False), (14, False), (14, True), (40, fast), (40, fast)], "it is compared once"


def test_embeddings_in_bfloat16_are_those_of_full_precision(tiny_encoder: Path) -> None:
    encoder = Encoder.load(str(tiny_encoder), max_length=16)
    exact, coarse = encoder.embed(TEXTS), encoder.embed(TEXTS, bf16=True)
    assert coarse.dtype == np.float32
    assert np.allclose(np.linalg.norm(coarse, axis=1), 1.0, atol=1e-5)
    assert (exact * coarse).sum(axis=1).min() > InBfloat16.LEAST_COSINE
    assert not np.array_equal(exact, coarse)


def test_only_a_training_with_many_new_texts_gives_up_the_last_digits(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exactly: list[bool] = []

    def load(_folder: Path, *, exact: bool, **_how: object) -> Callable[[Sequence[str]], NDArray[np.float32]]:
        exactly.append(exact)
        return lambda texts: np.ones((len(texts), 32), np.float32)

    monkeypatch.setattr(texts_of_a_job, "load_embedding", load)
    monkeypatch.setattr(texts_of_a_job, "_MANY", 3)
    for name, texts, exact in (
        ("few", ["a", "b", "a"], False),
        ("many", ["a", "b", "c"], False),
        ("many", ["a", "c", "d", "e"], False),
        ("many", ["a", "b", "c"], True),
    ):
        out = tmp_path / name / "out"
        spec = JobSpec(learner=LearnerName.RIDGE, examples=None, out=out, encoder=str(tiny_encoder))
        texts_of_a_job.Texts(spec, Context(), exact=exact)(texts)
    assert exactly == [True, False, True, True], "of the third's four texts two are known; the last knows none exactly"
