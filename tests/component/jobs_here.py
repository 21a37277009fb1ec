"""Jobs in the process of a test, which has loaded what they need: for tests of what is done with their results."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from inspect import signature
from io import StringIO

import pytest

from perennial.continual.jobs.process import JobResult

__all__ = ["run_here"]


def run_here(module: str, arguments: Sequence[str], **_: object) -> JobResult:
    """In place of `run_job`: what the job says of its progress is dropped."""
    main = import_module(module).main
    with redirect_stdout(StringIO()), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        code = main(list(arguments)) if signature(main).parameters else main()
    return JobResult(exit_code=code, cancelled=False, timed_out=False, tail="")
