"""Options that cannot be wrong together, records that survive the disk, and refusals before TensorRT is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.errors import BundleRejected, ConfigurationError, DataError, DependencyUnreachable
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import (
    LONG_TEXT,
    SHORT_TEXT,
    BuildOptions,
    Machine,
    PlanRecord,
    Portability,
    Profile,
    Refit,
    build_plan,
    detect_machine,
    load_plan,
)
from perennial.exporters.tensorrt.machine import check_loadable, check_supported
from perennial.exporters.tensorrt.runtime import choose_profile
from perennial.exporters.tensorrt.timing import timing_cache_path

HERE = Machine(gpu="NVIDIA H100", capability="9.0", cuda="12.8", tensorrt="11.4.0.106")
RECORD = PlanRecord(machine=HERE, options=BuildOptions(), graph="ab", stripped=False, path="build", seconds=1.5)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"profiles": ()}, "at least one profile"),
        ({"profiles": (LONG_TEXT, SHORT_TEXT)}, "grow"),
        ({"optimisation_level": 0}, "optimisation_level"),
        ({"optimisation_level": 6}, "optimisation_level"),
        ({"workspace_bytes": 1}, "workspace_bytes"),
        ({"precision": Precision.INT8}, "full build"),
        ({"precision": Precision.FP8, "refit": Refit.STRIPPED}, "full build"),
        ({"portability": Portability.NEWER_TENSORRT}, "cannot refit"),
    ],
)
def test_options_that_contradict_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        replace(BuildOptions(), **change)


def test_no_option_asks_for_a_refit_with_identical_weights() -> None:
    assert [member.value for member in Refit] == ["none", "weights", "stripped"]


@pytest.mark.parametrize("wrong", [{"best_batch": 0}, {"best_batch": 65}, {"best_sequence": 513}])
def test_profile_optimum_lies_inside(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="optimum"):
        replace(LONG_TEXT, **wrong)


def test_record_survives_the_disk() -> None:
    record = replace(RECORD, layers={"MatMul": 6}, stripped=True)
    assert PlanRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "perennial.tensorrt/9"}', RECORD.to_json()[:-9]])
def test_damaged_record_is_refused(text: str) -> None:
    with pytest.raises(BundleRejected):
        PlanRecord.from_json(text)


def test_record_with_a_wrong_option_is_refused() -> None:
    with pytest.raises(BundleRejected, match="damaged"):
        PlanRecord.from_json(RECORD.to_json().replace('"optimisation_level": 3', '"optimisation_level": 9'))


@pytest.mark.parametrize("version", ["10.11.0.33", "9.3.0", "12.0.0.1"])
def test_unsupported_tensorrt_is_unreachable(version: str) -> None:
    with pytest.raises(DependencyUnreachable, match=version.replace(".", r"\.")) as caught:
        check_supported(replace(HERE, tensorrt=version))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("version", ["10.12.0.36", "10.16.1.11", "11.4.0.106"])
def test_supported_tensorrt_passes(version: str) -> None:
    machine = replace(HERE, tensorrt=version)
    check_supported(machine)
    assert machine.release >= (10, 12)


@pytest.mark.parametrize(
    ("portability", "change", "loads"),
    [
        (Portability.EXACT, {}, True),
        (Portability.EXACT, {"gpu": "NVIDIA H200"}, False),
        (Portability.EXACT, {"tensorrt": "11.4.1.2"}, False),
        (Portability.SAME_CAPABILITY, {"gpu": "NVIDIA H200"}, True),
        (Portability.SAME_CAPABILITY, {"gpu": "NVIDIA L4", "capability": "8.9"}, False),
        (Portability.AMPERE_PLUS, {"gpu": "NVIDIA L4", "capability": "8.9"}, True),
        (Portability.AMPERE_PLUS, {"gpu": "NVIDIA B200", "capability": "10.0"}, True),
        (Portability.AMPERE_PLUS, {"gpu": "NVIDIA T4", "capability": "7.5"}, False),
        (Portability.NEWER_TENSORRT, {"tensorrt": "11.5.0.1"}, True),
        (Portability.NEWER_TENSORRT, {"tensorrt": "10.16.1.11"}, False),
    ],
)
def test_plan_loads_only_where_its_portability_allows(
    portability: Portability, change: dict[str, str], loads: bool
) -> None:
    record = replace(RECORD, options=BuildOptions(refit=Refit.NONE, portability=portability))
    if loads:
        check_loadable(record, replace(HERE, **change))
        return
    with pytest.raises(BundleRejected, match="export"):
        check_loadable(record, replace(HERE, **change))


def test_timing_cache_has_a_file_for_each_machine_and_flag() -> None:
    base = BuildOptions()
    machines = [HERE, *(replace(HERE, **{name: "10.12"}) for name in ("gpu", "capability", "cuda", "tensorrt"))]
    options = [
        base,
        replace(base, precision=Precision.TF32),
        replace(base, refit=Refit.NONE),
        replace(base, portability=Portability.AMPERE_PLUS),
        replace(base, optimisation_level=4),
    ]
    paths = {timing_cache_path(Path("cache"), machine, base) for machine in machines}
    paths |= {timing_cache_path(Path("cache"), HERE, option) for option in options}
    assert len(paths) == len(machines) + len(options) - 1
    assert timing_cache_path(Path("cache"), HERE, replace(base, profiles=(SHORT_TEXT,))) in paths


@given(sequence=st.integers(min_value=1, max_value=40), ceilings=st.sets(st.integers(1, 40), min_size=1, max_size=4))
def test_the_tightest_profile_is_chosen(sequence: int, ceilings: set[int]) -> None:
    ordered = sorted(ceilings)
    profiles = tuple(Profile(best_batch=1, best_sequence=1, max_batch=2, max_sequence=size) for size in ordered)
    fitting = [size for size in ordered if size >= sequence]
    if fitting:
        assert profiles[choose_profile(profiles, sequence)].max_sequence == fitting[0]
        return
    with pytest.raises(DataError, match="truncate"):
        choose_profile(profiles, sequence)


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "tensorrt", raising=False)
    for call in (
        detect_machine,
        lambda: load_plan(tmp_path / "model.plan"),
        lambda: build_plan(tmp_path / "model.onnx", tmp_path / "model.plan", BuildOptions()),
    ):
        with pytest.raises(DependencyUnreachable, match="NVIDIA GPU") as caught:
            call()
        assert caught.value.exit_code == 3
        assert "\n" not in str(caught.value)
