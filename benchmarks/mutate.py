"""Mutation test of the decision code: small mistakes are put in, one at a time, and the nearest tests must fail.

`make mutate` takes a seeded sample of each module's mutants (`--all` takes every one), runs the tests that reach the
changed lines in a forked process, quickest first, and writes `benchmarks/out/mutation.json`. The score is
killed / (all - equivalent), where `mutate_reasons.json` says of each equivalent one why no test could tell it apart.

Source of the method: DeMillo, Lipton and Sayward (1978). mutmut 3 changes only the bodies of functions that carry no
decorator, so that no default of a dataclass, no table and no property is ever changed; cosmic-ray starts a process
and imports torch and scipy anew for each mutant. This runner changes the tree of any statement, and forks.

Limits: a line that only the first of several tests reaches, because of a cache within the process, counts as reached
by that test alone.
"""

import argparse
import ast
import gc
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.mutants import Mutant, mutants, source_of
from benchmarks.mutate_child import Child, Trace, preload, read_trace, start_mutant, start_trace, wait_any
from benchmarks.mutate_tests import ROOT, modules, path_of, tests_of

__all__ = ["main"]

_REASONS = Path(__file__).parent / "mutate_reasons.json"
_PROGRESS = record.OUT / "mutation.progress.jsonl"
_TRACE_WALL_S = 1800.0
_START_CPU_S = 8.0  # pytest's own start, and room for noise
_MANY_TESTS = 400


class MutantStatus(StrEnum):
    """How a mutant ended."""

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One mutant and its status; `tests` reached it, `reason` says why it is equivalent."""

    mutant: Mutant
    status: MutantStatus
    tests: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to change, how many and how."""

    pattern: str
    sample: int | None
    seed: int
    jobs: int
    resume: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table, write the record, and return 1 when the score is under `--at-least`."""
    namespace = _parser().parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets must not differ between two runs
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.mutate", *(arguments or sys.argv[1:])])
    options = Options(
        pattern=namespace.module,
        sample=None if namespace.all else namespace.sample,
        seed=namespace.seed,
        jobs=namespace.jobs,
        resume=namespace.resume,
    )
    chosen = [name for name in modules() if fnmatchcase(name, options.pattern)]
    if not chosen:
        print(f"no module of the decision code matches {options.pattern!r}; known: {', '.join(modules())}")
        return 2
    if namespace.list:
        for mutant in (one for name in chosen for one in _sampled(name, options)):
            print(f"{path_of(mutant.module).relative_to(ROOT)}:{mutant.line} {mutant.key}")
        return 0
    outcomes = _run(chosen, options)
    results = _results(outcomes, options)
    _print_table(results)
    whole = set(chosen) == set(modules())
    print(record.write("mutation" if whole else "mutation_part", results))
    return int(namespace.at_least is not None and results["score"] < namespace.at_least)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutate", description="Mutation test of the decision code.")
    parser.add_argument("--module", default="*", metavar="PATTERN", help="only these modules, such as 'continual.*'")
    parser.add_argument("--all", action="store_true", help="every mutant instead of a sample")
    parser.add_argument("--sample", type=int, default=40, metavar="N", help="mutants of each module (default 40)")
    parser.add_argument("--seed", type=int, default=11, help="of the sample (default 11)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at once (default 1)")
    parser.add_argument("--resume", action="store_true", help="keep what earlier runs found about unchanged code")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    parser.add_argument("--at-least", type=float, metavar="SCORE", help="exit 1 when the score is lower")
    return parser


def _sampled(module: str, options: Options) -> list[Mutant]:
    found = mutants(module, path_of(module).read_text(encoding="utf-8"))
    if options.sample is None or len(found) <= options.sample:
        return found
    chosen = random.Random(f"{options.seed}:{module}").sample(found, options.sample)
    return sorted(chosen, key=lambda mutant: mutant.index)


def _run(chosen: Sequence[str], options: Options) -> list[Outcome]:
    reasons = {(one["module"], one["mutation"]): one["reason"] for one in _read_reasons()}
    progress = _Progress(options)
    outcomes: list[Outcome] = []
    groups: dict[tuple[str, ...], list[str]] = {}
    for module in chosen:
        groups.setdefault(tests_of(module), []).append(module)
    preload()
    gc.freeze()
    for tests, members in groups.items():
        open_mutants = []
        for mutant in (one for module in members for one in _sampled(module, options)):
            known = progress.known(mutant, tests)
            if (mutant.module, mutant.key) in reasons:
                reason = reasons[mutant.module, mutant.key]
                outcomes.append(Outcome(mutant=mutant, status=MutantStatus.EQUIVALENT, tests=0, reason=reason))
            elif known is not None:
                outcomes.append(Outcome(mutant=mutant, status=known[0], tests=known[1]))
            else:
                open_mutants.append(mutant)
        if open_mutants:
            traces = _traces(members, tests)
            for outcome in _outcomes(open_mutants, traces, options.jobs):
                progress.note(outcome, tests)
                outcomes.append(outcome)
                _print_survivor(outcome)
    order = {module: place for place, module in enumerate(chosen)}
    return sorted(outcomes, key=lambda one: (order[one.mutant.module], one.mutant.index))


def _read_reasons() -> list[dict[str, str]]:
    read: list[dict[str, str]] = json.loads(_REASONS.read_text(encoding="utf-8"))
    return read


def _traces(members: Sequence[str], tests: tuple[str, ...]) -> dict[str, Trace]:
    """Run the tests on the code as it is.

    Raises:
        SystemExit: a test fails there, so that no mutant could be judged.
    """
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        answer = Path(folder) / "trace.json"
        child, status = wait_any([start_trace(members, tests, answer, wall_s=_TRACE_WALL_S)])
        if status != 0:
            print(child.output.read_text(encoding="utf-8", errors="replace")[-4000:])
            raise SystemExit(f"the tests {' '.join(tests)} fail on the code as it is; mend them first")
        return read_trace(answer)


def _outcomes(found: Sequence[Mutant], traces: dict[str, Trace], jobs: int) -> Iterator[Outcome]:
    running: dict[int, tuple[Child, Mutant, int]] = {}
    waiting = list(reversed(found))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            reached = _reaching(mutant, traces)
            if not reached:
                yield Outcome(mutant=mutant, status=MutantStatus.SURVIVED, tests=0)
                continue
            source = path_of(mutant.module).read_text(encoding="utf-8")
            tree: ast.Module = source_of(mutant, source)
            cpu_s = _START_CPU_S + 4 * sum(traces[test].cpu_s for test in reached)
            child = start_mutant(mutant.module, tree, reached, cpu_s=cpu_s, wall_s=60 + 20 * cpu_s)
            running[child.pid] = (child, mutant, len(reached))
        if running:
            ended, exit_status = wait_any([child for child, _, _ in running.values()])
            _, mutant, count = running.pop(ended.pid)
            ended.folder.cleanup()
            yield Outcome(
                mutant=mutant, status=MutantStatus.SURVIVED if exit_status == 0 else MutantStatus.KILLED, tests=count
            )


def _reaching(mutant: Mutant, traces: dict[str, Trace]) -> list[str]:
    """The tests that run the changed statement, quickest first; all of them where it runs at import."""
    lines = set(range(mutant.covers[0], mutant.covers[1] + 1))
    reached = [
        name
        for name, trace in traces.items()
        if mutant.at_import or not lines.isdisjoint(trace.lines.get(mutant.module, frozenset()))
    ]
    return sorted(reached, key=lambda name: (round(traces[name].cpu_s, 1), name))[:_MANY_TESTS]


class _Progress:
    """Outcomes noted as they come, so that an interrupted run can go on and the next one asks only what changed."""

    def __init__(self, options: Options) -> None:
        self._known: dict[str, dict[str, Any]] = {}
        self._digests: dict[tuple[str, ...], str] = {}
        if options.resume and _PROGRESS.exists():
            for line in _PROGRESS.read_text(encoding="utf-8").splitlines():
                noted = json.loads(line)
                self._known[noted["key"]] = noted

    def known(self, mutant: Mutant, tests: tuple[str, ...]) -> tuple[MutantStatus, int] | None:
        """A kill counts while the module is unchanged; a survival only while its tests are unchanged too."""
        noted = self._known.get(f"{mutant.module} {mutant.key}")
        if noted is None or noted["source"] != self._digest((str(path_of(mutant.module)),)):
            return None
        if noted["fate"] == MutantStatus.SURVIVED and noted["tests_digest"] != self._digest(tests):
            return None
        return MutantStatus(noted["fate"]), noted["tests"]

    def note(self, outcome: Outcome, tests: tuple[str, ...]) -> None:
        mutant = outcome.mutant
        noted = {
            "key": f"{mutant.module} {mutant.key}",
            "source": self._digest((str(path_of(mutant.module)),)),
            "tests_digest": self._digest(tests),
            "fate": outcome.status,
            "tests": outcome.tests,
        }
        _PROGRESS.parent.mkdir(parents=True, exist_ok=True)
        with _PROGRESS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(noted) + "\n")

    def _digest(self, arguments: tuple[str, ...]) -> str:
        if arguments not in self._digests:
            total = hashlib.sha256()
            for argument in arguments:
                path = ROOT / argument.split("::")[0]
                files = sorted(path.rglob("*.py")) if path.is_dir() else [path] * path.is_file()
                for file in files:
                    total.update(file.read_bytes())
            self._digests[arguments] = total.hexdigest()[:16]
        return self._digests[arguments]


def _results(outcomes: Sequence[Outcome], options: Options) -> dict[str, Any]:
    return {
        "pattern": options.pattern,
        "sample_of_each_module": options.sample,
        "seed": options.seed,
        **_counts(outcomes),
        "by_module": [
            {"module": module, **_counts([one for one in outcomes if one.mutant.module == module])}
            for module in dict.fromkeys(one.mutant.module for one in outcomes)
        ],
        "survivors": [_listed(one) for one in outcomes if one.status is MutantStatus.SURVIVED],
        "equivalents": [
            _listed(one) | {"reason": one.reason} for one in outcomes if one.status is MutantStatus.EQUIVALENT
        ],
    }


def _counts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = {status.value: sum(one.status is status for one in outcomes) for status in MutantStatus}
    judged = counts["killed"] + counts["survived"]
    return {"score": round(counts["killed"] / judged, 4) if judged else 1.0, "mutants": len(outcomes), **counts}


def _listed(outcome: Outcome) -> dict[str, Any]:
    mutant = outcome.mutant
    return {"module": mutant.module, "line": mutant.line, "mutation": mutant.key, "tests": outcome.tests}


def _print_survivor(outcome: Outcome) -> None:
    if outcome.status is MutantStatus.SURVIVED:
        mutant = outcome.mutant
        print(f"survived {path_of(mutant.module).relative_to(ROOT)}:{mutant.line} [{outcome.tests} tests] {mutant.key}")
        sys.stdout.flush()


def _print_table(results: dict[str, Any]) -> None:
    width = max(len(row["module"]) for row in results["by_module"])
    print(f"{'module':<{width}}  score  mutants  killed  survived  equivalent")
    for row in [*results["by_module"], {"module": "all", **results}]:
        print(
            f"{row['module']:<{width}}  {row['score']:5.3f}  {row['mutants']:7}  {row['killed']:6}  "
            f"{row['survived']:8}  {row['equivalent']:10}"
        )


if __name__ == "__main__":
    sys.exit(main())
