"""Asking a server whether it lives: one that is slow is no dead one."""

import time
from pathlib import Path
from typing import Any

from perennial.ops.serving.control import TritonControl
from tests.unit.serving.one_triton import OneTriton


class _Slow(OneTriton):
    """Takes longer for each answer than a short try would wait."""

    def ServerLive(self, request: Any, context: Any) -> Any:
        time.sleep(1.3)
        return super().ServerLive(request, context)


def test_a_server_that_answers_slowly_is_found_alive(tmp_path: Path) -> None:
    server = _Slow(tmp_path, lambda: None)
    control = TritonControl(server.url)
    try:
        control.wait_live(60.0)
    finally:
        control.close()
        server.stop()
