import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from perennial.continual.drift import DriftComparison, DriftSettings, ReferenceProfile, Window, compare
from perennial.continual.drift.evidently_report import ReportPaths, build_report, check_agreement, prune_reports
from perennial.continual.errors import DataError, PerennialError
from tests.unit.drift.generated import traffic

pytestmark = pytest.mark.component

Made = tuple[ReferenceProfile, Window, DriftComparison]


@pytest.fixture(scope="module")
def compared() -> Made:
    rng = np.random.default_rng(1)
    reference = ReferenceProfile.build(traffic(300, rng), version=1, rng=rng)
    window = traffic(200, rng, new=0.3)
    return reference, window, compare(reference, window, DriftSettings(), rng)


@pytest.fixture(scope="module")
def reports(compared: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ReportPaths]]:
    folder = tmp_path_factory.mktemp("reports")
    made = [
        build_report(*compared, folder / f"r{i}.html", folder / "workspace", {"model": "intent"}, keep_runs=1)
        for i in range(2)
    ]
    return folder, made


def test_report_json_and_verdicts_say_what_was_decided(compared: Made, reports: tuple[Path, list[ReportPaths]]) -> None:
    report = json.loads(reports[1][0].json.read_text())
    assert compared[2].drifted
    assert check_agreement(report, compared[2]) == []
    value = next(m for m in report["metrics"] if m["config"].get("column") == "confidence")
    value["value"] = 0.5
    assert [line.split(":")[0] for line in check_agreement(report, compared[2])] == ["confidence"]


def test_report_html_is_whole_and_shows_our_statistics(reports: tuple[Path, list[ReportPaths]]) -> None:
    html = reports[1][0].html.read_text()
    assert "</html>" in html[-200:]
    assert "Holm-adjusted p" in html
    assert not list(reports[0].glob("*.partial"))


def test_snapshot_can_be_loaded_again_in_a_fresh_process(reports: tuple[Path, list[ReportPaths]]) -> None:
    code = (
        "import json, sys; from pathlib import Path; from evidently.core.report import Snapshot; "
        "s = Snapshot.loads(Path(sys.argv[1]).read_text()); print(json.dumps(len(json.loads(s.json())['metrics'])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(reports[1][0].snapshot)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "DO_NOT_TRACK": "1"},
    )
    stored = json.loads(reports[1][0].json.read_text())
    assert int(done.stdout.strip().splitlines()[-1]) == len(stored["metrics"])


def test_workspace_keeps_the_last_runs_only(reports: tuple[Path, list[ReportPaths]]) -> None:
    stored = {path.stem for path in (reports[0] / "workspace").rglob("snapshots/*.json")}
    assert stored == {reports[1][1].run}


def test_a_report_that_takes_too_long_is_killed_and_leaves_nothing(compared: Made, tmp_path: Path) -> None:
    with pytest.raises(PerennialError, match=r"longer than its limit of 0\.2 s; raise report_timeout_s"):
        build_report(*compared, tmp_path / "late.html", timeout_s=0.2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("given", "told"), [({}, 10), ({"niceness": 19}, 19)])
def test_a_report_gives_way_as_far_as_it_is_told(
    compared: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, int], told: int
) -> None:
    def run_job(*_: object, niceness: int, **__: object) -> None:
        raise PerennialError(f"begun at niceness {niceness}")

    monkeypatch.setattr("perennial.continual.drift.evidently_report.run_job", run_job)
    with pytest.raises(PerennialError, match=f"niceness {told}$"):
        build_report(*compared, tmp_path / "never.html", **given)


def test_prune_keeps_the_newest_reports_with_their_files(tmp_path: Path) -> None:
    for i in range(4):
        for suffix in (".html", ".json", ".snapshot.json"):
            path = tmp_path / f"r{i}{suffix}"
            path.write_text("x")
            os.utime(path, (i, i))
    deleted = prune_reports(tmp_path, keep=1)
    assert [path.name for path in deleted] == ["r2.html", "r1.html", "r0.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r3.html", "r3.json", "r3.snapshot.json"]
    with pytest.raises(DataError, match="at least 1"):
        prune_reports(tmp_path, keep=0)


def test_importing_drift_does_not_import_evidently() -> None:
    code = "import sys, perennial.continual.drift.evidently_report; print('evidently' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_report_holds_no_verdict_but_ours(compared: Made, reports: tuple[Path, list[ReportPaths]]) -> None:
    report = json.loads(reports[1][0].json.read_text())
    kinds = [test["metric_config"]["params"]["type"].rpartition(":")[2] for test in report["tests"]]
    assert sorted(kinds) == ["DriftedColumnsCount", *["ValueDrift"] * len(compared[2].signals)]


def test_a_report_that_is_cancelled_is_killed_at_once_and_leaves_nothing(compared: Made, tmp_path: Path) -> None:
    leaving = threading.Event()
    leaving.set()
    began = time.monotonic()
    with pytest.raises(PerennialError, match="was cancelled"):
        build_report(*compared, tmp_path / "never.html", timeout_s=60, cancel=leaving)
    assert time.monotonic() - began < 5
    assert list(tmp_path.iterdir()) == []
