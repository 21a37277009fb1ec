"""A careful rollout as an operator sees it, at the console and the command line; and an abort at any time."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.component.console_screen import Screen, chromium, picture
from tests.e2e.conftest import requests_about
from tests.e2e.java_example import MISSING, compiled
from tests.e2e.test_loop import KNOWN, Traffic
from tests.e2e.workspace import E2eWorkspace, make_workspace, wait_for, write_csv

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.alone]
CLIENT = Path(__file__).resolve().parents[2] / "client"
_CYCLE = """
shadow = true
shadow_rows = 100
shadow_rows_per_s = 400
approval = "operator"
canary_shares = [0.3, 0.6]
canary_step_s = 2.0
canary_limit_s = 60.0
probation_s = 2.0
latency_ratio = 10.0
margin_points = 10.0
"""


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Iterator[E2eWorkspace]:
    made = make_workspace(tmp_path_factory.mktemp("careful"), tiny_encoder, cycle=_CYCLE)
    rows = requests_about([*KNOWN, "fees"], 400, seed=1)
    made.cli("init", "--data", str(write_csv(made.folder / "seed.csv", rows)))
    with made.serving():
        yield made


def _rollout(workspace: E2eWorkspace) -> dict[str, Any]:
    rollout: dict[str, Any] = workspace.cli("rollout", "show", "--json")
    return rollout


def _state(workspace: E2eWorkspace) -> str | None:
    cycle = workspace.status()["cycle"]
    return None if cycle is None else cycle["state"]


def test_an_afternoon_at_the_console_goes_through_shadow_approval_canary_probation_and_back(
    careful: E2eWorkspace, tmp_path: Path
) -> None:
    with Traffic(careful).flowing() as traffic, chromium() as browser:
        wait_for(lambda: len(traffic.answers) > 150, 60, "traffic to replay")
        desk = Screen(browser, f"http://127.0.0.1:{careful.api}", locale="en-US", width=1280)
        desk.go("/console/models/intent")
        desk.send("retrain", "a look at what the labels bring")
        wait_for(lambda: _state(careful) == "approval", 120, "the challenger to wait for its approval")
        shadow = careful.cli("shadow", "report", "--json")
        assert shadow["version"] == 2
        assert shadow["rows"] == 100
        assert shadow["disagreement_share"]["low"] <= shadow["disagreement_share"]["mean"]
        assert {answer.version for _, answer in traffic.answers} == {1}
        plan = careful.cli("rollout", "approve", "--dry-run")
        assert (plan["now"], plan["then"]) == ("approval", "canary")
        assert _state(careful) == "approval"
        desk.go("/console")
        picture(desk.page, tmp_path, "overview.png", high=480)  # the README's: PERENNIAL_PICTURES=docs/pictures
        with desk.page.expect_navigation():
            desk.page.get_by_role("link", name="waits for a person to approve version 2").click()
        desk.check()
        picture(desk.page, tmp_path, "afternoon-approval.png")
        desk.send("commands/approve", "the shadow looks right")
        wait_for(lambda: careful.status()["share"] > 0, 30, "a live share")
        traffic.labels, seen = False, len(traffic.answers)
        wait_for(lambda: len(traffic.answers) > seen + 60, 30, "texts that nobody labels")
        _label(desk, 30)
        traffic.labels = True
        desk.check()
        picture(desk.page, tmp_path, "afternoon-labels.png")
        wait_for(lambda: _state(careful) is None, 120, "the end of the rollout")
        assert traffic.failed == 0
        assert {answer.version for _, answer in traffic.answers} == {1, 2}
        facts = _rollout(careful)
        assert facts["route"]["champion"] == 2
        states = [line.split(" -> ")[-1] for line in facts["cycle"]["story"]]
        assert states == [
            *("training", "exporting", "judging", "publishing", "shadow", "approval"),
            *("canary", "canary", "promoting", "probation", "promoted"),
        ]
        assert facts["live"]["phase"] == "probation"
        assert facts["live"]["gains"] + facts["live"]["losses"] + facts["live"]["ties"] > 0
        phone = Screen(browser, f"http://127.0.0.1:{careful.api}", locale="zh-CN", width=390)
        phone.go("/console/models/intent/drift")
        with phone.page.expect_navigation():
            phone.page.locator(".windows a").first.click()
        phone.check()
        picture(phone.page, tmp_path, "afternoon-drift-phone.png", whole=True)
        phone.go("/console/models/intent")
        phone.send("rollback", "今天下午的投诉")
        assert careful.status()["champion"] == 1
        phone.check()
        picture(phone.page, tmp_path, "afternoon-back-phone.png", whole=True)
    assert careful.cli("audit", "verify")["intact"]
    entries = careful.cli("audit", "show", "--json", "--limit", "200")
    assert {"cycle.opened", "command.approve", "cycle.closed"} <= {entry["action"] for entry in entries}
    said = str([entry["detail"] for entry in entries])
    assert "the shadow looks right" in said
    assert "今天下午的投诉" in said


def _label(desk: Screen, texts: int) -> None:
    """Label so many texts of the queue by keyboard, with the class that the model answered or the first one."""
    desk.go("/console/models/intent/labels")
    if desk.page.locator("form [name=request]").count() == 0:
        with desk.page.expect_navigation():
            desk.page.keyboard.press("m")
    seen = set()
    for _ in range(texts):
        seen.add(desk.page.locator("form [name=request]").first.get_attribute("value"))
        with desk.page.expect_navigation():
            desk.page.keyboard.press("1")
    assert len(seen) == texts


def test_an_operator_aborts_while_the_training_is_at_work(careful: E2eWorkspace) -> None:
    champion = careful.status()["champion"]
    assert "no cycle under way" in careful.cli("rollout", "abort", check=4)
    careful.cli("retrain")
    wait_for(lambda: _state(careful) == "training", 30, "a training")
    assert careful.cli("rollout", "abort")["outcome"] == "done"
    wait_for(lambda: _state(careful) is None, 60, "the end of the cycle")
    cycle = _rollout(careful)["cycle"]
    assert cycle["outcome"] == "aborted"
    assert "aborted by" in cycle["note"]
    assert careful.status()["champion"] == champion
    assert set(careful.status()["resident"]) >= {1, champion}


def test_a_paused_cycle_waits(careful: E2eWorkspace) -> None:
    assert careful.cli("rollout", "pause")["outcome"] == "done"
    careful.cli("retrain")
    wait_for(lambda: _state(careful) == "training", 30, "a cycle")
    time.sleep(2.0)
    assert _state(careful) == "training"
    assert _rollout(careful)["paused"]
    assert careful.cli("rollout", "abort")["outcome"] == "done"
    assert careful.cli("rollout", "resume")["outcome"] == "done"
    wait_for(lambda: _state(careful) is None, 30, "the end of the cycle")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((sys.executable, "ask.py", "my card is lost", "card"), "100 answers to 100 texts\n1 new label\nversion "),
        ((sys.executable, "ask_async.py", "my card is lost", "the loan"), "card "),
        (("bash", "ask.sh", "my card is lost", "card"), '"new":1,'),
        (("node", "ask.mjs", "my card is lost", "card"), "1 new label"),
    ],
    ids=lambda command: command[1] if isinstance(command, tuple) else "",
)
def test_the_examples_of_the_client_run(careful: E2eWorkspace, command: tuple[str, ...], said: str) -> None:
    places = {"GRPC": f"127.0.0.1:{careful.grpc}"}
    places |= {"HTTP": f"http://127.0.0.1:{careful.http}", "API": f"http://127.0.0.1:{careful.api}"}
    told = {f"PERENNIAL_{name}": place for name, place in places.items()} | {"PYTHONPATH": str(CLIENT)}
    done = subprocess.run(
        command, cwd=CLIENT / "examples", env=os.environ | told, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}; docs/client.md says when it was run")
def test_the_example_in_java_is_compiled_from_the_protobuf_and_runs(careful: E2eWorkspace, tmp_path: Path) -> None:
    command = (*compiled(CLIENT / "examples" / "Ask.java", tmp_path), "my card is lost")
    places = {"PERENNIAL_GRPC": f"127.0.0.1:{careful.grpc}"}
    done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"LABEL card\nPREDICTION_ID [0-9a-f]{32}\n", done.stdout)
