"""The judgement of two real bundles: scores by the task, and specs that were written before there was a choice."""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.learning.fourier import WideFourier
from perennial.continual.learning.head import HeadWeights
from perennial.continual.learning.replies import Matcher, Question, Reply
from perennial.continual.learning.trained import write_head, write_proof
from perennial.exporters.batches import row_count, run_sorted
from perennial.exporters.bundle import read_manifest, write_manifest
from perennial.exporters.engine import Engine
from perennial.exporters.runtime import load_engine
from perennial.exporters.spec import ExportSpec
from perennial.exporters.text_classification import known_embeddings
from perennial.exporters.text_classification.given import head_on_given
from perennial.exporters.text_classification.head_arithmetic import HeadOnEngine
from perennial.ops.making import judging, proving_ahead
from perennial.ops.making.judging import JudgingSpec, time_alone
from perennial.ops.serving import bundled
from perennial.ops.store.reply_store import ReplyStore
from tests.component.triton_fixtures import LABELS, write_bundle
from tests.unit.learning.cards import text_card

_WORDS = ("cards", "loans", "trips", "fees", "shares", "coins", "rents")
TEXTS = ("card lost", "money transfer", "hello")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A version that is right, one that answers alike, and one that is always wrong."""
    folder = tmp_path_factory.mktemp("bundles")
    kinds: dict[str, dict[str, int]] = {"good": {}, "same": {}, "other": {"shift": 1}}
    return {
        name: str(write_bundle(folder / name, number, **kind)) for number, (name, kind) in enumerate(kinds.items(), 1)
    }


def decided(
    folder: Path, monkeypatch: pytest.MonkeyPatch, champion: str, challenger: str, **changed: Any
) -> dict[str, Any]:
    """What the process writes for a spec as earlier releases wrote it, with changes."""
    rows = [[TEXTS[n % 3], LABELS[n % 3]] for n in range(60)]
    spec = {
        "champion": 1,
        "challenger": 2,
        "champion_bundle": champion,
        "challenger_bundle": challenger,
        "fresh": rows[:30],
        "old": rows,
        "rules": {"max_calibration_error": 1.0, "max_latency_ratio": 1e6},
        "seed": 0,
        "threads": 1,
    }
    (folder / "judge.json").write_text(json.dumps(spec | changed))
    monkeypatch.setattr("sys.argv", ["judging", str(folder / "judge.json")])
    assert judging.main() == 0
    decision: dict[str, Any] = json.loads((folder / "decision.json").read_text())
    return decision


def test_a_spec_of_an_earlier_release_is_judged_by_right_and_wrong(bundles, tmp_path, monkeypatch):
    same = decided(tmp_path, monkeypatch, bundles["good"], bundles["same"])
    assert (same["accepted"], same["reasons"]) == (True, [])
    assert (same["figures"]["fresh_gain_points"], same["figures"]["forgetting_points"]) == (0.0, 0.0)
    assert same["figures"]["fresh_champion_accuracy"] == same["figures"]["old_challenger_accuracy"] == 1.0
    worse = decided(tmp_path, monkeypatch, bundles["good"], bundles["other"])
    assert worse["figures"]["fresh_gain_points"] == -100.0
    assert worse["reasons"][:3] == [
        "not better: -100.00 points on 30 fresh rows (at least +0.00)",
        "forgets: 100.00 points lost on 60 old rows (limit 1.00)",
        f"worse on label {min(LABELS)}: 100.0 points lost on 20 rows (limit 15.0)",
    ]
    named = decided(tmp_path, monkeypatch, bundles["good"], bundles["other"], task="text_classification")
    keys = [name for name in worse["figures"] if name.startswith(("fresh", "old", "forget"))]
    assert [named["figures"][name] for name in keys] == [worse["figures"][name] for name in keys]


def test_a_challenger_that_is_level_and_behind_words_and_letters_is_refused(bundles, tmp_path, monkeypatch):
    taught = tmp_path / "examples.jsonl"
    pairs = [(f"{TEXTS[n % 3]} {n}", LABELS[n % 3]) for n in range(30)]
    taught.write_text(
        "".join(json.dumps({"text": t, "label": label, "at": "2026-01-01T00:00:00+00:00"}) + "\n" for t, label in pairs)
    )
    wrong = decided(tmp_path, monkeypatch, bundles["other"], bundles["other"], taught=[str(taught)])
    assert wrong["figures"]["fresh_lexical_accuracy"] == 1.0
    assert len(wrong["reasons"]) == 1
    assert wrong["reasons"][0].startswith("no better than a simple answer: lexical scores 1.0000 on 30 fresh rows")
    assert {"fresh_majority_accuracy", "fresh_champion_with_moved_priors_accuracy"} <= set(wrong["figures"])
    better = decided(tmp_path, monkeypatch, bundles["other"], bundles["good"], taught=[str(taught)])
    assert better["accepted"]
    assert "fresh_lexical_accuracy" not in better["figures"], "nothing simple is asked where the challenger surely wins"


def test_a_spec_with_a_task_that_nobody_knows_is_refused(bundles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["judging", str(tmp_path / "judge.json")])
    decided(tmp_path, monkeypatch, bundles["good"], bundles["same"])
    spec = json.loads((tmp_path / "judge.json").read_text()) | {"task": "image"}
    (tmp_path / "judge.json").write_text(json.dumps(spec))
    assert judging.main() != 0
    assert "task 'image' is unknown" in capsys.readouterr().err


def _give_heads(bundle: Path, seed: int) -> None:
    """Solved heads on the engine's embeddings, a proved one beside the one that answers, all of them wild guesses."""
    classes, drawn = len(LABELS), np.random.default_rng(seed)
    head = HeadWeights(
        labels=tuple(LABELS),
        omega=drawn.normal(size=(classes, 16)).astype(np.float32),
        phase=drawn.uniform(0, 6, size=16).astype(np.float32),
        weight=drawn.normal(size=(classes, 16)).astype(np.float32),
        bias=np.zeros(classes, dtype=np.float32),
        temperature=1.0,
    )
    text_card(encoder="tiny", encoder_fingerprint="tiny", labels=tuple(LABELS)).write(bundle)
    write_head(bundle, head)
    write_proof(bundle, head, (1, 2))
    write_manifest(bundle, read_manifest(bundle))


def test_heads_on_one_encoder_are_judged_by_one_run_of_it_and_alike(bundles, tmp_path, monkeypatch):
    pair = [write_bundle(tmp_path / name, number) for number, name in ((1, "one"), (2, "two"))]
    assert not judging._same_embeddings(*pair)
    for seed, bundle in enumerate(pair):
        _give_heads(bundle, seed)
    assert judging._same_embeddings(*pair)
    loaded: list[Path] = []

    def load(bundle: Path, **how: Any) -> Engine:
        loaded.append(bundle)
        return load_engine(bundle, **how)

    monkeypatch.setattr(bundled, "load_engine", load)
    once = decided(tmp_path, monkeypatch, *map(str, pair), rules={"max_calibration_error": 1.0})
    assert loaded == [pair[1]]
    monkeypatch.setattr(judging, "_same_embeddings", lambda *_: False)
    twice = decided(tmp_path, monkeypatch, *map(str, pair), rules={"max_calibration_error": 1.0})
    measured = {"latency_ratio", "challenger_load_s", "challenger_load_mb"}
    assert once["figures"].keys() == twice["figures"].keys()
    assert all(once["figures"][name] == twice["figures"][name] for name in once["figures"].keys() - measured)
    assert once["figures"]["fresh_champion_accuracy"] != once["figures"]["fresh_challenger_accuracy"]


def test_a_text_is_asked_of_an_encoder_once_and_heads_are_judged_alike(bundles, tmp_path, monkeypatch):
    three = [write_bundle(tmp_path / name, number) for number, name in enumerate(("one", "two", "three"), 1)]
    for seed, bundle in enumerate(three):
        _give_heads(bundle, seed)
    asked: list[int] = []

    def run(engine: Engine, signature: Any, inputs: Any, batch: int) -> Any:
        asked.append(row_count(inputs))
        return run_sorted(engine, signature, inputs, batch)

    monkeypatch.setattr(known_embeddings, "run_sorted", run)
    how: dict[str, Any] = {"rules": {"max_calibration_error": 1.0}}
    for challenger, new in ((1, [3]), (2, [])):
        pair = (str(three[challenger - 1]), str(three[challenger]))
        anew = decided(tmp_path, monkeypatch, *pair, **how)
        asked.clear()
        known = decided(tmp_path, monkeypatch, *pair, embeddings=str(tmp_path / "embeddings"), **how)
        measured = {"latency_ratio", "challenger_load_s", "challenger_load_mb"}
        assert asked == new, "three different texts are asked at the first judgement, and none at the second"
        for name in known["figures"].keys() - measured:
            assert known["figures"][name] == pytest.approx(anew["figures"][name], abs=1e-4), name
        assert known["reasons"] == anew["reasons"]


def test_rows_that_were_mapped_while_an_export_waited_are_mapped_no_more_and_decide_alike(
    bundles, tmp_path, monkeypatch
):
    pair = [write_bundle(tmp_path / name, number) for number, name in ((1, "one"), (2, "two"))]
    for bundle in pair:
        _give_heads(bundle, 0)
    anew = decided(tmp_path, monkeypatch, *map(str, pair), embeddings=str(tmp_path / "embeddings"))
    spec = JudgingSpec(**json.loads((tmp_path / "judge.json").read_text()))
    held_out = tmp_path / "heldout.json"
    held_out.write_text(json.dumps([{"text": text} for text in TEXTS]))
    export = ExportSpec(
        trained_dir=pair[0], out_dir=pair[0], held_out=held_out, model="m", version=1, embeddings=Path(spec.embeddings)
    )
    version = bundled.BundledVersion.load(pair[0], proved=True)
    ahead = proving_ahead._mapped(export, version, pair[0])
    assert ahead is not None
    mapped: list[int] = []
    for owner, name in ((WideFourier, "__call__"), (HeadOnEngine, "_features")):
        how = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, X, how=how: mapped.append(len(X)) or how(self, X))
    one, none = judging.compare(spec, known=ahead).evidence, list(mapped)
    other = judging.compare(spec).evidence
    assert (none, bool(mapped)) == ([], True)
    assert one.fresh.challenger_scores.tolist() == other.fresh.challenger_scores.tolist()
    assert np.mean(one.fresh.challenger_scores) == anew["figures"]["fresh_challenger_accuracy"]
    held_out.unlink()
    assert proving_ahead._made_ready(pair[0], tmp_path / "export.json", 1) is None, "what is not there is not mapped"


@pytest.mark.parametrize("changed", [{"options": {"inference_precision": "bf16"}}, {"graph_fingerprint": "another"}])
def test_what_an_engine_that_was_built_otherwise_gave_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    bundle = write_bundle(tmp_path / "one", 1)
    _give_heads(bundle, 0)
    asked: list[int] = []

    def run(engine: Engine, signature: Any, inputs: Any, batch: int) -> Any:
        asked.append(row_count(inputs))
        return run_sorted(engine, signature, inputs, batch)

    monkeypatch.setattr(known_embeddings, "run_sorted", run)
    engine = load_engine(bundle, threads=1)
    for _ in range(2):
        head_on_given(engine, bundle, tmp_path / "embeddings", TEXTS)
    assert asked == [3]
    write_manifest(bundle, replace(read_manifest(bundle), **changed))
    head_on_given(engine, bundle, tmp_path / "embeddings", TEXTS)
    assert asked == [3, 3]


@pytest.mark.parametrize(("turned", "accepted"), [(False, True), (True, False)])
def test_a_version_that_finds_worse_replies_is_refused(tmp_path, monkeypatch, turned, accepted):
    pair = [write_bundle(tmp_path / name, number, task="replies") for number, name in ((1, "one"), (2, "two"))]
    usual = Matcher()
    wrong = replace(usual, weights=-usual.weights)
    replace(usual, proved=wrong if turned else usual).write(pair[1])
    write_manifest(pair[1], read_manifest(pair[1]))
    with ReplyStore(tmp_path / "library.db") as store:
        store.put([Reply(id=word, text=f"About {word} we write.", intent="card_issue") for word in _WORDS])
        store.approve_questions(
            Question(reply=word, text=" ".join([word] * times)) for word in _WORDS for times in range(1, 21)
        )
    memory = str(tmp_path / "library.db")
    decision = decided(tmp_path, monkeypatch, *map(str, pair), task="replies", memory=memory)
    figures = decision["figures"]
    assert decision["accepted"] is accepted
    assert figures["replies_rows"] > 20
    assert figures["replies_champion_accuracy"] == 1.0
    assert (figures["replies_challenger_accuracy"] < 0.5) is turned
    assert [reason[:13] for reason in decision["reasons"]] == ([] if accepted else ["worse replies"])


class _Timed:
    """Something that takes its time over an answer: `takes(asked, n)` seconds for the n-th time that it is asked."""

    def __init__(self, takes: Callable[[int, int], float]) -> None:
        self._takes, self._asked = takes, Counter[int]()

    def answers(self, task_inputs: Sequence[int]) -> Sequence[Any]:
        (asked,) = task_inputs
        self._asked[asked] += 1
        time.sleep(self._takes(asked, self._asked[asked]))
        return []


@pytest.mark.parametrize(
    ("takes", "is_slow"),
    [
        (lambda _, n: 0.03 if n == 1 else 0.002, False),  # the machine was busy at first
        (lambda one, n: 0.03 if (one + n) % 3 else 0.002, False),  # and most of the time
        (lambda _, n: 0.012, True),
        (lambda one, n: 0.002 if one % 3 == 0 else 0.02, True),  # two inputs in three
    ],
)
def test_a_busy_machine_makes_no_version_slow(takes: Callable[[int, int], float], is_slow: bool) -> None:
    old, new = time_alone(_Timed(lambda *_: 0.002), _Timed(takes), range(6), limit=3.0)
    assert (new > 3.0 * old) == is_slow


def test_limits_on_gaps_between_groups_and_on_disturbed_texts_are_held(
    bundles: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whose = [{"region": "south" if n % 3 == 0 else "north"} for n in range(90)]  # fresh ones, then old ones
    told = {"attributes": whose, "limits": [{"attribute": "region", "figure": "accuracy_difference", "bound": 0.1}]}
    decision = decided(tmp_path, monkeypatch, bundles["good"], bundles["same"], **told)
    assert decision["accepted"]
    assert decision["figures"]["region_accuracy_difference"] == 0.0
    probes = {"lost_points": {"upper case": 1.0}, "by_names": 0.0, "by_wording": 0.0}
    decision = decided(tmp_path, monkeypatch, bundles["good"], bundles["same"], **told, probes=probes)
    assert decision["figures"].keys() >= {"lost_by_upper_case", "changed_by_names_Black_American"}
    beyond = [reason for reason in decision["reasons"] if reason.startswith("beyond a limit: ")]
    assert beyond == decision["reasons"] != []
    assert "the accuracy lost by upper case is 0.667" in beyond[0], "this champion is no nearer to the limit"
