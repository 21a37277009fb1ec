from pathlib import Path

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.ops.app.wiring import open_parts
from perennial.ops.serving.server.exposure import check_exposure
from perennial.ops.settings import load_settings

_WIDE = ["0.0.0.0", "0", "", "10.1.2.3", "192.168.0.1", "8.8.8.8", "128.0.0.1"]


@pytest.mark.parametrize("host", _WIDE)
def test_listening_beyond_loopback_needs_a_yes(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"without a password.*expose_unauthenticated_inference = true"):
        check_exposure(host, exposed=False)
    check_exposure(host, exposed=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost", "127.1", "2130706433"])
def test_loopback_needs_none(host: str) -> None:
    check_exposure(host, exposed=False)


@pytest.mark.parametrize("host", ["::", "::1", "[::]", "fe80::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("exposed", [True, False])
def test_version_six_addresses_are_not_served(host: str, exposed: bool) -> None:
    with pytest.raises(ConfigurationError, match="IPv6"):
        check_exposure(host, exposed=exposed)


def test_a_name_without_an_address_is_told() -> None:
    with pytest.raises(ConfigurationError, match="no address of this machine"):
        check_exposure("no such name", exposed=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "0"])
def test_nothing_is_opened_with_settings_that_listen_everywhere(tmp_path: Path, host: str) -> None:
    path = tmp_path / "perennial.toml"
    path.write_text(f'[triton]\nhost = "{host}"\n')
    assert load_settings(path).triton.host == host
    with pytest.raises(ConfigurationError, match="without a password"):
        open_parts(path, may_be_new=True)
