"""The judgement of two real bundles: scores by the task, and specs that were written before there was a choice."""

import json
from pathlib import Path
from typing import Any

import pytest

from perennial.ops.making import judging
from tests.component.triton_fixtures import LABELS, write_bundle

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


def test_a_spec_with_a_task_that_nobody_knows_is_refused(bundles, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["judging", str(tmp_path / "judge.json")])
    decided(tmp_path, monkeypatch, bundles["good"], bundles["same"])
    spec = json.loads((tmp_path / "judge.json").read_text()) | {"task": "image"}
    (tmp_path / "judge.json").write_text(json.dumps(spec))
    assert judging.main() != 0
    assert "task 'image' is unknown" in capsys.readouterr().err
