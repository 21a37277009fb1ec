"""`python -m perennial.ops.making.proving_ahead CHAMPION THREADS`: an export that begins before there is a challenger.

At the lowest priority it verifies the champion's bundle, out of which the export's engine is made, and has the engine
repeat its known answers: what is opened here later is opened sooner. Then it waits to be told, and is `proving`.
"""

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from perennial.continual.errors import PerennialError
from perennial.continual.jobs.memory import available_mb
from perennial.continual.jobs.told import told_after
from perennial.exporters.build import engines_to_try
from perennial.exporters.bundle import read_manifest
from perennial.exporters.golden import GOLDEN, Golden
from perennial.exporters.runtime import load_engine
from perennial.ops.making import proving
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks import serving_side

__all__ = ["main"]

logger = logging.getLogger(__name__)
_FREE_MB = 1_000.0  # of memory, below which nothing is made ready


def main(arguments: Sequence[str]) -> int:
    """Make ready, wait for the order, and be the job."""
    champion, threads = arguments[:2]
    order = told_after(partial(_made_ready, Path(champion), int(threads)))
    return 0 if order is None else proving.main(order)


def _made_ready(champion: Path, threads: int) -> None:
    """Read, import and compile what the export will; whatever is wrong with the champion, the export itself says it."""
    free = available_mb()
    if free is not None and free < _FREE_MB:
        return
    try:
        engines_to_try()
        version = BundledVersion.around(load_engine(champion, threads=threads), champion, proved=True)
        if (champion / GOLDEN).is_file():
            Golden.read(champion).check(version.engine)
        version.answers([serving_side(read_manifest(champion).task).probe])
    except (PerennialError, OSError) as error:
        logger.warning("export.not_made_ready", extra={"error": str(error)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
