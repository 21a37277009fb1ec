"""Rows out of the files that people have: text with any delimiter, JSON, Parquet, Excel, and these packed.

The libraries that read Parquet, Excel and zstd are loaded when such a file comes.
"""

from perennial.continual.preparation.tables.columns import Role
from perennial.continual.preparation.tables.reader import STANDARD_INPUT, read_table
from perennial.continual.preparation.tables.table import FileReading, Table, TableRow, quoted, refuse_rows

__all__ = ["STANDARD_INPUT", "FileReading", "Role", "Table", "TableRow", "quoted", "read_table", "refuse_rows"]
