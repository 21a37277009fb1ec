"""What holds for every test: its name is the same in each process, and a property is judged by what it says."""

import re
import time

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

_NEAR_S = 86_400


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a name that holds the time of day or an address in memory: processes that share tests must agree."""
    passing = [item.nodeid for item in items if _passes(item.nodeid.partition("[")[2])]
    if passing:
        raise pytest.UsageError(
            f"these tests have another name in each process: {passing[:3]}; "
            "give the case a constant, or name it by pytest.param(..., id='what it is')"
        )


def _passes(case: str) -> bool:
    now = time.time()
    seconds = (float(found) for found in re.findall(r"(?<!\d)\d{10}(?:\.\d+)?(?!\d)", case))
    return "object at 0x" in case or any(abs(moment - now) < _NEAR_S for moment in seconds)
