"""Text before it is learnt from: cleaned, compared, split, freed of personal data, read from files.

Only the standard library is loaded with it, so that the server process can import it.
"""

from perennial.continual.preparation.attributes import admit_attributes, check_attribute_names
from perennial.continual.preparation.entrance import (
    AdmittedText,
    admit_key,
    admit_label,
    admit_name,
    admit_note,
    admit_prediction_id,
    admit_text,
    admit_time,
    is_spelling_of,
    key_spellings,
    shown,
)
from perennial.continual.preparation.example import admit_example
from perennial.continual.preparation.labelled_file import LABEL, labelled_rows, read_labelled_file
from perennial.continual.preparation.labels import KnownLabels
from perennial.continual.preparation.personal import deidentify
from perennial.continual.preparation.tables import (
    STANDARD_INPUT,
    FileReading,
    Role,
    Table,
    quoted,
    read_table,
    refuse_rows,
)
from perennial.continual.preparation.text import (
    Contradiction,
    Deduplicated,
    clean,
    deduplicate,
    fold_width,
    normalise,
    row_hash,
    split_of,
)

__all__ = [
    "LABEL",
    "STANDARD_INPUT",
    "AdmittedText",
    "Contradiction",
    "Deduplicated",
    "FileReading",
    "KnownLabels",
    "Role",
    "Table",
    "admit_attributes",
    "admit_example",
    "admit_key",
    "admit_label",
    "admit_name",
    "admit_note",
    "admit_prediction_id",
    "admit_text",
    "admit_time",
    "check_attribute_names",
    "clean",
    "deduplicate",
    "deidentify",
    "fold_width",
    "is_spelling_of",
    "key_spellings",
    "labelled_rows",
    "normalise",
    "quoted",
    "read_labelled_file",
    "read_table",
    "refuse_rows",
    "row_hash",
    "shown",
    "split_of",
]
