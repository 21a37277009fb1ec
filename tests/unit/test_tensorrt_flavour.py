"""Versions are compared within a flavour, what a flavour cannot do is refused, and unproven plans never serve."""

import json
from dataclasses import replace

import pytest

from perennial.continual.errors import BundleRejected, ConfigurationError, DependencyUnreachable, PerennialError
from perennial.exporters.bundle import Precision
from perennial.exporters.tensorrt import BuildOptions, Flavour, Machine, PlanRecord, Portability, Refit
from perennial.exporters.tensorrt.flavour import speak
from perennial.exporters.tensorrt.machine import check_loadable, check_supported
from perennial.exporters.tensorrt.options_check import settle_options
from tests.doubles.tensorrt_double import install
from tests.doubles.tensorrt_listing import RTX, VERSIONS

FIXED = BuildOptions(precision=Precision.FP16, refit=Refit.NONE)
TENSORRT = Machine(gpu="NVIDIA H100", capability="9.0", cuda="12.8", tensorrt="11.4.0.106")
WITH_RTX = Machine(gpu="NVIDIA L40S", capability="8.9", cuda="12.8", tensorrt=RTX, flavour=Flavour.RTX)
BUILDER = replace(WITH_RTX, gpu="", capability="", cuda="")


def _record(machine: Machine, options: BuildOptions, *, probed: bool = True) -> PlanRecord:
    return PlanRecord(
        machine=machine, options=options, graph="g", stripped=False, path="build", seconds=1.0, probed=probed
    )


@pytest.mark.parametrize(
    ("flavour", "version", "works"),
    [
        (Flavour.TENSORRT, "10.12.0.36", True),
        (Flavour.TENSORRT, "10.11.0.33", False),
        (Flavour.TENSORRT, "12.0.0.1", False),
        (Flavour.TENSORRT, "1.7.1.116", False),
        (Flavour.RTX, "1.7.1.116", True),
        (Flavour.RTX, "1.6.0.1", False),
        (Flavour.RTX, "2.0.0.1", False),
        (Flavour.RTX, "10.16.1.11", False),
    ],
)
def test_each_flavour_has_its_own_range_of_versions(flavour: Flavour, version: str, works: bool) -> None:
    machine = replace(TENSORRT, flavour=flavour, tensorrt=version)
    if works:
        check_supported(machine)
        return
    with pytest.raises(DependencyUnreachable, match=f"{flavour.package}>=") as caught:
        check_supported(machine)
    assert version in str(caught.value)


def test_targets_are_the_gpu_here_unless_they_are_stated() -> None:
    assert settle_options(FIXED, WITH_RTX).targets == ("8.9",)
    stated = replace(FIXED, targets=("8.6", "12.0"))
    assert settle_options(stated, WITH_RTX) == settle_options(stated, BUILDER) == stated
    assert WITH_RTX.runs(settle_options(FIXED, WITH_RTX))
    assert not WITH_RTX.runs(stated)
    assert not BUILDER.runs(stated)


@pytest.mark.parametrize(
    ("machine", "change", "word"),
    [
        (TENSORRT, {"targets": ("8.9",)}, "leave targets empty"),
        (WITH_RTX, {"portability": Portability.AMPERE_PLUS}, "ampere_plus"),
        (WITH_RTX, {"portability": Portability.SAME_CAPABILITY}, "same_capability"),
        (WITH_RTX, {"portability": Portability.NEWER_TENSORRT}, "newer_tensorrt"),
        (WITH_RTX, {"targets": ("8.9", "9.0")}, r"no target \['9\.0'\]"),
        (BUILDER, {}, "no GPU here"),
    ],
)
def test_option_that_a_flavour_does_not_have_is_refused(machine: Machine, change: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        settle_options(replace(FIXED, **change), machine)  # type: ignore[arg-type]  # each case is one option's value


def test_what_needs_a_gpu_while_it_is_built_is_unreachable_without_one() -> None:
    for refit in (Refit.WEIGHTS, Refit.STRIPPED):
        with pytest.raises(DependencyUnreachable, match="driver"):
            settle_options(replace(FIXED, refit=refit, targets=("8.9",)), BUILDER)
    hopper = replace(WITH_RTX, gpu="NVIDIA H100", capability="9.0")
    with pytest.raises(DependencyUnreachable, match=r"NVIDIA H100 \(compute capability 9\.0\)"):
        settle_options(FIXED, hopper)


def test_plan_loads_only_in_its_own_flavour_version_and_targets() -> None:
    record = _record(WITH_RTX, replace(FIXED, targets=("8.9", "12.0")))
    check_loadable(record, WITH_RTX)
    check_loadable(record, replace(WITH_RTX, gpu="NVIDIA RTX 5090", capability="12.0"))  # any card of a target
    for machine, word in (
        (replace(WITH_RTX, capability="8.6"), r"8\.9.*8\.6"),
        (replace(WITH_RTX, tensorrt="1.7.2.1"), r"1\.7\.2\.1"),
        (replace(TENSORRT, gpu="NVIDIA L40S", capability="8.9"), r"perennial-serving\[tensorrt-rtx\]"),
    ):
        with pytest.raises(BundleRejected, match=word):
            check_loadable(record, machine)
    with pytest.raises(BundleRejected, match="built by TensorRT, here is TensorRT for RTX"):
        check_loadable(_record(TENSORRT, FIXED), replace(TENSORRT, flavour=Flavour.RTX))


def test_plan_that_no_gpu_has_run_is_refused_and_says_so_on_disk() -> None:
    record = _record(BUILDER, replace(FIXED, targets=("8.9",)), probed=False)
    assert PlanRecord.from_json(record.to_json()) == record
    with pytest.raises(BundleRejected, match="prove_plan"):
        check_loadable(record, WITH_RTX)


def test_record_from_before_there_were_two_flavours_is_read_as_tensorrt_and_probed() -> None:
    raw = json.loads(_record(TENSORRT, FIXED).to_json())
    del raw["probed"], raw["machine"]["flavour"], raw["options"]["targets"]
    assert PlanRecord.from_json(json.dumps(raw)) == _record(TENSORRT, FIXED)


def test_process_speaks_to_one_flavour_only() -> None:
    with pytest.MonkeyPatch.context() as patch:
        install(patch, RTX)
        speak(Flavour.RTX)
        import tensorrt as spoken

        assert spoken.__version__ == RTX
        with pytest.raises(PerennialError, match="process of its own"):
            speak(Flavour.TENSORRT)
        install(patch, VERSIONS[0])
        speak(Flavour.TENSORRT)
        with pytest.raises(PerennialError, match="process of its own"):
            speak(Flavour.RTX)
