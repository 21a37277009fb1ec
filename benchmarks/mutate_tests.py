"""Which modules decide something, and which tests stand nearest to each: the map that `benchmarks.mutate` follows."""

from fnmatch import fnmatchcase
from pathlib import Path

__all__ = ["ROOT", "TESTS", "modules", "path_of", "tests_of"]

ROOT = Path(__file__).resolve().parent.parent

TESTS: dict[str, tuple[str, ...]] = {
    "perennial.continual.gate": ("tests/unit/test_gate.py", "perennial/continual/gate.py"),
    "perennial.continual.cycle.transitions": ("tests/unit/test_cycle.py", "perennial/continual/cycle"),
    "perennial.continual.cycle.events": ("tests/unit/test_cycle.py", "perennial/continual/cycle"),
    "perennial.continual.rollout.*": ("tests/unit/rollout", "perennial/continual/rollout"),
    "perennial.continual.drift.statistics.*": (
        "tests/unit/drift/test_statistics.py", "tests/unit/drift/test_statistics_exact.py",
        "perennial/continual/drift/statistics",
    ),
    "perennial.continual.drift.accuracy": (
        "tests/unit/drift/test_drift_accuracy.py", "tests/unit/drift/test_drift_limits.py",
        "perennial/continual/drift/accuracy.py",
    ),
    "perennial.continual.drift.explain": (
        "tests/unit/drift/test_drift_explain.py", "tests/unit/drift/test_drift_words.py",
        "perennial/continual/drift/explain.py",
    ),
    "perennial.continual.drift.*": (
        "tests/unit/drift/test_drift_compare.py", "tests/unit/drift/test_drift_monitor.py",
        "tests/unit/drift/test_drift_limits.py",
        "perennial/continual/drift/compare.py", "perennial/continual/drift/monitor.py",
        "perennial/continual/drift/reference.py", "perennial/continual/drift/sequential.py",
        "perennial/continual/drift/settings.py",
        "perennial/continual/drift/window.py",
    ),
    "perennial.continual.replay.*": ("tests/unit/replay", "perennial/continual/replay"),
    "perennial.continual.policy.*": ("tests/unit/policy", "perennial/continual/policy"),
    "perennial.exporters.parity": ("tests/unit/exporters/test_parity.py",),
    "perennial.exporters.bundle": ("tests/unit/exporters/test_bundle.py",),
    "perennial.exporters.weight_swap": ("tests/unit/exporters/test_weight_swap.py",),
    "perennial.exporters.golden": ("tests/unit/exporters/test_golden.py",),
    "perennial.ops.serving.router.router": ("tests/unit/serving/router",),
    "perennial.ops.serving.router.admission": ("tests/unit/serving/router/test_admission.py",),
    "perennial.ops.serving.hold": ("tests/unit/serving/router/test_admission.py",),
    "perennial.ops.serving.router.answers": ("tests/unit/serving/router",),
    "perennial.ops.serving.router.version_guard": ("tests/unit/serving/router",),
    "perennial.ops.serving.router.route": ("tests/unit/serving/router",),
    "perennial.ops.ledger.feedback": (
        "tests/contract/test_ledger.py", "tests/contract/test_label_times.py",
        "tests/contract/test_ledger_labels.py", "-k", "sqlite",
    ),
    "perennial.ops.ledger.versions": (
        "tests/contract/test_ledger.py", "tests/contract/test_ledger_routes.py", "-k", "sqlite",
    ),
    "perennial.ops.serving.reconciler": ("tests/unit/serving/test_reconciler.py",),
    "perennial.ops.scheduling.leader": (
        "tests/component/test_leader.py", "tests/unit/scheduling/test_leader_steps.py", "-k", "not postgresql",
    ),
    "perennial.ops.scheduling.scheduler": (
        "tests/unit/scheduling/test_scheduler_beats.py", "tests/component/test_scheduler.py",
        "-k", "not postgresql and not leaders_are_killed",
    ),
    "perennial.ops.scheduling.*": ("tests/unit/scheduling",),
}  # fmt: skip
"""Arguments of pytest for each module or family of modules; files, folders and selections as pytest takes them."""

# These render figures that others decide on.
_NO_DECISIONS = frozenset({"perennial.continual.drift.evidently_report", "perennial.continual.drift.page_text"})


def modules() -> list[str]:
    """Return the modules of the decision code, in the order of the map."""
    found: list[str] = []
    for pattern in TESTS:
        if not pattern.endswith(".*"):
            found.append(pattern)
            continue
        folder = ROOT.joinpath(*pattern[:-2].split("."))
        names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(folder.rglob("*.py")))
        found += [name for name in names if not name.endswith("__init__") and name not in _NO_DECISIONS]
    return list(dict.fromkeys(found))  # a family of its own stands before the larger one


def tests_of(module: str) -> tuple[str, ...]:
    """Return pytest's arguments for the tests nearest to the module."""
    return next(tests for pattern, tests in TESTS.items() if fnmatchcase(module, pattern))


def path_of(module: str) -> Path:
    """Return the module's source file."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")
