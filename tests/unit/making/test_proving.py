"""A judgement in the process of the export: the same decision, and only about the bundle and the questions it had."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perennial.continual.records import PromotionDecision
from perennial.exporters.bundle import MANIFEST, read_manifest, write_manifest
from perennial.exporters.golden import Golden
from perennial.exporters.job import Opened
from perennial.exporters.runtime import load_engine
from perennial.exporters.spec import ExportSpec
from perennial.ops.making import judging, proving, proving_ahead
from perennial.ops.making.judging import JudgingSpec, decide
from perennial.ops.making.proving import Anticipated
from tests.component.triton_fixtures import LABELS, write_bundle

_TEXTS = ("card lost", "money transfer", "hello")


@pytest.fixture
def spec(tmp_path: Path) -> JudgingSpec:
    """A champion that is right, and a challenger that always errs."""
    one, other = write_bundle(tmp_path / "one", 1), write_bundle(tmp_path / "other", 2, shift=1)
    rows: list[Any] = [{"text": _TEXTS[n % 3], "label": LABELS[n % 3]} for n in range(30)]
    return JudgingSpec(
        champion=1,
        challenger=2,
        champion_bundle=str(one),
        challenger_bundle=str(other),
        fresh=rows,
        old=rows,
        rules={"max_latency_ratio": 1e6},
        seed=0,
        threads=1,
    )


def test_an_engine_that_is_open_already_is_judged_as_one_that_is_opened_anew(
    spec: JudgingSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(engine=load_engine(Path(spec.challenger_bundle), threads=1), seconds=0.5, megabytes=7.0)
    anew, loads = decide(spec), list[Path]()
    monkeypatch.setattr(
        judging.BundledVersion,
        "load",
        lambda bundle, load=judging.BundledVersion.load, **how: loads.append(bundle) or load(bundle, **how),
    )
    open_already = decide(spec, opened)
    assert loads == [Path(spec.champion_bundle)]
    assert (open_already.accepted, open_already.reasons) == (anew.accepted, anew.reasons)
    assert open_already.reasons[0].startswith("not better: -100.00 points")
    measured = ("challenger_load_s", "challenger_load_mb", "champion_latency_ms", "challenger_latency_ms", "latency")
    told, again = (
        {name: value for name, value in each.figures.items() if not name.startswith(measured)}
        for each in (open_already, anew)
    )
    assert told == again
    assert (open_already.figures["challenger_load_s"], open_already.figures["challenger_load_mb"]) == (0.5, 7.0)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_judgement_beside_a_proof_counts_if_the_engine_is_accepted(
    spec: JudgingSpec, monkeypatch: pytest.MonkeyPatch, accepted: bool
) -> None:
    bundle, asked = Path(spec.challenger_bundle), list[Path]()
    opened = Opened(engine=load_engine(bundle, threads=1), seconds=0.5, megabytes=7.0)
    check = Golden.check
    monkeypatch.setattr(Golden, "check", lambda golden, engine: asked.append(bundle) or check(golden, engine))
    with ThreadPoolExecutor(1) as pool:
        beside = proving._Beside(spec, pool)
        beside.begin(opened, bundle)(accepted)
        assert asked == [], "an engine that is not proved has no golden answers"
        decision = beside.decision()
    assert decision.reasons[0].startswith("not better: -100.00 points")
    assert decision.figures["challenger_golden_difference"] <= 1e-3
    assert decision.figures["latency_ratio"] > 0
    assert (decision.figures["challenger_load_s"] == 0.5) is accepted
    assert len(asked) == 1


def test_a_decision_answers_the_questions_that_it_was_asked_about_the_bundle_that_it_saw(
    spec: JudgingSpec, tmp_path: Path
) -> None:
    decision = PromotionDecision(champion=1, challenger=2, accepted=False, reasons=("worse",), figures={"gain": -1.0})
    assert Anticipated.read(tmp_path) is None
    Anticipated.of(spec, decision).write(tmp_path)
    kept = Anticipated.read(tmp_path)
    assert kept is not None
    assert kept.decision == decision
    assert kept.answers(spec)
    assert kept.answers(JudgingSpec(**json.loads(json.dumps({n: getattr(spec, n) for n in spec.__slots__}))))
    assert kept.answers(replace(spec, fresh=spec.fresh[:1])), "labels that came since are for the next judgement"
    for other in ({"champion": 3}, {"rules": {}}, {"old_among_all": True}, {"seed": 1}, {"taught": ("more",)}):
        assert not kept.answers(replace(spec, **other)), other
    bundle = Path(spec.challenger_bundle)
    write_manifest(bundle, replace(read_manifest(bundle), created_at="2030-01-01T00:00:00+00:00"))
    assert not kept.answers(spec)


@pytest.mark.parametrize("written", ["", "[]", '{"manifest_sha256": "a"}', '{"decision": {"reasons": [], "more": 1}}'])
def test_a_decision_that_cannot_be_read_is_none_and_ends_no_cycle(tmp_path: Path, written: str) -> None:
    (tmp_path / "anticipated.json").write_text(written)
    assert Anticipated.read(tmp_path) is None


def test_what_went_wrong_is_left_to_the_steps_own_process(spec: JudgingSpec, tmp_path: Path) -> None:
    judge, export = tmp_path / "judge.json", tmp_path / "export.json"
    judge.write_text(json.dumps({name: getattr(spec, name) for name in spec.__slots__}))
    export.write_text(json.dumps({"out_dir": str(tmp_path / "full"), "trained_dir": str(tmp_path / "nothing")}))
    assert proving.main([str(export), str(judge)]) == 0, "the bundle is there: a killed try had come so far"
    assert Anticipated.read(tmp_path) is None
    (Path(spec.challenger_bundle) / MANIFEST).unlink()
    assert proving.main([str(export), str(judge)]) != 0
    assert json.loads((tmp_path / "full.result.json").read_text())["error"] == "ConfigurationError"
    assert Anticipated.read(tmp_path) is None


def test_an_export_that_waits_has_read_the_champion_and_is_the_export_that_it_is_told_to_be(
    spec: JudgingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, last, loaded = Path(spec.champion_bundle), tmp_path / "last.json", list[Path]()
    export = ExportSpec(trained_dir=champion, out_dir=champion, held_out=tmp_path / "rows.json", model="m", version=1)
    export.write(last, result=tmp_path / "result.json")
    told, orders = list[list[str]](), [["export.json", "judge.json"], None]

    def told_after(work: Callable[[], None]) -> list[str] | None:
        work()
        return orders.pop(0)

    load = proving_ahead.load_engine
    monkeypatch.setattr(
        proving_ahead, "load_engine", lambda bundle, **how: loaded.append(bundle) or load(bundle, **how)
    )
    monkeypatch.setattr(proving_ahead, "told_after", told_after)
    monkeypatch.setattr(proving, "main", lambda arguments, mapped: told.append(arguments) or 5)
    assert proving_ahead.main([str(champion), str(last), "1", "more"]) == 5
    assert (told, loaded) == ([["export.json", "judge.json"]], [champion])
    assert proving_ahead.main([str(champion), str(tmp_path / "nothing"), "1"]) == 0, "it was let go"
    assert len(told) == 1
