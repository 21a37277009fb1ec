"""Which model a stub process belongs to, by the command line that Triton gives it."""

import pytest

from perennial.ops.serving.server.stubs import _instance


def _words(instance: bytes) -> list[bytes]:
    return [
        b"/var/triton/backends/python/triton_python_backend_stub",
        b"/var/model_repository/intent_engine/1/model.py",
        b"triton_perennial_engine_backend_shm_region_f824b95c-bef4-4382-84e2-1d170c4d5afb",
        b"1048576",
        b"1048576",
        b"4004",
        b"/var/triton/backends/python",
        b"336",
        instance,
        b"/var/triton/backends/perennial_engine",
        b"",
    ]


@pytest.mark.parametrize("instance", ["intent_engine_0_0", "intent_0_1", "my-model_2_engine_0_12"])
def test_a_stub_is_known_by_its_instance(instance):
    assert _instance(_words(instance.encode())) == instance


def test_a_command_line_without_an_instance_names_none():
    assert _instance(_words(b"")) == ""
