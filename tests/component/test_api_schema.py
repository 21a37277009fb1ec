"""The control API does what its OpenAPI document says, for a thousand generated requests and more."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.api_server import TOKENS, RunningApi, answering, concrete_path
from tests.component.busy_model import make_busy
from tests.component.databases import BACKENDS, fresh_url

pytestmark = pytest.mark.component
_CONFIG = Path(__file__).parent / "schemathesis.toml"
_EXAMPLES = 7
_LEAST_CASES = 1_000


def generated(api: RunningApi, folder: Path, *more: str) -> int:
    """The number of cases that schemathesis made, all of whose checks held."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG), "run"]
    command += [f"{api.url}/openapi.json", "--checks", "all", "--max-examples", str(_EXAMPLES), "--no-color"]
    command += ["--continue-on-failure", "--request-timeout", "20", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    failures = done.stdout[done.stdout.find("FAILURES") :]
    assert done.returncode == 0, failures[:6_000] + done.stderr[-2_000:]
    cases = re.search(r"([\d,]+) generated", done.stdout)
    assert cases is not None, done.stdout[-2_000:]
    return int(cases[1].replace(",", ""))


@pytest.mark.parametrize(("backend", "role"), list(zip(BACKENDS, (None, "admin"), strict=True)))
def test_every_answer_to_a_generated_request_is_a_documented_one(
    tmp_path: Path, backend: str, role: str | None
) -> None:
    """All checks: no 5xx, no undocumented status, type or body; wrong data and missing tokens are refused."""
    more = [] if role is None else ["--header", f"Authorization: Bearer {TOKENS[role]}"]
    with answering(tmp_path, tokens=role is not None, ledger_url=fresh_url(backend, tmp_path)) as api:
        if role is None:
            make_busy(api.parts)  # so that answers have every field; with a role the model is as it was begun
        assert generated(api, tmp_path, *more) >= _LEAST_CASES


_ROLES = {None: -1, "unknown": -1, "viewer": 0, "labeller": 1, "operator": 2, "admin": 3}
_NEEDED = {
    "get /healthz": None,
    "get /metrics": "viewer",
    "get /v1/status": "viewer",
    "get /v1/who": "viewer",
    "get /v1/models": "viewer",
    "get /v1/models/{model}": "viewer",
    "get /v1/models/{model}/route": "viewer",
    "get /v1/models/{model}/versions": "viewer",
    "get /v1/models/{model}/versions/{version}": "viewer",
    "get /v1/models/{model}/versions/{version}/report": "viewer",
    "get /v1/models/{model}/classes": "viewer",
    "get /v1/models/{model}/rows": "labeller",
    "get /v1/models/{model}/labels/doubts": "labeller",
    "get /v1/models/{model}/items": "labeller",
    "post /v1/models/{model}/items/withdrawals": "operator",
    "get /v1/models/{model}/cycles": "viewer",
    "get /v1/models/{model}/cycles/{cycle}/steps": "viewer",
    "get /v1/models/{model}/inbox": "viewer",
    "get /v1/models/{model}/inbox/{number}": "viewer",
    "get /v1/models/{model}/drift": "viewer",
    "get /v1/models/{model}/rollout": "viewer",
    "get /v1/events": "viewer",
    "get /v1/audit": "viewer",
    "get /v1/jobs": "viewer",
    "get /v1/jobs/{job}/runs": "viewer",
    "post /v1/jobs/{job}/runs": "operator",
    "post /v1/jobs/{job}/pause": "operator",
    "post /v1/jobs/{job}/resume": "operator",
    "get /v1/settings": "operator",
    "get /v1/models/{model}/descriptions": "viewer",
    "get /v1/models/{model}/replies": "viewer",
    "get /v1/models/{model}/sending": "viewer",
    "get /v1/models/{model}/alerts": "viewer",
    "get /v1/models/{model}/alerts/{number}": "viewer",
    "get /v1/models/{model}/events": "viewer",
    "get /v1/models/{model}/labels/queue": "labeller",
    "post /v1/models/{model}/labels/queue": "labeller",
    "get /v1/models/{model}/proposals": "labeller",
    "post /v1/models/{model}/proposals": "labeller",
    "post /v1/models/{model}/proposals/{number}": "labeller",
    "post /v1/feedback": "labeller",
    "post /v1/models/{model}/rewrites": "labeller",
    "post /v1/models/{model}/speech": "labeller",
    "post /v1/models/{model}/feedback": "labeller",
    "post /v1/signals": "labeller",
    "post /v1/verdicts": "labeller",
    "post /v1/edits": "labeller",
    "post /v1/models/{model}/alerts/{number}": "labeller",
    "get /v1/models/{model}/users/{user}": "labeller",
    "post /v1/models/{model}/users/{user}/wishes": "labeller",
    "put /v1/models/{model}/descriptions/{label}": "operator",
    "delete /v1/models/{model}/descriptions/{label}": "operator",
    "post /v1/models/{model}/promote": "operator",
    "post /v1/models/{model}/rollback": "operator",
    "post /v1/models/{model}/retrain": "operator",
    "post /v1/models/{model}/commands/{kind}": "operator",
    "post /v1/erasures": "operator",
    "post /v1/models/{model}/replies": "operator",
    "patch /v1/models/{model}/replies/{reply}": "operator",
    "delete /v1/models/{model}/replies/{reply}": "operator",
    "post /v1/models/{model}/replies/{reply}/approve": "operator",
    "get /v1/accounts": "admin",
    "put /v1/accounts/{account}": "admin",
    "delete /v1/accounts/{account}": "admin",
    "post /v1/accounts/{account}/tokens": "admin",
    "delete /v1/accounts/{account}/tokens/{number}": "admin",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    with answering(tmp_path_factory.mktemp("guarded"), tokens=True) as api:
        yield api


def test_every_operation_says_who_may_use_it(guarded: RunningApi) -> None:
    found = {f"{method} {path}" for path, item in guarded.app.openapi()["paths"].items() for method in item}
    assert found - {"get /healthz/live", "get /healthz/ready"} == set(_NEEDED)


@pytest.mark.parametrize("role", _ROLES, ids=str)
def test_each_role_may_do_exactly_what_it_needs(guarded: RunningApi, role: str | None) -> None:
    """401 without a known token, 403 with one of too low a role, and never either with the right one."""
    header = {} if role is None else {"Authorization": f"Bearer {TOKENS.get(role, 'a-token-of-nobody')}"}
    for operation, needed in _NEEDED.items():
        method, path = operation.split(" ")
        url = concrete_path(path)
        body = {"key": "nobody", "dry_run": True} if "erasures" in path else {}
        status = guarded.ask(method, url, headers=header, json=None if method == "get" else body).status_code
        if needed is None or _ROLES[role] >= _ROLES[needed]:
            assert status not in {401, 403}, (operation, status)
        else:
            assert status == (401 if _ROLES[role] < 0 else 403), (operation, status)
