"""The tutorial's commands, in their order, in one workspace: what a new user types is what is run here."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```bash\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_SMALL = """report_s = 600
[models.intent.learning]
encoder = "{encoder}"
max_length = 32
[models.intent.learning.params]
features = 256
lexical = 256
"""


def commands() -> list[str]:
    return _BLOCK.findall(PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def bare(tmp_path: Path, tiny_encoder: Path) -> E2eWorkspace:
    """Settings that a shared machine needs, ports and a small encoder; the tutorial makes everything else."""
    return E2eWorkspace.written(tmp_path, SERVED_TOML + _SMALL, encoder=tiny_encoder)


class Reader:
    """Types the commands as a user does, and waits where the page says that something takes a moment."""

    def __init__(self, workspace: E2eWorkspace, stack: ExitStack) -> None:
        self._workspace, self._stack = workspace, stack
        self._cycle_seen = False
        self._before: dict[str, tuple[Callable[[], bool], str]] = {
            "perennial drift watch": (lambda: self._drift() == "alert", "an alert"),
            "perennial rollout show": (self._waits_for_a_word, "a challenger that waits"),
            'perennial predict "why is the new fee charge"': (lambda: self._champion() == 2, "version 2"),
        }

    def _drift(self) -> str:
        return str((self._workspace.status()["drift"] or {}).get("state"))

    def _waits_for_a_word(self) -> bool:
        """A busy machine may have the gate refuse a challenger as slow; `perennial retrain` asks for another one."""
        cycle = self._workspace.status()["cycle"]
        if cycle is None and self._cycle_seen:
            self.types("perennial retrain\n")
        self._cycle_seen = cycle is not None
        return cycle is not None and cycle["state"] == "approval"

    def _champion(self) -> int:
        return int(self._workspace.status()["champion"])

    def types(self, block: str) -> str:
        if block == "perennial serve\n":
            self._stack.enter_context(self._workspace.serving())
            return ""
        for first, (done, what) in self._before.items():
            if block.startswith(first):
                wait_for(done, 240, what)
        block = block.replace("localhost:8001", f"127.0.0.1:{self._workspace.grpc}")
        programs = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self._workspace.folder,
            env=os.environ | programs,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block}ended with {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout


def test_every_command_of_the_tutorial_works_in_its_order(bare: E2eWorkspace) -> None:
    with ExitStack() as stack:
        reader = Reader(bare, stack)
        told = {block: reader.types(block) for block in commands()}
        status = bare.status()
    assert (status["champion"], status["previous"]) == (2, 1)
    assert '"label": "fees"' in told['perennial predict "why is the new fee charge"\nperennial model list\n']
    assert (bare.folder / "perennial.toml").read_text().count("[models.intent.cycle]") == 1
    assert "a tutorial" in next(text for block, text in told.items() if block.startswith("perennial model rollback"))
