"""The Evidently report of record, made in a process of its own. The only module that imports Evidently.

Evidently shows; it does not decide. Each signal's column is measured by our own statistic, registered into Evidently
under `perennial_<signal>`, so that the HTML, the JSON and the decision hold the same values. The child measures again
from the files it is given, so `check_agreement` compares two computations and not a copy with itself.
"""

import json
import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import written_whole
from perennial.continual.drift.compare import DriftComparison, adjusted_of, measure_all, same_mix
from perennial.continual.drift.outcomes import OUTCOMES, outcomes_of
from perennial.continual.drift.page_text import page_text
from perennial.continual.drift.reference import ReferenceProfile
from perennial.continual.drift.settings import Signal
from perennial.continual.drift.window import Window
from perennial.continual.errors import DataError, PerennialError
from perennial.continual.jobs.errors import JobErrors
from perennial.continual.jobs.process import run_job

__all__ = ["ReportPaths", "build_report", "check_agreement", "prune_reports"]

_LOG = logging.getLogger(__name__)
_ROWS = 2_000
_SHOWN = ("characters", "words", "sentences", "non_letter_percentage")  # of each text, in a report's summary


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPaths:
    """Where a report lies. `snapshot` is what Evidently loads again; `run` is the run's id in the workspace."""

    html: Path
    json: Path
    snapshot: Path
    run: str | None = None


def build_report(
    reference: ReferenceProfile,
    current: Window,
    comparison: DriftComparison,
    out_html: Path,
    workspace: Path | None = None,
    metadata: Mapping[str, str] | None = None,
    timeout_s: float = 120.0,
    *,
    keep_runs: int = 50,
    niceness: int = 10,
    cancel: threading.Event | None = None,
) -> ReportPaths:
    """Return the paths of a finished report; takes seconds, so call it off the request path.

    Beside `NAME.html` lie `NAME.json` (values and tests) and `NAME.snapshot.json`. With a workspace the run is added to
    the project named `metadata["model"]`, which keeps its last `keep_runs` runs: look with
    `evidently ui --workspace FOLDER`. Every file is placed whole or not at all. At the highest `niceness` (19) it may
    get so little of a busy machine that `timeout_s` passes.

    Raises:
        PerennialError: the child failed, passed `timeout_s` or was cancelled; it has been killed.
    """
    out_html.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="drift-report-") as name:
        folder = Path(name)
        reference.save(folder / "reference")
        current.save(folder / "current.npz")
        job = {
            "comparison": comparison.to_json(),
            "metadata": {page_text(key): page_text(str(value)) for key, value in (metadata or {}).items()},
            "workspace": None if workspace is None else str(workspace.resolve()),
            "keep_runs": keep_runs,
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run_child(folder, timeout_s, niceness, cancel)
        answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        paths = ReportPaths(
            html=out_html,
            json=out_html.with_suffix(".json"),
            snapshot=out_html.with_suffix(".snapshot.json"),
            run=answer["run"],
        )
        for suffix, wanted in (("json", paths.json), ("snapshot", paths.snapshot), ("html", paths.html)):
            with written_whole(wanted, durable=False) as partial:
                shutil.copyfile(folder / f"report.{suffix}", partial)
    _LOG.info("drift.report_written", extra={"path": str(paths.html), "run": paths.run})
    return paths


def check_agreement(report_json: Mapping[str, Any], comparison: DriftComparison) -> list[str]:
    """Return what the report and the decision say differently, one sentence each; empty when they agree.

    Looks at every signal's value and at the verdict that Evidently shows for it.
    """
    values, verdicts = _values(report_json), _verdicts(report_json)
    differences = []
    for signal in comparison.signals:
        name = signal.signal.value
        value, verdict = values.get(name), verdicts.get(name)
        if value is None or abs(value - signal.adjusted_p) > 1e-9:
            differences.append(f"{name}: the report says p = {value}, the decision {signal.adjusted_p}")
        if verdict is None or (verdict == "FAIL") is not signal.drifted:
            differences.append(f"{name}: the report says {verdict}, the decision drifted = {signal.drifted}")
    return differences


def prune_reports(folder: Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep` reports of a folder, with the files beside them; return the deleted HTML paths.

    Raises:
        DataError: `keep` is below 1.
    """
    if keep < 1:
        raise DataError(f"prune_reports would keep {keep} reports; give at least 1")
    newest = sorted(folder.glob("*.html"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    for html in newest[keep:]:
        for path in (html.with_suffix(".json"), html.with_suffix(".snapshot.json"), html):
            path.unlink(missing_ok=True)
    return newest[keep:]


def _run_child(folder: Path, timeout_s: float, niceness: int, cancel: threading.Event | None) -> None:
    result = run_job(
        "perennial.continual.drift.evidently_report",
        [str(folder)],
        log=folder / "child.log",
        timeout_s=timeout_s,
        niceness=niceness,
        cancel=cancel,
        environment={
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
    )
    if result.exit_code != 0:
        raise JobErrors(
            what="the drift report",
            failed=PerennialError,
            if_late="raise report_timeout_s",
            next_step="the decision stands without it, and the next report is made from scratch",
        ).of(result)


def _values(report: Mapping[str, Any]) -> dict[str, float]:
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in report["metrics"]
        if metric["config"]["type"].endswith(":ValueDrift")
    }


def _verdicts(report: Mapping[str, Any]) -> dict[str, str]:
    return {
        test["metric_config"]["params"]["column"]: str(test["status"])
        for test in report["tests"]
        if test["metric_config"]["params"].get("type", "").endswith(":ValueDrift")
    }


# Below here runs in the child only.


def _main(folder: Path) -> None:
    reference = ReferenceProfile.load(folder / "reference")
    current = Window.load(folder / "current.npz")
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    comparison = DriftComparison.from_json(job["comparison"])
    _register(reference, current, comparison)
    snapshot = _report(reference, current, comparison, job["metadata"])
    snapshot.save_html(str(folder / "report.html"))  # a Path is silently ignored (0.7.23)
    (folder / "report.json").write_text(snapshot.json(), encoding="utf-8")
    (folder / "report.snapshot").write_text(snapshot.dumps(), encoding="utf-8")
    run = None
    if job["workspace"] is not None:
        run = _add_run(job["workspace"], job["metadata"].get("model", "model"), snapshot, comparison, job["keep_runs"])
    (folder / "answer.json").write_text(json.dumps({"run": run}), encoding="utf-8")


def _register(reference: ReferenceProfile, current: Window, comparison: DriftComparison) -> None:
    """Register each signal's statistic; they are measured once, because Holm's adjustment needs all of them."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    floors = {signal.signal: signal.result.floor for signal in comparison.signals}
    results = measure_all(
        floors,
        reference,
        current,
        seed=comparison.seed,
        permutations=comparison.permutations,
        alike=same_mix(reference, current, comparison.seed) if comparison.matched else None,
    )
    adjusted = adjusted_of(results, matched=comparison.matched)
    for answer in comparison.signals:
        verdict = (
            adjusted[answer.signal],
            adjusted[answer.signal] < comparison.alpha and results[answer.signal].relevant,
        )
        kind = ColumnType.Categorical if answer.signal is Signal.PREDICTION else ColumnType.Numerical
        register_stattest(
            StatTest(
                name=f"perennial_{answer.signal.value}",
                display_name=f"{answer.method}: Holm-adjusted p, effect at least {answer.result.floor:g}",
                allowed_feature_types=[kind],
                default_threshold=comparison.alpha,
            ),
            default_impl=lambda _ref, _cur, _type, _threshold, verdict=verdict: verdict,
        )


def _report(reference: ReferenceProfile, current: Window, comparison: DriftComparison, metadata: dict[str, str]) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, MeanValue, QuantileValue, RowCount, ValueDrift

    columns = [signal.signal.value for signal in comparison.signals]
    methods = {name: f"perennial_{name}" for name in columns}
    definition = DataDefinition(  # all six lists given, or Evidently guesses the rest; it sees numbers, never texts
        text_columns=[],
        categorical_columns=["prediction"],
        numerical_columns=[*(name for name in columns if name != "prediction"), *_SHOWN],
        datetime_columns=[],
        unknown_columns=[],
        list_columns=[],
    )
    datasets = [
        Dataset.from_pandas(frame, data_definition=definition) for frame in _frames(reference, current, columns)
    ]
    report = Report(
        [
            RowCount(tests=[]),  # a default test would fail any window that is not as long as the reference
            DriftedColumnsCount(columns=columns, per_column_method=methods, drift_share=1 / len(columns)),
            *(ValueDrift(column=name, method=methods[name], threshold=comparison.alpha) for name in columns),
            *(MeanValue(column=name, tests=[]) for name in _SHOWN),
            *(QuantileValue(column=name, quantile=0.5, tests=[]) for name in _SHOWN),
        ],
        include_tests=True,
        metadata={"version": str(comparison.version), "drifted": str(comparison.drifted), **metadata},
        tags=["drift" if comparison.drifted else "clean"],
    )
    return report.run(datasets[1], datasets[0])  # current first


def _frames(reference: ReferenceProfile, current: Window, columns: list[str]) -> tuple[Any, Any]:
    import pandas as pd

    rng = np.random.default_rng(0)
    if len(current) > _ROWS:
        current = current.rows(np.sort(rng.choice(len(current), _ROWS, replace=False)))
    sample = reference.sample
    outcomes = {signal.value: outcomes_of(signal, sample, current) for signal in OUTCOMES}
    frames = [
        {
            "prediction": [page_text(label) for label in window.predictions.tolist()],
            **_reals(confidence=window.confidences, entropy=window.entropies),
            **_reals(brightness=window.brightnesses, size=window.sizes),
            **_reals(**{name: told[side] for name, told in outcomes.items() if told is not None}),
            "length": window.lengths.astype(np.float64),
            "non_letter": window.non_letters,
            **dict(zip(_SHOWN, (window.text_shapes * [1.0, 1.0, 1.0, 100.0]).T, strict=True)),
        }
        for side, window in enumerate((sample, current))
    ]
    held_out = np.full(len(sample), np.nan)  # measured on one half only; which row has which value is not shown
    held_out[: len(reference.unknown_shares)] = reference.unknown_shares[: len(sample)]
    frames[0]["unknown_words"], frames[1]["unknown_words"] = held_out, reference.unknown_shares_of(current)
    if sample.embeddings is not None and current.embeddings is not None:
        sides = [window.astype(np.float64) for window in (sample.embeddings, current.embeddings)]
        centre, direction = sides[0].mean(axis=0), sides[1].mean(axis=0) - sides[0].mean(axis=0)
        for frame, side in zip(frames, sides, strict=True):
            frame["embedding"] = np.linalg.norm(side - centre, axis=1)
            frame["domain"] = (side - centre) @ direction / max(float(np.linalg.norm(direction)), 1e-12)
    wanted = [*columns, *_SHOWN]
    return pd.DataFrame(frames[0])[wanted], pd.DataFrame(frames[1])[wanted]


def _reals(**columns: NDArray[Any] | None) -> dict[str, NDArray[np.float64]]:
    """The columns that a window has."""
    return {name: values.astype(np.float64) for name, values in columns.items() if values is not None}


def _add_run(folder: str, model: str, snapshot: Any, comparison: DriftComparison, keep: int) -> str:
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import line_plot_panel
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(folder)
    projects = [project for project in workspace.list_projects() if project.name == model]
    if projects:
        project = projects[0]
    else:
        project = workspace.create_project(model, description=f"Drift of {model}, as Perennial decided it")
        share = PanelMetric(metric="DriftedColumnsCount", legend="share", metric_labels={"value_type": "share"})
        project.dashboard.add_panel(line_plot_panel(title="share of signals that drifted", values=[share]), tab="Drift")
        for signal in comparison.signals:
            name = signal.signal.value
            value = PanelMetric(metric="ValueDrift", legend="adjusted p", metric_args={"column": name})
            project.dashboard.add_panel(line_plot_panel(title=name, values=[value]), tab="Signals")
        project.save()
    run = str(workspace.add_run(project.id, snapshot, include_data=False).id)
    runs = [str(item) for item in workspace.list_runs(project.id)]
    stored = Path(folder) / str(project.id) / "snapshots"
    oldest_first = sorted(runs, key=lambda item: (stored / f"{item}.json").stat().st_mtime_ns)
    for item in oldest_first[:-keep]:
        workspace.delete_run(project.id, item)
    return run


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
