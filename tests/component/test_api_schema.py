"""The control API does what its OpenAPI document says, for a thousand generated requests and more."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.component.api_server import TOKENS, RunningApi, answering
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component
_CONFIG = Path(__file__).parent / "schemathesis.toml"
_EXAMPLES = 30
_LEAST_CASES = 1_000


def generated(api: RunningApi, folder: Path, *more: str) -> int:
    """The number of cases that schemathesis made, all of whose checks held."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG), "run"]
    command += [f"{api.url}/openapi.json", "--checks", "all", "--max-examples", str(_EXAMPLES), "--no-color"]
    command += ["--continue-on-failure", "--request-timeout", "20", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    told = done.stdout[done.stdout.find("FAILURES") :]
    assert done.returncode == 0, told[:6_000] + done.stderr[-2_000:]
    cases = re.search(r"([\d,]+) generated", done.stdout)
    assert cases is not None, done.stdout[-2_000:]
    return int(cases[1].replace(",", ""))


@pytest.mark.parametrize(("backend", "role"), list(zip(BACKENDS, (None, "operator"), strict=True)))
def test_every_answer_to_a_generated_request_is_a_documented_one(
    tmp_path: Path, backend: str, role: str | None
) -> None:
    """All checks: no 5xx, no undocumented status, type or body; wrong data and missing tokens are refused."""
    more = [] if role is None else ["--header", f"Authorization: Bearer {TOKENS[role]}"]
    with answering(tmp_path, tokens=role is not None, ledger_url=fresh_url(backend, tmp_path)) as api:
        assert generated(api, tmp_path, *more) >= _LEAST_CASES


@pytest.mark.parametrize("role", ["viewer", "labeller"])
def test_a_lower_role_is_told_so_and_never_more(tmp_path: Path, role: str) -> None:
    with answering(tmp_path, tokens=True) as api:
        header = {"Authorization": f"Bearer {TOKENS[role]}"}
        for path, item in api.app.openapi()["paths"].items():
            if not path.startswith("/v1"):
                continue
            for method in item:
                url = path.format(model="intent", kind="pause", label="card")
                status = api.ask(method, url, headers=header, json={} if method != "get" else None).status_code
                writes_labels = url in {"/v1/feedback", "/v1/models/intent/labels/queue"}
                allowed = role == "labeller" if writes_labels else method == "get"
                assert (status == 403) is not allowed, (method, url, status)
