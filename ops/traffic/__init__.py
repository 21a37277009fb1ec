"""The traffic log: every answered request, flushed before its answer leaves, read exactly once.

    live/     Arrow streams being appended, one a writer
    sealed/   rotated streams, named by the times that they cover
    parquet/  compacted streams, named likewise; any Parquet reader may open them
    lost/     how many rows each writing process holds in memory, and lost

Needs pyarrow, numpy and the standard library alone, so that the server process can import it.
"""

from perennial.ops.traffic.columns import FIXED_COLUMNS, columns_of, schema
from perennial.ops.traffic.log import TrafficLog
from perennial.ops.traffic.lost_rows import LostRows, LostRowsCount
from perennial.ops.traffic.writer import TrafficWriter

__all__ = [
    "FIXED_COLUMNS",
    "LostRows",
    "LostRowsCount",
    "TrafficLog",
    "TrafficWriter",
    "columns_of",
    "schema",
]
